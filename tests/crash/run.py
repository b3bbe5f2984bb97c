"""Kills and power cuts: a real binary under load, ended without warning, must keep every promise it has made.

Each cycle: load for a second, then SIGKILL, or the file system is shut down and then SIGKILL; start again, read everything back, compare with what the client was
told. In one cycle of four the next start is ended too, in the middle of recovering. At the end the directory is stopped in order and `cairn check` must agree.

`--reclaim` has no grace: what lost its name goes at once, while it is read, overwritten and recovered. (tests/crash/full.py has the extents compacted.)

`--cached` has the cut take what the device has not written of its own cache, too: what was written past the page cache and not synced.

`--expect-loss` turns the verdict around: the binary has a sync left out, and not to find it is the failure.
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
import signed_http  # noqa: E402

CREDENTIALS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)


# No grace, and only a moment for a put that is under way.
RECLAIM = ("--gc-grace", "0s", "--gc-horizon", "3s")
RECLAIM_BYTES = 768 << 20


class Kill:
    """The process ends, the machine does not."""

    name = "kill"

    def end(self, server):
        server.kill()


class Cut:
    """The machine ends."""

    name = "power cut"

    def __init__(self, disk):
        self.disk = disk

    def end(self, server):
        self.disk.cut()
        time.sleep(random.choice([0, 0.002, 0.02]))  # it may not notice anything wrong and promise more
        server.kill()
        self.disk.come_back()


class Cycles:
    def __init__(self, fault, directory, log, seed, arguments=()):
        self.fault, self.directory, self.log, self.seed = fault, directory, log, seed
        self.arguments = arguments
        self.record = load.Record()
        self.server = self.new_server()

    def new_server(self):
        return cairn_server.Server(self.directory, self.arguments, log=self.log)

    def prepare(self):
        self.server.start()
        client = signed_http.Client(self.server.port, CREDENTIALS)
        answer = client.request("PUT", f"/{load.BUCKET}")
        client.close()
        assert answer.status == 200, answer

    def load_seconds(self, chance):
        """How long the load lasts before the end comes."""
        return chance.uniform(0.5, 1.3)

    def cycle(self, number):
        """Problems of one cycle."""
        chance = random.Random(f"{self.seed}-{number}")
        answers = self.record.answers
        workers, threads = load.run_load(self.record, self.server.port, CREDENTIALS, f"{self.seed}-{number}")
        time.sleep(self.load_seconds(chance))
        for w in workers:
            w.cut.set()
        problems = [p for w in workers for p in w.problems]
        if not self.server.is_running():
            problems.append(f"the server ended by itself:\n{self.server.log_tail()}")
        self.fault.end(self.server)
        for w in workers:
            w.stop.set()
        for t in threads:
            t.join(30)
            if t.is_alive():
                problems.append(f"{t.name} hangs")
        # What came to light in answers given after the cut counts too; lost connections then do not.
        problems += [p for w in workers for p in w.problems if p not in problems]
        if chance.random() < 0.25:
            self.server = self.new_server()
            self.server.spawn()
            time.sleep(chance.uniform(0.0, 0.25))
            self.fault.end(self.server)
        self.server = self.new_server()
        begun = time.monotonic()
        self.server.start()
        ready = time.monotonic() - begun
        problems += load.verify(self.record, self.server.port, CREDENTIALS)
        there = sum(1 for k in self.record.keys.values() if k.writes[0].value is not None)
        print(
            f"{self.fault.name} {number}: {self.record.answers - answers} answers, ready again in {ready:.2f} s, "
            f"{there} objects there, {len(problems)} problems",
            flush=True,
        )
        if self.record.answers - answers < 100:
            problems.append("hardly any answers: this cycle has tested nothing")
        return problems

    def finish(self):
        """Stops in order and checks."""
        problems = []
        if self.server.stop() != 0:
            problems.append(f"it did not stop in order:\n{self.server.log_tail()}")
        code, output = cairn_server.check(self.directory)
        if code != 0:
            problems.append(f"cairn check: {output[-3000:]}")
        return problems


def run_cycles(fault, count, place, data, arguments):
    """Passed and failed cycles, and the problems; stops at the first cycle that fails."""
    log = f"{place}/{fault.name}.log"
    cycles = Cycles(fault, data, log, arguments.seed, RECLAIM if arguments.reclaim else ())
    passed = 0
    try:
        cycles.prepare()
        for number in range(1, count + 1):
            problems = cycles.cycle(number)
            if problems:
                show(problems)
                return passed, 1, problems
            passed += 1
        problems = cycles.finish()
        if arguments.reclaim:
            problems += check_reclaimed(log)
        show(problems)
        return passed + (not problems), int(bool(problems)), problems
    except (AssertionError, OSError) as e:
        problems = [f"{type(e).__name__}: {e}"]
        show(problems)
        return passed, 1, problems
    finally:
        cycles.server.kill()


def check_reclaimed(log):
    with open(log, encoding="utf-8", errors="replace") as f:
        text = f.read()
    needles, compacted = (sum(map(int, re.findall(rf"{what}: (\d+)", text))) for what in ("needles", "compacted"))
    print(f"{needles} needles dropped, {compacted} extents compacted meanwhile", flush=True)
    return [] if needles else ["nothing was dropped: this has tested nothing"]


def show(problems, limit=12):
    for problem in problems[:limit]:
        print(f"  PROBLEM: {problem}", flush=True)
    if len(problems) > limit:
        print(f"  ... {len(problems)} problems", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=22)
    parser.add_argument("--cuts", type=int, default=22)
    parser.add_argument("--cached", action="store_true", help="cut below the device's own cache, where direct writes wait")
    parser.add_argument("--seed", default="cairn")
    parser.add_argument("--expect-loss", action="store_true")
    parser.add_argument("--reclaim", action="store_true")
    arguments = parser.parse_args()
    # Devices and mounts are given back when we are told to go, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    place = cairn_server.test_dir("crash")
    passed = failed = 0
    problems = []
    if arguments.kills:
        p, f, found = run_cycles(Kill(), arguments.kills, place, place + "/data", arguments)
        passed, failed, problems = passed + p, failed + f, problems + found
    if arguments.cuts:
        kind = power.CachedDisk if arguments.cached else power.Disk
        with kind(place, RECLAIM_BYTES if arguments.reclaim else power.BYTES) as disk:
            p, f, found = run_cycles(Cut(disk), arguments.cuts, place, disk.mount_point + "/data", arguments)
            passed, failed, problems = passed + p, failed + f, problems + found
    if arguments.expect_loss:
        # Not any failure will do: an answered write must be seen to be gone, or what is there of it, or all there is, told to be no good.
        losses = [p for p in problems if "allowed:" in p or re.match("GET .*: <500 ", p) or "\ncairn: corrupt: " in p]
        print(f"{len(losses)} losses were found, as they must be" if losses else "NOT FOUND: a sync is left out and no loss was noticed")
        passed, failed = int(bool(losses)), int(not losses)
    if failed == 0:
        shutil.rmtree(place)
    else:
        print(f"kept to be looked at: {os.path.relpath(place)}")
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
