"""A small disk, filled to the last byte under load through S3, emptied by deletes through S3, and filled again: the room must come back by itself.

ext4 of 256 MiB on a loop device, the real binary with its default settings. Each round: put until the store refuses with 507, read everything back while it
is full, delete everything, wait until the store says that it is ready and the file system has its room again. With `--cuts` the power is cut once in each
phase of a round: while it fills, while it is emptied, while it reclaims; then the grace is three seconds. At the end `cairn check` must agree.
"""

import argparse
import base64
import hashlib
import os
import random
import shutil
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import cairn_server  # noqa: E402
import load  # noqa: E402
import power  # noqa: E402
import signed_http  # noqa: E402
from history import Key, Value, Violation, contents, new_op, tick  # noqa: E402

CREDENTIALS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
BUCKET = "full"
DISK_BYTES = 256 << 20
WORKERS = 6
SIZES = [700, 4_000, 30_000, 120_000, 200_000, 1_000_000, 5_000_000]
RECLAIM_SECONDS = 120
LOST = load.LOST


class Full(Exception):
    """The store refused for want of room."""


class Worker(threading.Thread):
    """One connection. Its keys are its own."""

    def __init__(self, store, number, act):
        super().__init__(name=f"worker {number}", daemon=True)
        self.store, self.number, self.act = store, number, act
        self.random = random.Random(f"{store.seed}-{store.round}-{number}-{act}")
        self.client = signed_http.Client(store.server.port, CREDENTIALS, timeout=60)
        self.problems = []
        self.cut = threading.Event()

    def run(self):
        try:
            getattr(self, self.act)()
        except Violation as e:
            self.problems.append(str(e))
        except (load.Refused, *LOST) as e:
            if not self.cut.is_set():
                self.problems.append(f"{self.act}: {e!r}")
        self.client.close()

    def ask(self, method, path, ok, query=(), body=b"", headers=None):
        answer = self.client.request(method, path, query, body, headers)
        if answer.status == 507:
            if answer.code != "InsufficientStorage":
                raise load.Refused(f"{method} {path}: {answer}")
            raise Full
        if answer.status not in ok:
            raise load.Refused(f"{method} {path}: {answer}")
        return answer

    def put(self, key, size):
        op = new_op()
        write = key.begin(Value([(op, size)]))
        try:
            self.ask("PUT", path(key), (200,), body=contents(op, size))
        except Full:
            key.refused(write)
            raise
        key.answered(write)
        self.store.count(size)

    def fill(self):
        """Puts new objects, and now and then over old ones, in ever smaller sizes once there is no room for a large one."""
        mine, largest = [], len(SIZES)
        while largest > 0:
            try:
                size = self.random.choice(SIZES[:largest])
                if mine and self.random.random() < 0.05:
                    self.put(self.random.choice(mine), size)
                else:
                    key = self.store.new_key(self.number)
                    self.put(key, size)
                    mine.append(key)
                if mine and self.random.random() < 0.1:
                    self.get(self.random.choice(mine))
            except Full:
                largest -= 1

    def get(self, key):
        start = tick()
        answer = self.ask("GET", path(key), (200, 404))
        if answer.status == 404:
            return key.read(start)
        return key.read(start, md5=hashlib.md5(answer.body).hexdigest(), etag=answer.headers["etag"].strip('"'))

    def read_back(self):
        for key in self.store.share(self.number):
            self.get(key)

    def settle(self):
        """Reads everything back; nothing is unsure any more."""
        for key in self.store.share(self.number):
            key.settle(self.get(key))

    def empty(self):
        """Deletes everything, half of it by batches. On a full disk too: no delete is refused."""
        keys = self.store.share(self.number)
        while keys:
            some, keys = keys[:20], keys[20:]
            if self.random.random() < 0.5:
                for key in some:
                    write = key.begin(None)
                    self.ask("DELETE", path(key), (204,))
                    key.answered(write)
                continue
            writes = [key.begin(None) for key in some]
            listed = "".join(f"<Object><Key>{k.name}</Key></Object>" for k in some)
            body = f"<Delete><Quiet>true</Quiet>{listed}</Delete>".encode()
            headers = {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}
            answer = self.ask("POST", f"/{BUCKET}", (200,), [("delete", "")], body, headers)
            if b"<Error>" in answer.body:
                raise load.Refused(f"batch delete: {answer}")
            for key, write in zip(some, writes):
                key.answered(write)


def path(key):
    return signed_http.object_path(BUCKET, key.name)


class Store:
    def __init__(self, disk, place, arguments):
        self.disk, self.directory, self.log = disk, disk.mount_point + "/data", place + "/server.log"
        self.seed, self.cuts = arguments.seed, arguments.cuts
        self.random = random.Random(self.seed)
        self.round, self.keys, self.bytes = 0, [], 0
        self.lock = threading.Lock()
        self.server = None
        self.problems = []

    def start(self):
        # A process that starts again on a disk with room in it is in no hurry: what was not reclaimed before the cut waits for its grace.
        grace = ["--gc-grace", "3s"] if self.cuts else []
        self.server = cairn_server.Server(self.directory, grace, log=self.log).start()

    def new_key(self, worker):
        with self.lock:
            key = Key(f"r{self.round}/w{worker}/{len(self.keys):06}")
            self.keys.append(key)
            return key

    def share(self, worker):
        with self.lock:
            return self.keys[worker::WORKERS]

    def count(self, size):
        with self.lock:
            self.bytes += size

    def free(self):
        s = os.statvfs(self.disk.mount_point)
        return s.f_bavail * s.f_frsize

    def work(self, act, cut_after=None):
        """Everybody does it; with `cut_after` until the power goes. Then the store is started again and everything read back."""
        workers = [Worker(self, n, act) for n in range(WORKERS)]
        for w in workers:
            w.start()
        if cut_after is not None:
            until = time.monotonic() + cut_after
            while time.monotonic() < until and any(w.is_alive() for w in workers):
                time.sleep(0.01)
            self.cut(workers)
        for w in workers:
            w.join(300)
            if w.is_alive():
                self.problems.append(f"{w.name} hangs in {act}")
            self.problems += w.problems
        if cut_after is not None and not self.problems:
            self.work("settle")

    def cut(self, workers=()):
        for w in workers:
            w.cut.set()
        if not self.server.is_running():
            self.problems.append(f"the server ended by itself:\n{self.server.log_tail()}")
        self.disk.cut()
        time.sleep(self.random.choice([0, 0.002, 0.02]))
        self.server.kill()
        self.disk.come_back()
        self.start()

    def ready(self):
        return self.server.admin("/-/health/ready")

    def wait_for_room(self, wanted, cut_after=None):
        begun = time.monotonic()
        while time.monotonic() < begun + RECLAIM_SECONDS:
            if cut_after is not None and time.monotonic() > begun + cut_after:
                self.cut()
                cut_after = None
            status, text = self.ready()
            if status == 200 and self.free() >= wanted and cut_after is None:
                return time.monotonic() - begun
            time.sleep(0.1)
        self.problems.append(f"no room again after {RECLAIM_SECONDS} s: {self.free()} bytes are free, {wanted} should be; ready: {status} {text}")
        return None

    def run_round(self, wanted):
        """One round; how many bytes went in."""
        self.round += 1
        self.bytes, self.keys = 0, []
        begun = time.monotonic()
        if self.cuts:
            self.work("fill", cut_after=self.random.uniform(0.3, 3))
        self.work("fill")
        if self.problems:
            return 0
        filled, took, left = self.bytes, time.monotonic() - begun, self.free()
        status, text = self.ready()
        if status != 503 or "full" not in text:
            self.problems.append(f"full, and ready says {status} {text!r}")
        self.work("read_back")
        if self.problems:
            return 0
        begun = time.monotonic()
        if self.cuts:
            self.work("empty", cut_after=self.random.uniform(0.05, 0.5))
        self.work("empty")
        if self.problems:
            return 0
        emptied = time.monotonic() - begun
        waited = self.wait_for_room(wanted, self.random.uniform(0, 2) if self.cuts else None)
        self.work("settle")
        there = sum(1 for k in self.keys if k.writes[0].value is not None)
        if there:
            self.problems.append(f"{there} deleted objects are there")
        print(
            f"round {self.round}: {len(self.keys)} objects, {filled >> 20} MiB in {took:.1f} s, {left >> 10} KiB left; "
            f"deleted in {emptied:.1f} s; room again after {waited if waited is None else round(waited, 1)} s, {self.free() >> 20} MiB free",
            flush=True,
        )
        return filled

    def run(self, rounds):
        self.start()
        client = signed_http.Client(self.server.port, CREDENTIALS)
        assert client.request("PUT", f"/{BUCKET}").status == 200
        client.close()
        free = self.free()
        filled = []
        for _ in range(rounds):
            # What the index and the open extents keep is not garbage; nine tenths must come back.
            filled.append(self.run_round(free * 9 // 10))
            if self.problems:
                break
            if filled[-1] < filled[0] * 8 // 10:
                self.problems.append(f"ever less goes in: {filled}")
        if self.server.stop() != 0:
            self.problems.append(f"it did not stop in order:\n{self.server.log_tail()}")
        code, output = cairn_server.check(self.directory)
        if code != 0:
            self.problems.append(f"cairn check: {output[-3000:]}")
        else:
            print(output.strip())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cuts", action="store_true", help="cut the power once in each phase")
    parser.add_argument("--seed", default="cairn")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    place = cairn_server.test_dir("full")
    # A cut takes what the device holds in a cache of its own, too.
    with (power.CachedDisk if arguments.cuts else power.Disk)(place, DISK_BYTES) as disk:
        store = Store(disk, place, arguments)
        try:
            store.run(arguments.rounds)
        finally:
            if store.server is not None:
                store.server.kill()
    for problem in store.problems[:20]:
        print(problem)
    if store.problems:
        print(f"kept to be looked at: {os.path.relpath(place)}")
    else:
        shutil.rmtree(place)
    print(f"{int(not store.problems)} passed, {int(bool(store.problems))} failed", flush=True)
    sys.exit(1 if store.problems else 0)


if __name__ == "__main__":
    main()
