"""Flipped bytes against the real binary: one byte of a stopped store, or of one that was killed after a second of rest, is another; then the binary is started on it.

It must not start and say where, or serve; then every GET, HEAD, LIST and listing of versions is right or a 5xx error whose place is in the log: never other bytes, never a missing key,
never a panic. Where it is not right `cairn check` names a place, too.

Without --seconds: every byte ever written of a store of less than 256 KiB, left both ways (half a million, with index and journal); 1,000 bytes that were preallocated and never written; 10,000 bytes of a large store, of each
sort of file as many. That is a night's work; --every takes every n-th byte of the small store, and --workers shares it out. With --seconds: a sample of all that, and of each sort of file
at least FLOOR, however long it takes.

The same for every byte of a small store, in one process: crates/sim/tests/flips.
"""

import argparse
import collections
import hashlib
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import cairn_server  # noqa: E402
import signed_http  # noqa: E402

CREDENTIALS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
PLACES = ("index/", "index-catalogue", "journal", "extent", "superblock", "lock")
BLOCK = 4096
SMALL_BYTES_MAX = 256 << 10
FLOOR = 6
# Kept twice: a start goes on with the other copy.
TWICE = ("superblock", "index-catalogue")


def body(key, length):
    return random.Random(f"{key} {length}").randbytes(length)


def sizes(large):
    few = {"plain/inline": 300, "plain/small": 4_000, "plain/dir/a": 70_000, "kept/twice": 900}
    many = {f"plain/many/{n:04}": 100 + 37 * n % 5_000 for n in range(600)}
    return {**few, "plain/big": 3_000_000, **many} if large else few


class Store:
    """A directory as it was left, and what it must answer."""

    def __init__(self, base, large, stopped):
        self.kind = f"{'large' if large else 'small'}, {'stopped' if stopped else 'killed after a second'}"
        self.large = large
        self.directory = os.path.join(base, self.kind.replace(", ", "-").replace(" ", "-"))
        server = cairn_server.Server(self.directory).start()
        client = signed_http.Client(server.port, CREDENTIALS)
        for bucket in ("plain", "kept"):
            expect(client.request("PUT", f"/{bucket}"), 200)
        versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        expect(client.request("PUT", "/kept", [("versioning", "")], versioning), 200)
        for key, length in sizes(large).items():
            bucket, _, name = key.partition("/")
            path = signed_http.object_path(bucket, name)
            expect(client.request("PUT", path, body=body(key, length)), 200)
        expect(client.request("PUT", "/kept/twice", body=body("kept/twice", 10)), 200)
        self.keys = list(sizes(large))
        self.right = ask(client, self.keys)
        client.close()
        if stopped:
            assert server.stop() == 0
        else:
            time.sleep(1)
            server.kill()

    def written(self):
        """(file, start, end) of what was written, and of what was only allocated."""
        written, never = [], []
        for top, _, names in os.walk(self.directory):
            for name in names:
                path = os.path.join(top, name)
                if name == "root-key" or not os.path.isfile(path):
                    continue  # no format of ours: it is text; the operator's socket
                holes(path, os.path.getsize(path), written, never)
        return written, never


def holes(path, length, written, never):
    with open(path, "rb") as f:
        at = 0
        while at < length:
            try:
                data = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                data = length
            if data > at:
                never.append((path, at, data))
            end = os.lseek(f.fileno(), data, os.SEEK_HOLE) if data < length else length
            for start in range(data, end, 1 << 20):
                split_zeroes(f, path, (start, min(end, start + (1 << 20))), written, never)
            at = end


def split_zeroes(f, path, span, written, never):
    """Blocks of zeroes count as never written: what was zeroed ahead."""
    f.seek(span[0])
    block = f.read(span[1] - span[0])
    for n in range(0, len(block), BLOCK):
        piece = block[n : n + BLOCK]
        into = written if any(piece) else never
        into.append((path, span[0] + n, span[0] + n + len(piece)))


def expect(answer, status):
    if answer.status != status:
        raise AssertionError(f"{answer}")


def ask(client, keys):
    """What is asked and what came: status, and a digest of what matters of it."""
    asked = {}

    def one(what, method, path, query=()):
        try:
            answer = client.request(method, path, query)
            headers = {k.lower(): v for k, v in dict(answer.headers).items()}
            said = [headers.get(k) for k in ("etag", "content-length", "last-modified", "x-amz-version-id")]
            asked[what] = (answer.status, hashlib.sha256(answer.body).hexdigest(), said if answer.status < 300 else None, answer.body[:400])
        except (OSError, signed_http.http.client.HTTPException) as e:
            client.close()
            asked[what] = ("cut", None, None, repr(e).encode())

    one("buckets", "GET", "/")
    for key in keys:
        bucket, _, name = key.partition("/")
        path = signed_http.object_path(bucket, name)
        one(f"GET {key}", "GET", path)
        one(f"HEAD {key}", "HEAD", path)
    for bucket in ("plain", "kept"):
        one(f"LIST {bucket}", "GET", f"/{bucket}", [("list-type", "2")])
        one(f"LIST {bucket} /", "GET", f"/{bucket}", [("list-type", "2"), ("delimiter", "/")])
        one(f"VERSIONS {bucket}", "GET", f"/{bucket}", [("versions", "")])
    return asked


def verdict(store, directory, log):
    """Starts on a damaged copy; answers (outcome, complaints)."""
    server = cairn_server.Server(directory, log=log)
    try:
        server.start()
    except AssertionError:
        told = server.log_tail()
        server.kill()
        if "Address already in use" in told:
            return None, []  # another worker was quicker to take the port
        return "refused", complaints(told, ("it did not start",))
    client = signed_http.Client(server.port, CREDENTIALS)
    few = list(sizes(True))[:5]
    keys = store.keys if len(store.keys) < 50 else few + random.sample(store.keys, 45)
    found = ask(client, keys)
    client.close()
    running = server.is_running()
    # An orderly end takes its time: now and then.
    server.stop() if running and random.random() < 0.1 else server.kill()
    told = open(log, encoding="utf-8", errors="replace").read()
    wrong = [] if running else ["it ended by itself"]
    errors = []
    for what, answer in found.items():
        right = store.right[what]
        if answer[:3] == right[:3]:
            continue
        # A body that breaks off is an error, too: nothing after the bad block was sent.
        if answer[0] == "cut" or answer[0] >= 500:
            errors.append(what)
        else:
            wrong.append(f"{what}: {answer[0]} {answer[3]!r}, not {right[0]} {right[3][:60]!r}")
    return ("told" if errors else "right"), wrong + complaints(told, errors)


def complaints(log, errors):
    wrong = []
    if "panicked" in log:
        wrong.append("a panic:\n" + log[-3000:])
    if errors and not any(place in log for place in PLACES):
        wrong.append(f"{errors[0]}: no place in the log:\n" + log[-1000:])
    return wrong


def copy_of(store, at, base):
    """The directory with one byte another."""
    copy = os.path.join(base, "copy")
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["cp", "-a", "--sparse=always", "--reflink=auto", store.directory, copy], check=True)
    path, byte, mask = at
    with open(os.path.join(copy, os.path.relpath(path, store.directory)), "r+b") as f:
        f.seek(byte)
        old = f.read(1)[0]
        f.seek(byte)
        f.write(bytes([old ^ mask]))
    return copy


def flip(store, at, base):
    log = os.path.join(base, "copy.log")
    if os.path.exists(log):
        os.remove(log)
    outcome = None
    while outcome is None:
        outcome, wrong = verdict(store, copy_of(store, at, base), log)
    twice = kind_of(at[0]) in TWICE
    if twice and outcome != "right":
        wrong.append(f"{outcome}, though it is kept twice")
    if kind_of(at[0]) == "superblock" and "superblock: the copy at byte" not in open(log, encoding="utf-8", errors="replace").read():
        wrong.append("the log does not say which copy is bad")
    if outcome == "right" and random.random() > 0.05:
        return outcome, wrong
    code, told = cairn_server.check(copy_of(store, at, base))
    if "panicked" in told:
        wrong.append("cairn check panics:\n" + told[-2000:])
    if outcome != "right" and (code == 0 or not any(place in told for place in PLACES)):
        wrong.append(f"cairn check answers {code} and names no place:\n" + told[-1000:])
    return outcome, wrong


def mask_of(dice):
    """One bit, or any of the byte's."""
    return 1 << dice.randrange(8) if dice.random() < 0.5 else dice.randrange(1, 256)


def by_kind(spans):
    kinds = collections.defaultdict(list)
    for span in spans:
        kinds[kind_of(span[0])].append(span)
    return kinds


def some_of(dice, kinds):
    """A byte of each sort of file as often as of another: else the largest are all that is met."""
    path, start, end = dice.choice(kinds[dice.choice(sorted(kinds))])
    return path, dice.randrange(start, end), mask_of(dice)


def every(dice, spans, step):
    """Every step-th byte, in an order without order: what is cut short is a sample."""
    places = [(path, byte, mask_of(dice)) for path, start, end in spans for byte in range(start, end)]
    places = places[dice.randrange(step) :: step]
    dice.shuffle(places)
    return places


def kind_of(path):
    name = os.path.basename(os.path.dirname(path))
    return name if name in ("index", "extents") else os.path.basename(path)


def all_places(dice, stores, arguments):
    """(sort of place, store, place) for all that is to be done."""
    todo = []
    for n, store in enumerate(stores):
        written, never = store.written()
        if store.large:
            count, kinds = arguments.large // 2, by_kind(written)
            todo += [("large", n, some_of(dice, kinds)) for _ in range(count)]
            continue
        assert sum(sizes(False).values()) <= SMALL_BYTES_MAX, "a small store"
        todo += [("small", n, at) for at in every(dice, written, arguments.every)]
        kinds = by_kind(never)
        todo += [("never written", n, some_of(dice, kinds)) for _ in range(arguments.never // 2)]
    dice.shuffle(todo)
    return todo


def sample(dice, stores):
    """Without end; first FLOOR of each sort of file, of each store."""
    kinds = [tuple(by_kind(spans) for spans in store.written()) for store in stores]
    for n, (written, never) in enumerate(kinds):
        for kind in sorted(written):
            for _ in range(FLOOR // 2):
                yield "floor", n, some_of(dice, {kind: written[kind]})
        yield "floor", n, some_of(dice, never)
    while True:
        n = dice.randrange(len(stores))
        sort = "never written" if dice.random() < 0.1 else "large" if stores[n].large else "small"
        yield sort, n, some_of(dice, kinds[n][sort == "never written"])


def work(job):
    stores, base, number, places, until = job
    random.seed(number)
    base = os.path.join(base, f"worker-{number}")
    os.makedirs(base, exist_ok=True)
    table, wrong = collections.Counter(), []
    for sort, n, at in places:
        if until and sort != "floor" and time.time() > until:
            break
        kind = kind_of(at[0])
        try:
            outcome, bad = flip(stores[n], at, base)
        except Exception as e:  # of the harness: told, and no outcome
            outcome, bad = "harness", [repr(e)]
        table[(sort, kind, outcome)] += 1
        where = f"{os.path.relpath(at[0], stores[n].directory)} byte {at[1]} ^ {at[2]:#04x} of a {stores[n].kind} store"
        wrong += [f"{where}: {why}" for why in bad]
        if bad:
            print(f"WRONG {wrong[-1]}", flush=True)
        if sum(table.values()) % 500 == 0:
            print(f"worker {number}: {dict(collections.Counter(k[2] for k in table.elements()))}", flush=True)
    return table, wrong


def too_few(table):
    """What a sample must have met to say anything: each sort of file, and damage that was noticed."""
    kinds, outcomes = collections.Counter(), collections.Counter()
    for (_, kind, outcome), count in table.items():
        kinds[kind] += count
        outcomes[(kind, outcome != "right")] += count
    few = [f"{kinds[kind]} flips in {kind}" for kind in ("index", "extents", "journal", "superblock", "index-catalogue") if kinds[kind] < FLOOR]
    few += [f"no flip in {kind} was noticed" for kind in ("index", "extents") if not outcomes[(kind, True)]]
    few += [f"every flip in {kind} was noticed" for kind in ("index", "journal", "index-catalogue") if not outcomes[(kind, False)]]
    return few


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, help="a sample, for so long")
    arguments.add_argument("--minutes", type=float, help="all, but no longer than that: what was done is told")
    arguments.add_argument("--every", type=int, default=1, help="every n-th byte of the small store")
    arguments.add_argument("--never", type=int, default=1_000, help="preallocated bytes")
    arguments.add_argument("--large", type=int, default=10_000, help="bytes of the large store")
    arguments.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    arguments = arguments.parse_args()
    dice = random.Random(arguments.seed)
    base = cairn_server.test_dir("flips")
    stores = [Store(base, large, stopped) for large in (False, True) for stopped in (True, False)]
    if arguments.seconds:
        until = time.time() + arguments.seconds
        todo = None
        table, wrong = work((stores, base, 0, sample(dice, stores), until))
        wrong += too_few(table)
    else:
        until = time.time() + 60 * arguments.minutes if arguments.minutes else None
        todo = all_places(dice, stores, arguments)
        parts = [(stores, base, n, todo[n :: arguments.workers], until) for n in range(arguments.workers)]
        with multiprocessing.Pool(arguments.workers) as pool:
            done = pool.map(work, parts, chunksize=1)
        table = sum((one for one, _ in done), collections.Counter())
        wrong = [why for _, all_wrong in done for why in all_wrong]
    flips = sum(table.values())
    print(f"{flips} flips{f' of {len(todo)}' if todo else ''}, seed {arguments.seed}")
    for (sort, kind, outcome), count in sorted(table.items()):
        print(f"  {sort:13} {kind:16} {outcome:8} {count}")
    for why in wrong[:20]:
        print(f"WRONG {why}")
    if not wrong:
        shutil.rmtree(base, ignore_errors=True)
    print(f"{flips - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong or flips == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
