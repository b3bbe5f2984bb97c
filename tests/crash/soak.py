"""A long soak: mixed load, reclaim with hardly a grace, SIGKILLs at random moments, and at the end everything where arithmetic says it should be.

2 GiB of ext4 on a loop device, the real binary. Between two kills everybody works, and reads check what they are given; after each the store is
started again at once and everything is read back and held against what its clients were told. At the end all rest, gc has its way, and then: memory,
threads, descriptors, files and disk against what live data of that size may take, and `cairn check`.
"""

import argparse
import os
import random
import re
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import cairn_server  # noqa: E402
import load  # noqa: E402
import power  # noqa: E402
import run  # noqa: E402

MIB = 1 << 20
DISK_BYTES = 2 << 30
HORIZON_SECONDS = 10
GRACE = ["--gc-grace", "2s", "--gc-horizon", f"{HORIZON_SECONDS}s"]
# So many times the scrubber goes over everything in a run, where the run is long enough.
SCRUB_PASSES = 6
SCRUB_PERIOD_MIN_SECONDS = 5
REST_SECONDS = 180
# For so long the disk's use must stand still before gc is taken to have done what it does.
STILL_SECONDS = 8
# A run of so many seconds must have seen compactions.
COMPACTS_SECONDS = 300

# What a store of no data and no clients may take: the program itself, its threads' stacks as far as they are used, its buffers.
MEMORY_FIXED = 48 * MIB
# Queues and caches that fill under load and need not be given back: the journal's queue and the batches written behind, redb's pages, rows.
MEMORY_QUEUES = 16 * MIB + 32 * MIB
MEMORY_CACHE_MAX = 64 * MIB
# Of a needle beside its bytes: its header with the key, a crc for each 64 KiB, the padding; its entry in the needle map.
NEEDLE_BYTES = 160 + 32 + 8 + 16
# What is written behind, and rows of the last 65,536 answers at most 256 bytes each, in pages that are half full, and the copy that redb writes.
INDEX_BYTES = 2 * 2 * 65_536 * 256
OPEN_EXTENTS_MAX = 16
# What kills leave without a name in extents that are open: those are looked over for it once they are full. As if all had been sending a part.
ORPHAN_BYTES = load.WORKERS * load.PART
# Descriptors that come and go: a file of the index written anew, a look at /proc, the next connection's.
DESCRIPTORS_LOOSE = 8


def seconds_of(text):
    found = re.fullmatch(r"(\d+)(s|m|h|)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number with s, m or h")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


class Usage:
    """What the process and its directory take."""

    def __init__(self, process, mount_point, directory):
        with open(f"/proc/{process}/status", encoding="ascii") as f:
            status = dict(line.split(":", 1) for line in f)
        self.memory = int(status["VmRSS"].split()[0]) << 10
        self.memory_peak = int(status["VmHWM"].split()[0]) << 10
        self.threads = int(status["Threads"])
        self.descriptors = len(os.listdir(f"/proc/{process}/fd"))
        s = os.statvfs(mount_point)
        self.disk = (s.f_blocks - s.f_bfree) * s.f_frsize
        self.extents = files(directory + "/extents")
        self.index = files(directory + "/index")

    def __str__(self):
        return (
            f"{self.memory / MIB:.0f} MiB resident (peak {self.memory_peak / MIB:.0f}), {self.threads} threads, {self.descriptors} descriptors, "
            f"{self.extents[0]} extents, {self.index[1] / MIB:.0f} MiB of index, {self.disk / MIB:.0f} MiB of the disk"
        )


def files(directory):
    """How many files, and how many bytes they take."""
    count = taken = 0
    for entry in os.scandir(directory):
        try:
            count, taken = count + 1, taken + entry.stat().st_blocks * 512
        except FileNotFoundError:
            pass  # gone meanwhile
    return count, taken


class Soak(run.Cycles):
    def __init__(self, disk, place, arguments):
        self.disk, self.mean = disk, arguments.seconds / (arguments.kills + 1)
        self.scrub_period = max(SCRUB_PERIOD_MIN_SECONDS, arguments.seconds // SCRUB_PASSES)
        scrub = ["--scrub-period", f"{self.scrub_period}s"]
        super().__init__(run.Kill(), disk.mount_point + "/data", place + "/server.log", arguments.seed, GRACE + scrub)
        self.empty = None
        self.passes = set()

    def load_seconds(self, chance):
        return chance.uniform(0.2, 1.8) * self.mean

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def usage(self):
        return Usage(self.server.process.pid, self.disk.mount_point, self.directory)

    def prepare(self):
        super().prepare()
        time.sleep(1)
        self.empty = self.usage()
        print(f"empty: {self.empty}", flush=True)

    def cycle(self, number):
        problems = super().cycle(number)
        print(f"  {self.usage()}", flush=True)
        return problems + self.scrubbed()

    def scrubbed(self):
        """Notes the last whole pass of the scrub; what it found, and what it could not read."""
        status, page = self.server.admin("/-/health/scrub")
        last = re.search(r"last pass, (\d+ to \d+) ms since 1970: (\d+) bytes.*", page)
        if last and int(last[2]):
            self.passes.add(last[1])
        found = status != 200 or (last and not last[0].endswith("0 findings, 0 skipped"))
        return [f"the scrub says {status}: {page}"] if found else []

    def scrubbed_once(self):
        """Waits until a whole pass has been seen; a problem if there is none."""
        until = time.monotonic() + 3 * self.scrub_period + 30
        problems = self.scrubbed()
        while not problems and not self.passes and time.monotonic() < until:
            time.sleep(0.5)
            problems = self.scrubbed()
        return problems if problems or self.passes else ["no pass of the scrub came to its end"]

    def live(self):
        """Objects that are there, their needles, and their bytes as they lie in extents."""
        values = [k.writes[0].value for k in self.record.keys.values()]
        stored = [piece for value in values if value is not None for _, piece in value.pieces if value.size > 512]
        blocks = sum(-(-size // 65536) for size in stored)
        return sum(v is not None for v in values), len(stored), sum(stored) + len(stored) * NEEDLE_BYTES + 4 * blocks

    def allowed(self):
        """The most that each of these may be, from what is there."""
        _, needles, data = self.live()
        # Gc leaves an extent alone until a quarter of it is garbage; the last step that an open one took may be empty.
        step = max(MIB, DISK_BYTES // 1024 // MIB * MIB)
        index = self.usage().index[1]
        extents = OPEN_EXTENTS_MAX + needles
        return {
            # What is cached is of the index: pages of its files, and rows made of them.
            "memory": MEMORY_FIXED + MEMORY_QUEUES + 2 * min(MEMORY_CACHE_MAX, index),
            "threads": self.empty.threads,
            "descriptors": self.empty.descriptors + extents + DESCRIPTORS_LOOSE,
            "extents": extents,
            "index": INDEX_BYTES + len(self.record.keys) * 4096,
            "disk": self.empty.disk + data * 4 // 3 + ORPHAN_BYTES + OPEN_EXTENTS_MAX * step + extents * 8192 + index,
        }

    def rest(self):
        """Waits until gc has nothing to do any more; what is over its bound then."""
        begun, allowed = time.monotonic(), self.allowed()
        least, since, waited = self.usage().disk, begun, 0
        while waited < REST_SECONDS and (waited < HORIZON_SECONDS + STILL_SECONDS or time.monotonic() - since < STILL_SECONDS):
            time.sleep(0.5)
            now = self.usage()
            waited = time.monotonic() - begun
            if now.disk < least - MIB:
                least, since = now.disk, time.monotonic()
        over = self.over(now, allowed)
        objects, needles, data = self.live()
        print(f"at rest after {waited:.1f} s: {now}")
        print(
            f"  {objects} objects are there, {needles} needles, {data / MIB:.1f} MiB; allowed: {allowed['memory'] / MIB:.0f} MiB resident, "
            f"{allowed['threads']} threads, {allowed['descriptors']} descriptors, {allowed['extents']} extents, {allowed['index'] / MIB:.0f} MiB of index, {allowed['disk'] / MIB:.0f} MiB of the disk",
            flush=True,
        )
        return over

    @staticmethod
    def over(now, allowed):
        found = {
            "memory": now.memory,
            "threads": now.threads,
            "descriptors": now.descriptors,
            "extents": now.extents[0],
            "index": now.index[1],
            "disk": now.disk,
        }
        return [f"{what}: {found[what]}, and {allowed[what]} is the most it may be" for what in found if found[what] > allowed[what]]


def soak(disk, place, arguments):
    """Problems."""
    store = Soak(disk, place, arguments)
    begun = time.monotonic()
    try:
        store.prepare()
        for number in range(1, arguments.kills + 1):
            problems = store.cycle(number)
            if problems:
                return problems
        problems = store.rest() + load.verify(store.record, store.server.port, run.CREDENTIALS)
        problems += store.scrubbed_once()
        problems += store.finish() + run.check_reclaimed(store.log)
        if arguments.seconds >= COMPACTS_SECONDS and not re.search(r"compacted: [1-9]", store.log_text()):
            problems.append("no extent was compacted: this has tested less than it should")
        code, output = cairn_server.check(store.directory)
        print(output.strip() if code == 0 else "")
        print(f"{arguments.kills} kills, {len(store.passes)} whole passes of the scrub seen, {store.record.answers} answers in {time.monotonic() - begun:.0f} s", flush=True)
        return problems
    except (AssertionError, OSError) as e:
        return [f"{type(e).__name__}: {e}"]
    finally:
        store.server.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=seconds_of, nargs="?", default="30m", help="how long: 40s, 30m, 2h")
    parser.add_argument("--kills", type=int, help="how many; one each half minute, and three at least")
    parser.add_argument("--seed", default="cairn")
    arguments = parser.parse_args()
    if arguments.kills is None:
        arguments.kills = max(3, arguments.seconds // 30)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    random.seed(arguments.seed)
    place = cairn_server.test_dir("soak")
    with power.Disk(place, DISK_BYTES) as disk:
        problems = soak(disk, place, arguments)
    run.show(problems)
    if problems:
        print(f"kept to be looked at: {os.path.relpath(place)}")
    else:
        shutil.rmtree(place)
    print(f"{int(not problems)} passed, {int(bool(problems))} failed", flush=True)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
