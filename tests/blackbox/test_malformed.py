"""Malformed requests by the thousand, against the real binary: each is refused with a 4xx and a code, and nothing of them is left behind. // I9

A server of its own: what is left behind is its memory, descriptors, threads, tasks, connections and requests, and nobody else's. The first rounds warm it up
(caches, pools, the allocator's own); what the rounds after them add is what a leak adds.
"""

import collections
import concurrent.futures
import os
import re
import time

import pytest

import cairn_server
import conftest
import signed_http
from malformed import bodies, documents, forms, heads
from malformed.place import Place

ROUND = 1200
WARMING, ROUNDS = 2, 4
WORKERS = 4
ANSWER_SECONDS = 20
SETTLE_SECONDS = 30
GROWTH_BYTES_MAX = 8 << 20
"""Over all rounds after the warming ones: less than 2 KiB a request."""
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc's, told to keep little of what was freed: what is resident is what is used. As it comes it keeps ten MiB more or less, by chance."""
GAUGES = ("cairn_tasks", "cairn_s3_connections", "cairn_s3_requests_under_way")
FAMILIES = {"documents": documents.FAMILY, "bodies": bodies.FAMILY, "heads": heads.FAMILY, "forms": forms.FAMILY}


class Left:
    """What a process holds."""

    def __init__(self, server):
        status, page = server.admin("/-/metrics")
        assert status == 200
        self.held = {name: float(re.search(rf"^{name} (\S+)$", page, re.M).group(1)) for name in GAUGES}
        pid = server.process.pid
        with open(f"/proc/{pid}/status", encoding="utf-8") as f:
            fields = dict(line.split(":", 1) for line in f)
        self.bytes = int(fields["RssAnon"].split()[0]) << 10
        self.held["threads"] = int(fields["Threads"])
        self.held["descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))

    def __repr__(self):
        return f"{self.bytes / 2**20:.1f} MiB, {self.held}"


def settled(server, before=None):
    """What is left once every connection has lingered out: as much as before, or what there is when nothing changes any more."""
    deadline = time.monotonic() + SETTLE_SECONDS
    last = None
    while time.monotonic() < deadline:
        now = Left(server)
        if before is None and last is not None and now.held == last.held and now.held["cairn_s3_connections"] <= 1:
            return now
        if before is not None and all(now.held[name] <= before.held[name] for name in now.held):
            return now
        last = now
        time.sleep(0.2)
    return last


def ask(port, wire):
    """The answer to one request on a connection of its own; None when there was none."""
    with signed_http.Raw(port, timeout=ANSWER_SECONDS) as bare:
        try:
            bare.send(wire.data)
            if wire.ends:
                bare.socket.shutdown(1)
        except OSError:
            pass  # refused before all was sent
        return bare.answer()


def is_refusal(answer):
    return answer is not None and 400 <= answer.status < 500 and answer.code is not None


def a_round(server, place, asked, refused):
    """Sends `ROUND` malformed requests from all families in turn; answers those that were not refused as they should be."""
    names = list(FAMILIES)
    makers = [(name, place.choice(FAMILIES[name])) for name in (names[n % len(names)] for n in range(ROUND))]
    wires = [(name, maker, maker(place)) for name, maker in makers]

    def one(made):
        name, maker, wire = made
        begun = time.monotonic()
        try:
            answer = ask(place.port, wire)
        except TimeoutError:
            return f"{maker.__name__}: no answer in {ANSWER_SECONDS} s: {wire.data[:3000]!r}"
        asked[name] += 1
        if not is_refusal(answer):
            return f"{maker.__name__}: {answer}, {time.monotonic() - begun:.1f} s: {wire.data[:3000]!r}"
        refused[answer.code] += 1
        return None

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        return [wrong for wrong in pool.map(one, wires) if wrong]


@pytest.fixture(scope="module")
def alone():
    server = cairn_server.Server(cairn_server.test_dir("malformed") + "/data", environment=ALLOCATOR)
    server.start()
    yield server
    server.kill()


def test_malformed_requests_are_refused_and_leave_nothing(alone):
    s3 = conftest.make_client(alone)
    s3.create_bucket(Bucket="aim")
    s3.put_object(Bucket="aim", Key="k", Body=b"0123456789")
    upload = s3.create_multipart_upload(Bucket="aim", Key="k")["UploadId"]
    s3.close()
    keys = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
    asked, refused, lefts = collections.Counter(), collections.Counter(), []
    for seed in range(WARMING + ROUNDS):
        place = Place(seed, alone.port, keys, "aim", upload)
        wrong = a_round(alone, place, asked, refused)
        assert not wrong, f"{len(wrong)} of {ROUND} (seed {seed}):\n" + "\n".join(wrong[:12])
        assert alone.is_running(), alone.log_tail()
        lefts.append(settled(alone, lefts[0] if lefts else None))
    print(f"\n{sum(asked.values())} malformed requests {dict(asked)}, {len(refused)} codes; left after each round: {lefts}")
    before, after = lefts[WARMING - 1], lefts[-1]
    first = lefts[0].held
    more = {name: (first[name], held) for name, held in after.held.items() if held > first[name]}
    assert not more, f"left behind: {more}"
    assert after.bytes - before.bytes < GROWTH_BYTES_MAX, lefts
    assert len(refused) > 40, refused
    assert "panicked" not in alone.log_tail(100_000)


def test_nothing_of_them_was_done(alone):
    """Runs behind the other: the store is as it was."""
    s3 = conftest.make_client(alone)
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="aim")["Contents"]] == ["k"]
    assert s3.get_object(Bucket="aim", Key="k")["Body"].read() == b"0123456789"
    (upload,) = s3.list_multipart_uploads(Bucket="aim")["Uploads"]
    assert "Parts" not in s3.list_parts(Bucket="aim", Key="k", UploadId=upload["UploadId"])
    assert "Status" not in s3.get_bucket_versioning(Bucket="aim")
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["aim"]
    assert alone.stop() == 0, alone.log_tail()
    code, output = cairn_server.check(alone.directory)
    assert code == 0, output
