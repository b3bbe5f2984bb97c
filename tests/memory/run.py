"""The budget of memory at its full size: `--memory 512MiB`, and what the store's resident memory comes to.

One transfer: the peak of a put of 5 GiB and of an upload of 8 GiB in parts, and of getting them, beside those of 64 MiB.
The storm: 256 connections with puts and gets of 64 MiB, the listing of a million keys, connections at rest by the thousand, and stalled ones, all at once.
At rest: after the storm and a while, and after a kill and a start.
Its disk use stays under 16 GiB; its directory is removed.
"""

import argparse
import itertools
import os
import re
import resource
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import cairn_server  # noqa: E402
import signed_http  # noqa: E402
from memory import fleet  # noqa: E402

MIB = 1 << 20
GIB = 1 << 30
BUDGET = 512 * MIB
PEAK_MAX = 640 * MIB
OVER_ONE_MAX = 16 * MIB
AT_REST_MAX = 64 * MIB
CREDENTIALS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
FAILED = []


def told(holds, what):
    print(f"{'ok    ' if holds else 'FAILED'} {what}")
    FAILED.extend([] if holds else [what])


class Store:
    running = None

    def __init__(self, directory):
        # What was deleted goes at once: the disk need not hold it.
        arguments = ["--memory", f"{BUDGET // MIB}MiB", "--gc-grace", "1s", "--log", "warn"]
        self.server = Store.running = cairn_server.Server(directory, arguments).start()
        self.fleet = fleet.Fleet(self.server.port, CREDENTIALS)

    def request(self, *arguments):
        """On a connection of its own: one that rests for as long as a large upload takes is closed."""
        client = signed_http.Client(self.server.port, CREDENTIALS, timeout=120)
        try:
            return client.request(*arguments)
        finally:
            client.close()

    def resident(self, what):
        with open(f"/proc/{self.server.process.pid}/status", encoding="ascii") as f:
            return int(re.search(what + r":\s+(\d+) kB", f.read()).group(1)) << 10

    def forget_peak(self):
        with open(f"/proc/{self.server.process.pid}/clear_refs", "w", encoding="ascii") as f:
            f.write("5")

    def run(self, *requests, patience=300):
        for each in requests:
            self.fleet.launch(iter(each))
        self.fleet.run(patience=patience)

    def end(self):
        code = self.server.stop(120)
        told(code == 0, f"it ends in order ({code})")


def put(name, size, query=()):
    return fleet.Request("PUT", f"/memory/{name}", query, bytes_out=size)


def get(name, size):
    return fleet.Request("GET", f"/memory/{name}", bytes_in=size)


def upload(store, name, size, part_bytes):
    """An upload in parts, one after the other."""
    path = f"/memory/{name}"
    begun = store.request("POST", path, [("uploads", "")])
    upload = begun.body.split(b"<UploadId>")[1].split(b"</UploadId>")[0].decode()
    etags = []
    parts = (put(name, part_bytes, [("partNumber", str(n + 1)), ("uploadId", upload)]) for n in range(size // part_bytes))

    def with_etags():
        for part in parts:
            part.then = lambda connection: etags.append(connection.headers["etag"])
            yield part

    store.run(with_etags())
    listed = "".join(f"<Part><PartNumber>{n + 1}</PartNumber><ETag>{e}</ETag></Part>" for n, e in enumerate(etags))
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    done = store.request("POST", path, [("uploadId", upload)], body)
    assert done.status == 200 and b"<ETag>" in done.body, done


def one_transfer(place, arguments):
    peaks = {}
    large = int(5 * GIB * arguments.scale) // MIB * MIB
    parts = int(8 * GIB * arguments.scale) // (16 * MIB) * 16 * MIB
    for name, size in [("64 MiB", 64 * MIB), ("a large put", large), ("parts", parts)]:
        directory = f"{place}/{name.replace(' ', '-')}"
        store = Store(directory)
        assert store.request("PUT", "/memory").status == 200
        store.forget_peak()
        if name == "parts":
            upload(store, "o", size, 16 * MIB)
        else:
            store.run([put("o", size)])
        peaks[name, "put"] = store.resident("VmHWM")
        store.forget_peak()
        store.run([get("o", size)])
        peaks[name, "get"] = store.resident("VmHWM")
        for act in ["put", "get"]:
            peak = peaks[name, act]
            over = peak - peaks["64 MiB", act]
            told(over <= OVER_ONE_MAX, f"{act} of {size / GIB:.2f} GiB ({name}): peak {peak / MIB:.0f} MiB, {over / MIB:+.0f} MiB to 64 MiB's")
        store.end()
        shutil.rmtree(directory)


def fill(store, keys):
    """So many small objects, by many connections."""
    numbers = iter(range(keys))
    store.run(*[(put(f"k/{n:09}", n % 100) for n in numbers) for _ in range(64)])


def walk(store, keys):
    """The listing of all of them, page by page."""
    seen, after = 0, [("list-type", "2"), ("prefix", "k/")]
    token = None
    documents = []

    def pages():
        nonlocal token, seen
        while True:
            query = after + ([("continuation-token", token)] if token else [])
            yield fleet.Request("GET", "/memory", query, then=lambda c: documents.append(bytes(c.document)))
            document = documents.pop().decode()
            seen += document.count("<Key>")
            more = re.search(r"<NextContinuationToken>([^<]+)<", document)
            if more is None:
                break
            token = more.group(1)
        told(seen == keys, f"the listing has {seen} of {keys} keys")

    return pages()


def stalled(store, number):
    """A third each: half a head, half a body, an answer that is not taken."""
    raw = signed_http.Raw(store.server.port)
    kind = number % 3
    method, path = ("GET", "/memory/o0") if kind == 2 else ("PUT", f"/memory/s{number}")
    signed = signed_http.sign(CREDENTIALS, method, path, f"127.0.0.1:{store.server.port}")
    headers = dict(signed.headers, **({"content-length": 64 * MIB} if kind < 2 else {}))
    head = signed_http.head_bytes(method, path, headers)
    raw.send(head[:-20] if kind == 0 else head + (fleet.PATTERN[:200_000] if kind == 1 else b""))
    return raw


def storm(place, arguments):
    filled = f"{place}/filled-{arguments.keys}"
    store = Store(place + "/storm")
    if not os.path.exists(filled):
        assert store.request("PUT", "/memory").status == 200
        begun = time.monotonic()
        fill(store, arguments.keys)
        print(f"       {arguments.keys} objects in {time.monotonic() - begun:.0f} s; resident {store.resident('VmRSS') / MIB:.0f} MiB")
        at_rest(store, "after so many puts")
        os.mknod(filled)
    store.run(*[[put(f"o{i}", 64 * MIB)] for i in range(8)])
    store.forget_peak()
    rest = []
    for _ in range(arguments.idle):
        client = signed_http.Client(store.server.port, CREDENTIALS)
        assert client.request("HEAD", "/memory/o0").status == 200
        rest.append(client)
    print(f"       {len(rest)} connections at rest; resident {store.resident('VmRSS') / MIB:.0f} MiB")
    slow = [stalled(store, n) for n in range(arguments.stalled)]
    before = store.fleet.counts["slow down"]
    begun = time.monotonic()
    half = arguments.connections // 2
    puts = ([put(f"p{i % 32}", 64 * MIB)] for i in range(half))
    gets = ([get(f"o{i % 8}", 64 * MIB)] for i in range(arguments.connections - half))
    store.run(*itertools.chain(puts, gets, [walk(store, arguments.keys)]))
    took = time.monotonic() - begun
    peak = store.resident("VmHWM")
    slowed = store.fleet.counts["slow down"] - before
    told(
        peak <= PEAK_MAX,
        f"{arguments.connections} connections with 64 MiB each, {len(rest)} at rest, {len(slow)} stalled, a listing: "
        f"peak {peak / MIB:.0f} MiB in {took:.0f} s, {slowed} times told to slow down, "
        f"{store.fleet.counts['timed out']} timed out, {dict(store.fleet.broken)} broken",
    )
    for raw in slow:
        raw.socket.close()
    for client in rest:
        client.close()
    at_rest(store, "after the storm")
    store.server.kill()
    store = Store(place + "/storm")
    at_rest(store, "after a kill and a start")
    store.end()


def at_rest(store, when):
    time.sleep(40)
    resident = store.resident("VmRSS")
    told(resident <= AT_REST_MAX, f"at rest {when}: {resident / MIB:.0f} MiB resident")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--stalled", type=int, default=1_000)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--scale", type=float, default=1.0, help="of the large put and upload")
    parser.add_argument("--only", choices=["one", "storm"])
    parser.add_argument("--kept", help="a directory for the store of the storm, which stays, and is not filled again")
    arguments = parser.parse_args()
    wanted = arguments.idle + arguments.stalled + arguments.connections + 1_000
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit < wanted:
        sys.exit(f"FAILED: {wanted} descriptors are needed and the hard limit is {limit} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    place = arguments.kept or cairn_server.test_dir("memory")
    os.makedirs(place, exist_ok=True)
    try:
        if arguments.only != "storm":
            one_transfer(place, arguments)
        if arguments.only != "one":
            storm(place, arguments)
    finally:
        if Store.running:
            Store.running.kill()
        if not arguments.kept:
            shutil.rmtree(place, ignore_errors=True)
    print(f"{0 if FAILED else 1} passed, {len(FAILED)} failed")
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
