"""Reclaim while others are served: a slow reader of what is deleted, and objects that are written over and over.

On 256 MiB of ext4 on a loop device, with the real binary. The slow reader runs under default settings: the disk is filled around it, everything is deleted, the
object that it reads too; all room but its object's comes back, and it gets every byte. The churn runs with a grace of a second, the burst
under default settings and as fast as it goes: more bytes than the disk has are written over the same keys, and none is refused, while what stands
beside them is read and stays.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import cairn_server  # noqa: E402
import full  # noqa: E402
import power  # noqa: E402
import signed_http  # noqa: E402
from history import contents, new_op  # noqa: E402

MIB = 1 << 20
READ_BYTES = 30 * MIB
BODY_SECONDS = 0.25


STARTED = []


class Arguments:
    seed, cuts = "cairn", False


def begin(disk, place, arguments=()):
    store = full.Store(disk, place, Arguments)
    store.server = cairn_server.Server(store.directory, list(arguments), log=store.log)
    STARTED.append(store.server.start())
    client = signed_http.Client(store.server.port, full.CREDENTIALS)
    assert client.request("PUT", f"/{full.BUCKET}").status == 200
    return store, client


def metric(store, name):
    found = re.search(rf"^{name}(?:\{{.*\}})? ([0-9.e+]+)$", store.server.admin("/-/metrics")[1], re.M)
    return float(found.group(1)) if found else 0.0


class SlowReader(threading.Thread):
    """Takes an object's bytes a little at a time until it is told to hurry."""

    def __init__(self, port, path):
        super().__init__(name="slow reader", daemon=True)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", port))
        host = f"127.0.0.1:{port}"
        signed = signed_http.sign(full.CREDENTIALS, "GET", path, host)
        self.socket.sendall(signed_http.head_bytes("GET", path, signed.headers))
        self.hurry, self.digest, self.read, self.status = threading.Event(), hashlib.md5(), 0, None

    def run(self):
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        self.status = head.split(b" ")[1]
        while self.read < READ_BYTES:
            piece = self.socket.recv(16 << 10)
            if not piece:
                return
            self.read += len(piece)
            self.digest.update(piece)
            if not self.hurry.is_set():
                time.sleep(BODY_SECONDS)


def slow_reader(disk, place):
    store, client = begin(disk, place)
    empty = store.free()
    op = new_op()
    body = contents(op, READ_BYTES)
    assert client.request("PUT", f"/{full.BUCKET}/read", body=body).status == 200
    reader = SlowReader(store.server.port, f"/{full.BUCKET}/read")
    reader.start()
    while reader.status is None:
        time.sleep(0.01)
    store.round = 1
    store.work("fill")
    assert client.request("DELETE", f"/{full.BUCKET}/read").status == 204
    store.work("empty")
    # All but what it reads, and what stands with that in an extent beyond a sixteenth, is there again.
    waited = store.wait_for_room((empty - READ_BYTES) * 8 // 10)
    print(f"everything around a reader of {READ_BYTES >> 20} MiB that has {reader.read >> 10} KiB went in {waited} s", flush=True)
    if reader.read > READ_BYTES // 2 or not reader.is_alive():
        store.problems.append("the reader was not slow: this has shown nothing")
    reader.hurry.set()
    reader.join(60)
    if reader.status != b"200" or reader.digest.digest() != hashlib.md5(body).digest():
        store.problems.append(f"a slow reader of a deleted object got {reader.status} and {reader.read} bytes, not the object's")
    if client.request("GET", f"/{full.BUCKET}/read").status != 404:
        store.problems.append("the deleted object is there")
    # A calm disk keeps it for a day: what it read goes with the next fill.
    store.round = 2
    store.work("fill")
    store.work("empty")
    store.wait_for_room(empty * 9 // 10)
    return finish(store)


def churn(disk, place):
    """With a grace of a second, at a pace that gc keeps up with without being short of room."""
    return write_over(disk, place, ["--gc-grace", "1s"], pause=1 / (30 * MIB))


def burst(disk, place):
    """By default settings, as fast as it goes: nothing is reclaimed before room is short, and then writes wait for it."""
    return write_over(disk, place, [], pause=0)


def write_over(disk, place, settings, pause):
    store, client = begin(disk, place, settings)
    chance = random.Random("churn")
    kept = {f"kept/{n}": contents(new_op(), chance.randint(1, 2 * MIB)) for n in range(30)}
    for key, body in kept.items():
        assert client.request("PUT", f"/{full.BUCKET}/{key}", body=body).status == 200
    stop = threading.Event()

    def read():
        mine = signed_http.Client(store.server.port, full.CREDENTIALS)
        while not stop.is_set():
            key = random.choice(list(kept))
            if mine.request("GET", f"/{full.BUCKET}/{key}").body != kept[key]:
                store.problems.append(f"{key} is not what was put")
                return

    readers = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for r in readers:
        r.start()
    written, last = 0, {}
    while written < 3 * full.DISK_BYTES and not store.problems:
        key, op, size = f"churn/{chance.randrange(20)}", new_op(), chance.choice([3_000, 100_000, MIB, 2 * MIB])
        answer = client.request("PUT", f"/{full.BUCKET}/{key}", body=contents(op, size))
        if answer.status != 200:
            store.problems.append(f"after {written} bytes: {answer}")
        written, last[key] = written + size, (op, size)
        time.sleep(size * pause)
    stop.set()
    for r in readers:
        r.join(30)
    for key, (op, size) in last.items():
        if client.request("GET", f"/{full.BUCKET}/{key}").body != contents(op, size):
            store.problems.append(f"{key} is not what was put last")
    reclaimed = metric(store, "cairn_gc_bytes_reclaimed_total")
    print(f"{written >> 20} MiB written over 20 keys, {int(reclaimed) >> 20} MiB reclaimed, {store.free() >> 20} MiB free", flush=True)
    if reclaimed < full.DISK_BYTES:
        store.problems.append("hardly anything was reclaimed: this has shown nothing")
    return finish(store)


def finish(store):
    if store.server.stop() != 0:
        store.problems.append(f"it did not stop in order:\n{store.server.log_tail()}")
    code, output = cairn_server.check(store.directory)
    if code != 0:
        store.problems.append(f"cairn check: {output[-3000:]}")
    return store.problems


def main():
    # Devices and mounts are given back when we are told to go, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    passed = failed = 0
    for test in (slow_reader, churn, burst):
        place = cairn_server.test_dir(test.__name__)
        with power.Disk(place, full.DISK_BYTES) as disk:
            try:
                problems = test(disk, place)
            finally:
                for running in STARTED:
                    running.kill()
        for problem in problems[:20]:
            print(f"{test.__name__}: {problem}")
        passed, failed = passed + (not problems), failed + bool(problems)
        if problems:
            print(f"kept to be looked at: {os.path.relpath(place)}")
        else:
            shutil.rmtree(place)
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
