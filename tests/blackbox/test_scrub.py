"""The scrub: bytes that nobody asks for are read again, and what rotted is told with its place."""

import random
import re
import shutil
import time

import pytest

import cairn_server
import signed_http
from stored_bytes import bytes_at, find_bytes, flip

KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
# Far above what it takes; only a failure waits for it.
PATIENCE = 60
PERIOD = ["--scrub-period", "1s"]


@pytest.fixture
def directory():
    path = cairn_server.test_dir("scrub")
    yield path + "/data"
    shutil.rmtree(path)


def metric(server, name):
    text = server.admin("/-/metrics")[1]
    found = re.search(rf"^{re.escape(name)} ([0-9.e+-]+)$", text, re.M)
    return float(found.group(1)) if found else 0.0


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def passes(server):
    return metric(server, "cairn_scrub_last_pass_ended_timestamp_seconds")


def pass_after(server):
    """A whole pass that begins after now has come to its end."""
    now = time.time()
    until("no scrub pass ends", lambda: metric(server, "cairn_scrub_last_pass_begun_timestamp_seconds") > now)


def objects():
    source = random.Random(4)
    sizes = {"small": 3_000, "inline": 300, "large": 3 << 20, "a/deep/key": 70_000, "rots": 200_000}
    return {name: source.randbytes(size) for name, size in sizes.items()}


def test_a_flipped_byte_of_an_object_that_nobody_reads_is_found(directory):
    server = cairn_server.Server(directory, PERIOD).start()
    try:
        client = signed_http.Client(server.port, KEYS)
        assert client.request("PUT", "/bucket").status == 200
        there = objects()
        for name, data in there.items():
            assert client.request("PUT", f"/bucket/{name}", body=data).status == 200
        pass_after(server)
        assert metric(server, "cairn_scrub_last_pass_findings") == 0, server.log_tail()
        assert metric(server, "cairn_scrub_last_pass_bytes") > sum(map(len, there.values()))
        assert server.admin("/-/health/scrub")[0] == 200

        path, offset = find_bytes(directory + "/extents", there["rots"][100_000:100_064])
        flip(path, offset)
        until("it is not found", lambda: metric(server, "cairn_scrub_last_pass_findings") == 1)
        assert metric(server, 'cairn_corruption_total{where="needle"}') >= 1
        status, page = server.admin("/-/health/scrub")
        assert status == 503 and " 1 findings" in page and "rots" not in page, page
        pass_after(server)
        told = [line for line in server.log_tail(10_000).splitlines() if "not what was written" in line and "ERROR" in line]
        assert len(told) == 1, told
        for part in ("extent", "offset", "needle", "block 1", "rots", "bucket"):
            assert part in told[0], (part, told[0])

        answer = client.request("GET", "/bucket/rots")
        assert answer.status != 200 or answer.body != there["rots"]
        client = signed_http.Client(server.port, KEYS)
        for name, data in there.items():
            if name != "rots":
                assert client.request("GET", f"/bucket/{name}").body == data, name
        assert server.stop() == 0
        code, output = cairn_server.check(directory)
        assert code != 0 and "the checksum of block 1 does not hold" in output, output
    finally:
        server.kill()


def test_what_no_reader_reads_is_read(directory):
    """A copy of the superblock, which is read at a start alone; one of two copies of the index's head; an index page that is in memory."""
    server = cairn_server.Server(directory, PERIOD).start()
    client = signed_http.Client(server.port, KEYS)
    assert client.request("PUT", "/bucket").status == 200
    for n in range(200):
        assert client.request("PUT", f"/bucket/{n}", body=b"x" * 400).status == 200
    assert server.stop() == 0
    server.start()
    try:
        pass_after(server)
        assert metric(server, "cairn_scrub_last_pass_findings") == 0, server.log_tail()
        index = directory + "/index/0000000000000010.redb"
        rotten = {}

        def is_found(where):
            # What is written behind meanwhile takes the rot away with it.
            if bytes_at(index, 8192, 4096) != rotten.get(index):
                flip(index, 8192 + 40)
                rotten[index] = bytes_at(index, 8192, 4096)
            return metric(server, f'cairn_corruption_total{{where="{where}"}}') >= 1

        flip(directory + "/superblock", 100)
        for where in ("superblock", "index page"):
            until(f"{where} is not found", lambda where=where: is_found(where))
        log = server.log_tail(10_000)
        assert "superblock: the copy at byte 0 is bad" in log and "0000000000000010.redb: the head at byte 8192" in log, log
        flip(directory + "/superblock", 100)
        assert client is not None and server.stop() == 0
    finally:
        server.kill()


def test_a_restart_goes_on_with_the_pass(directory):
    server = cairn_server.Server(directory, ["--scrub-period", "300s"]).start()
    try:
        client = signed_http.Client(server.port, KEYS)
        assert client.request("PUT", "/bucket").status == 200
        assert client.request("PUT", "/bucket/k", body=b"x" * 100_000).status == 200
        since = lambda: re.search(r"pass since (\d+) ms", server.admin("/-/health/scrub")[1])
        until("no pass begins", since)
        begun = since().group(1)
        assert server.stop() == 0
        server.start()
        until("no pass goes on", since)
        assert since().group(1) == begun
        assert "the scrub goes on" in server.log_tail(10_000)
    finally:
        server.kill()


def test_it_can_be_left_out(directory):
    server = cairn_server.Server(directory, ["--scrub-period", "0s"]).start()
    try:
        status, page = server.admin("/-/health/scrub")
        assert status == 200 and "not scrubbed" in page
        assert passes(server) == 0
    finally:
        server.kill()
