"""`cairn bench` against the program itself, and against servers that are wrong, refuse, or are not there."""

import contextlib
import http.server
import json
import re
import shutil
import subprocess
import threading
import time

import pytest

import cairn_server
import signed_http

KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
SHORT = ["--duration", "300ms", "--warm-up", "50ms", "-c", "2", "--bucket", "measured"]


def bench(port, *arguments):
    signed = ["--access-key", cairn_server.ACCESS_KEY, "--secret-key", cairn_server.SECRET_KEY]
    line = [cairn_server.binary(), "bench", f"http://127.0.0.1:{port}", arguments[0], *SHORT, *arguments[1:], *signed]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def server():
    directory = cairn_server.test_dir("bench")
    running = cairn_server.Server(directory + "/data")
    running.start()
    yield running
    running.kill()
    shutil.rmtree(directory)


def keys(server):
    answer = signed_http.Client(server.port, KEYS).request("GET", "/measured", [("list-type", "2")])
    return re.findall(rb"<Key>(.*?)</Key>", answer.body)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["put", "--size", size, "--payload", payload] for size in ("0B", "300B", "4KiB", "1MiB") for payload in ("unsigned", "signed", "streaming", "trailer")),
        ["get", "--size", "5", "--objects", "3"],
        ["get", "--size", "200KiB", "--objects", "3"],
        ["head", "--objects", "3"],
        ["list", "--size", "10B", "--objects", "1200"],
        ["delete"],
        ["mixed", "--objects", "20"],
        ["mixed", "--objects", "20", "--payload", "trailer"],
        ["multipart", "--size", "11MiB", "--part-size", "5MiB"],
        ["multipart", "--size", "5MiB", "--part-size", "8MiB", "--payload", "streaming"],
    ],
    ids=" ".join,
)
def test_each_operation_runs_and_leaves_nothing(server, arguments):
    done = bench(server.port, *arguments, "--json", "--server-pid", str(server.process.pid))
    assert done.returncode == 0, done
    report = json.loads(done.stdout)
    assert report["errors"] == 0 and report["operations"] > 0 and report["operation"] == arguments[0]
    assert 0 < report["p50_ms"] <= report["p99_ms"] <= report["p999_ms"] <= report["max_ms"] * 1.01
    assert report["server"]["resident_bytes"] > 1 << 20
    assert keys(server) == [], "it cleans up"
    uploads = signed_http.Client(server.port, KEYS).request("GET", "/measured", [("uploads", "")])
    assert b"<UploadId>" not in uploads.body


def test_what_is_kept_is_what_was_said(server):
    done = bench(server.port, "put", "--size", "1KiB", "--keep")
    assert done.returncode == 0, done
    assert re.search(r"put 1KiB c2 unsigned, 0\.\d s: \d+ ops/s, [\d.]+ MiB/s, 0 errors\n", done.stdout), done.stdout
    there = keys(server)
    assert there
    client = signed_http.Client(server.port, KEYS)
    for key in there:
        assert client.request("DELETE", signed_http.object_path("measured", key.decode())).status == 204
    if len(there) < 1000:
        assert keys(server) == []


class Wrong(http.server.BaseHTTPRequestHandler):
    """Takes all, and gives back what `gives` makes of it; hangs where `hangs` says so, and refuses to delete what `keeps` says."""

    protocol_version = "HTTP/1.1"
    bodies = {}
    gives = hangs = keeps = None

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.hangs and self.hangs():
            time.sleep(3)
        self.bodies[self.path] = body
        self.answer(b"")

    def do_GET(self):
        self.answer(self.gives(self.bodies[self.path]))

    def do_DELETE(self):
        if self.keeps and self.keeps():
            self.answer(b"", 503)
        else:
            self.bodies.pop(self.path, None)
            self.answer(b"")

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def wrong_server(**what):
    kind = type("Some", (Wrong,), {"bodies": {}, **{name: staticmethod(does) for name, does in what.items()}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], kind.bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    "gives",
    [lambda body: body[:-1] + bytes([body[-1] ^ 1]), lambda body: bytes([body[0] ^ 1]) + body[1:], lambda body: body[:-1], lambda body: body + b"x"],
    ids=["the last byte", "the first byte", "a byte less", "a byte more"],
)
def test_a_server_that_gives_other_bytes_is_told(gives):
    with wrong_server(gives=gives) as (port, bodies):
        done = bench(port, "get", "--size", "100KiB", "--objects", "2", "--json")
        report = json.loads(done.stdout)
        assert done.returncode == 1 and report["operations"] == 0 and report["errors"] > 0
        assert "not what was put" in report["first_error"], report
        assert list(bodies) == ["/measured"], "it cleans up after a failure, too"


def test_other_bytes_before_the_clock_runs_are_told():
    answers = iter([True])
    gives = lambda body: b"x" + body[1:] if next(answers, False) else body
    with wrong_server(gives=gives) as (port, _):
        done = bench(port, "get", "--size", "1KiB", "--objects", "2", "--json")
        assert done.returncode == 1 and "not what was put" in json.loads(done.stdout)["first_error"]


def test_a_server_that_hangs_is_not_one_without_errors():
    count = iter(range(1_000_000))
    with wrong_server(hangs=lambda: next(count) > 50) as (port, _):
        done = bench(port, "put", "--size", "1KiB", "--json", "--timeout", "1s")
        report = json.loads(done.stdout)
        assert done.returncode == 1 and report["errors"] == 2 and report["max_ms"] > 100, report


def test_what_cannot_be_removed_is_said():
    count = iter(range(1_000_000))
    with wrong_server(keeps=lambda: next(count) % 3 == 0) as (port, bodies):
        assert bench(port, "delete", "--size", "10B").returncode == 1
        assert len(bodies) > 1, "the bucket, and what it did not get rid of"
    with wrong_server(keeps=lambda: True) as (port, bodies):
        done = bench(port, "put", "--size", "10B")
        left = re.search(r"(\d+) objects or uploads stay in (measured/\w+/)", done.stdout)
        assert done.returncode == 1 and int(left[1]) == len(bodies) - 1, done
        assert all(path.startswith("/" + left[2]) for path in bodies if path != "/measured")


def test_what_cannot_be_is_said(server):
    done = bench(cairn_server.free_port(), "put")
    assert done.returncode == 1 and "making the bucket" in done.stderr and "refused" in done.stderr, done
    refused = subprocess.run(
        [cairn_server.binary(), "bench", server.endpoint, "get", "--access-key", "nobody", "--secret-key", "x", *SHORT],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 1 and "InvalidAccessKeyId" in refused.stderr, refused
    for arguments, why in [
        (["multipart", "--part-size", "1MiB", "--size", "10MiB"], "part size"),
        (["get", "--objects", "0"], "objects"),
        (["put", "--size", "4KB"], "B, KiB, MiB or GiB"),
        (["put", "--server-pid", "4194303"], "no such process"),
    ]:
        done = bench(server.port, *arguments)
        assert done.returncode != 0 and why in done.stderr, (arguments, done)
