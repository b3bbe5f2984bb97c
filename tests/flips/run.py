"""Flipped bytes against the real binary: one byte of a stopped store, or of one that was killed after a second of rest, is another; then the binary is started on it.

It must not start and say where, or serve; then every GET, HEAD, LIST and listing of versions is right or a 5xx error whose place is in the log: never other bytes, never a missing key,
never a panic. Where it is not right `cairn check` names a place, too. Half of the flips are in a small store, half in a large one. Bytes that were preallocated and never written are taken too, one in ten.

The same for every byte of a small store, in one process: crates/sim/tests/flips.
"""

import argparse
import collections
import hashlib
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
                if name == "root-key":
                    continue  # no format of ours: it is text
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
        return "refused", complaints(told, ("it did not start",))
    client = signed_http.Client(server.port, CREDENTIALS)
    keys = store.keys if len(store.keys) < 50 else random.sample(store.keys, 50)
    found = ask(client, keys)
    client.close()
    running = server.is_running()
    server.stop() if running else server.kill()
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


def flip(store, at, base):
    copy = os.path.join(base, "copy")
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["cp", "-a", "--sparse=always", "--reflink=auto", store.directory, copy], check=True)
    path, byte, bit = at
    with open(os.path.join(copy, os.path.relpath(path, store.directory)), "r+b") as f:
        f.seek(byte)
        old = f.read(1)[0]
        f.seek(byte)
        f.write(bytes([old ^ (1 << bit)]))
    log = os.path.join(base, "copy.log")
    if os.path.exists(log):
        os.remove(log)
    code, told = cairn_server.check(copy)
    outcome, wrong = verdict(store, copy, log)
    if "panicked" in told:
        wrong.append("cairn check panics:\n" + told[-2000:])
    if outcome != "right" and (code == 0 or not any(place in told for place in PLACES)):
        wrong.append(f"cairn check answers {code} and names no place:\n" + told[-1000:])
    return outcome, wrong


def choose(dice, written, never):
    spans = never if never and dice.random() < 0.1 else written
    # Each sort of file as often as another: else the largest are all that is met.
    by_kind = collections.defaultdict(list)
    for span in spans:
        by_kind[kind_of(span[0])].append(span)
    path, start, end = dice.choice(by_kind[dice.choice(sorted(by_kind))])
    return path, dice.randrange(start, end), dice.randrange(8)


def kind_of(path):
    name = os.path.basename(os.path.dirname(path))
    return name if name in ("index", "extents") else os.path.basename(path)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=40, help="how long")
    arguments.add_argument("--flips", type=int, default=10_000, help="how many at most")
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    arguments = arguments.parse_args()
    dice = random.Random(arguments.seed)
    base = cairn_server.test_dir("flips")
    stores = [Store(base, large, stopped) for large in (False, True) for stopped in (True, False)]
    spans = [store.written() for store in stores]
    table, wrong, flips = collections.Counter(), [], 0
    until = time.monotonic() + arguments.seconds
    while flips < arguments.flips and time.monotonic() < until:
        n = flips % len(stores)
        at = choose(dice, *spans[n])
        outcome, bad = flip(stores[n], at, base)
        table[(kind_of(at[0]), outcome)] += 1
        where = f"{os.path.relpath(at[0], stores[n].directory)} byte {at[1]} bit {at[2]} of a {stores[n].kind} store"
        wrong += [f"{where}: {why}" for why in bad]
        flips += 1
    print(f"{flips} flips, seed {arguments.seed}")
    for (kind, outcome), count in sorted(table.items()):
        print(f"  {kind:16} {outcome:8} {count}")
    for why in wrong[:20]:
        print(f"WRONG {why}")
    if not wrong:
        shutil.rmtree(base, ignore_errors=True)
    print(f"{flips - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong or flips == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
