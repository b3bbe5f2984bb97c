"""The real binary as tests see it: a process with a directory, an address and a root key.

It is ended by its own process id only. Started means that the one ready line has been read from its stdout.
"""

import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request

ACCESS_KEY = "cairn-root"
SECRET_KEY = "root-secret/with+signs="
READY_SECONDS = 30


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def binary():
    path = os.environ.get("CAIRN_BINARY")
    if not path or not os.path.exists(path):
        raise SystemExit("CAIRN_BINARY names no program: run this through `cargo xtask`")
    return path


def test_dir(name):
    """A fresh place for a test's files, on the same file system as cargo's target directory."""
    base = os.environ.get("CAIRN_TEST_DIR")
    if not base:
        raise SystemExit("CAIRN_TEST_DIR is not set: run this through `cargo xtask`")
    path = os.path.join(base, f"{name}-{os.getpid()}-{time.monotonic_ns()}")
    os.makedirs(path)
    return path


class Server:
    """`cairn server DIR`; `arguments` and `environment` go to it as they are."""

    def __init__(self, directory, arguments=(), environment=None, port=None, log=None, root_keys=True):
        self.directory = directory
        self.port = port or free_port()
        self.arguments = list(arguments)
        # Nothing of the caller's settings: CAIRN_PLANT alone is for the tests to hand on.
        mine = {k: v for k, v in os.environ.items() if k == "CAIRN_PLANT" or not k.startswith("CAIRN_")}
        self.environment = dict(mine, RUST_BACKTRACE="1", **(environment or {}))
        if root_keys:
            self.environment.update(CAIRN_ROOT_ACCESS_KEY=ACCESS_KEY, CAIRN_ROOT_SECRET_KEY=SECRET_KEY)
        self.log_path = log or directory.rstrip("/") + ".log"
        self.process = None
        self.ready_line = None
        self.stdout_lines = []

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def spawn(self):
        """Starts the process and does not wait until it is ready."""
        assert self.process is None, "started twice"
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [binary(), "server", self.directory, "--listen", f"127.0.0.1:{self.port}", *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=self.environment,
        )
        log.close()
        return self

    def start(self):
        self.spawn()
        self.stdout_lines = []
        ready = threading.Event()

        def read(stream):
            for line in stream:
                self.stdout_lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                ready.set()
            ready.set()

        reader = threading.Thread(target=read, args=(self.process.stdout,), daemon=True)
        reader.start()
        if not ready.wait(READY_SECONDS) or not self.stdout_lines:
            self.kill()
            raise AssertionError(f"not ready after {READY_SECONDS} s:\n{self.log_tail()}")
        self.ready_line = self.stdout_lines[0]
        return self

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL, by process id."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self._close()

    def stop(self, seconds=30):
        """SIGTERM; answers the exit code. Fails when it does not end in time."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM did not end it in {seconds} s:\n{self.log_tail()}") from None
        self._close()
        return code

    def _close(self):
        self.process.stdout.close()
        self.process = None

    def log_tail(self, lines=40):
        try:
            with open(self.log_path, "rb") as f:
                return b"\n".join(f.read().splitlines()[-lines:]).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def admin(self, path):
        """Status and text of an operator's page."""
        try:
            with urllib.request.urlopen(self.endpoint + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()


def hold_reclaim(directory):
    """Garbage stays, however little room the disk has that the tests run on."""
    held = subprocess.run([binary(), "reclaim", "hold", directory], capture_output=True, text=True, timeout=60)
    assert held.returncode == 0, held.stdout + held.stderr


def check(directory):
    """Runs `cairn check DIR`; answers exit code and output."""
    done = subprocess.run(
        [binary(), "check", directory], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr
