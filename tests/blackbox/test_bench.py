"""`cairn bench` against the program itself, and against servers that are wrong, refuse, or are not there."""

import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest

import cairn_server
import signed_http

KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
SHORT = ["--duration", "300ms", "--warm-up", "50ms", "-c", "2", "--bucket", "measured"]


def bench(port, *arguments):
    signed = ["--access-key", cairn_server.ACCESS_KEY, "--secret-key", cairn_server.SECRET_KEY]
    line = [cairn_server.binary(), "bench", f"http://127.0.0.1:{port}", *arguments, *SHORT, *signed]
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
        ["get", "--size", "5B", "--objects", "3"],
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
    """Takes all, and gives back another byte, or one byte less."""

    protocol_version = "HTTP/1.1"
    bodies = {}
    gives = staticmethod(lambda body: body)

    def do_PUT(self):
        self.bodies[self.path] = self.rfile.read(int(self.headers["content-length"]))
        self.answer(b"")

    def do_GET(self):
        self.answer(type(self).gives(self.bodies[self.path]))

    def do_DELETE(self):
        self.answer(b"")

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    "gives",
    [lambda body: body[:-1] + bytes([body[-1] ^ 1]), lambda body: bytes([body[0] ^ 1]) + body[1:], lambda body: body[:-1], lambda body: body + b"x"],
    ids=["the last byte", "the first byte", "a byte less", "a byte more"],
)
def test_a_server_that_gives_other_bytes_is_told(gives):
    Wrong.gives = staticmethod(gives)
    wrong = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wrong)
    thread = threading.Thread(target=wrong.serve_forever, daemon=True)
    thread.start()
    try:
        done = bench(wrong.server_address[1], "get", "--size", "100KiB", "--objects", "2", "--json")
        report = json.loads(done.stdout)
        assert done.returncode == 1 and report["operations"] == 0 and report["errors"] > 0
        assert "not what was put" in report["first_error"], report
    finally:
        wrong.shutdown()
        wrong.server_close()
        thread.join()


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
    ]:
        done = bench(server.port, *arguments)
        assert done.returncode != 0 and why in done.stderr, (arguments, done)
