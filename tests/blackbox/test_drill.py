"""The drill: a store under all its loads is copied twice while it serves, killed, restored elsewhere, and goes on there."""

import os
import random
import re
import shutil
import subprocess
import threading
import time

import pytest

import cairn_server
import signed_http
from conftest import make_client

KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
GARBAGE_GOES = ["--gc-grace", "100ms", "--gc-horizon", "100ms"]
PLAIN, VERSIONED = "plain", "versioned"
PART = 5 << 20
SIZES = [0, 100, 512, 513, 4_000, 70_000, 300_000]


def cairn(*arguments):
    done = subprocess.run([cairn_server.binary(), *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (arguments, done)
    return done.stdout


class Store:
    """What was acknowledged, by who put it: nobody else works on those keys."""

    def __init__(self, server, seed):
        self.client = signed_http.Client(server.port, KEYS)
        self.s3 = make_client(server)
        self.rng = random.Random(seed)
        self.seed = seed
        # Of the plain bucket: key to bytes. Of the other: key to its versions, newest first; None is a delete marker.
        self.plain, self.versions = {}, {}

    def body(self):
        return self.rng.randbytes(self.rng.choice(SIZES))

    def put(self, key, data):
        assert self.client.request("PUT", f"/{PLAIN}/{key}", body=data).status == 200
        self.plain[key] = data

    def delete(self, key):
        assert self.client.request("DELETE", f"/{PLAIN}/{key}").status == 204
        self.plain.pop(key, None)

    def put_parts(self, key):
        parts = [self.rng.randbytes(PART), self.rng.randbytes(1_000)]
        upload = self.s3.create_multipart_upload(Bucket=PLAIN, Key=key)["UploadId"]
        send = lambda n: self.s3.upload_part(Bucket=PLAIN, Key=key, UploadId=upload, PartNumber=n, Body=parts[n - 1])  # noqa: E731
        named = [{"PartNumber": n, "ETag": send(n)["ETag"]} for n in (1, 2)]
        self.s3.complete_multipart_upload(Bucket=PLAIN, Key=key, UploadId=upload, MultipartUpload={"Parts": named})
        self.plain[key] = b"".join(parts)

    def put_version(self, key):
        data = self.body()
        version = self.s3.put_object(Bucket=VERSIONED, Key=key, Body=data)["VersionId"]
        self.versions.setdefault(key, []).insert(0, (version, data))

    def delete_version(self, key):
        version = self.s3.delete_object(Bucket=VERSIONED, Key=key)["VersionId"]
        self.versions.setdefault(key, []).insert(0, (version, None))

    def step(self, n):
        """One of everything, some keys over and over, some once."""
        name = lambda what, many: f"{self.seed}/{what}/{n % many}"  # noqa: E731
        self.put(name("over", 7), self.body())
        self.put(f"{self.seed}/once/{n}", self.body())
        if n % 3 == 2:
            self.delete(name("over", 7))
        if n % 5 == 4:
            self.delete(f"{self.seed}/once/{n - 2}")
        if n % 12 == 6:
            self.put_parts(name("parts", 24))
        self.put_version(name("v", 4))
        if n % 6 == 5:
            self.delete_version(name("v", 4))


class Load(threading.Thread):
    """Goes on until it is told to stop, or its server is gone."""

    def __init__(self, server, seed):
        super().__init__(daemon=True)
        self.store, self.enough, self.failed, self.steps = Store(server, seed), threading.Event(), None, 0

    def run(self):
        try:
            while not self.enough.is_set():
                self.store.step(self.steps)
                self.steps += 1
        except Exception as e:
            self.failed = e


@pytest.fixture
def place():
    path = cairn_server.test_dir("drill")
    yield path
    shutil.rmtree(path)


def listed(s3):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=PLAIN)
    return {o["Key"]: o["Size"] for page in pages for o in page.get("Contents", [])}


def listed_versions(s3):
    """Key to versions, newest first: id, and whether it is a delete marker."""
    all_of = {}
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=VERSIONED):
        found = [(v["Key"], v["LastModified"], v["VersionId"], False) for v in page.get("Versions", [])]
        found += [(v["Key"], v["LastModified"], v["VersionId"], True) for v in page.get("DeleteMarkers", [])]
        for key, _, version, is_marker in found:
            all_of.setdefault(key, {})[version] = is_marker
    return all_of


def check_there(server, quiet):
    """All that was acknowledged before the backup began, and nothing else of these keys."""
    s3 = make_client(server)
    there = {key: size for key, size in listed(s3).items() if key.startswith(f"{quiet.seed}/")}
    assert there == {key: len(data) for key, data in quiet.plain.items()}
    for key, data in quiet.plain.items():
        assert s3.get_object(Bucket=PLAIN, Key=key)["Body"].read() == data, key
    versions = {key: of for key, of in listed_versions(s3).items() if key.startswith(f"{quiet.seed}/")}
    assert versions == {key: {v: data is None for v, data in of} for key, of in quiet.versions.items()}
    for key, of in quiet.versions.items():
        for version, data in of:
            if data is not None:
                got = s3.get_object(Bucket=VERSIONED, Key=key, VersionId=version)
                assert got["Body"].read() == data, (key, version)


def check_readable(server):
    """Everything that is listed reads, to its last byte: a checksum that fails breaks the answer off."""
    s3 = make_client(server)
    for key, size in listed(s3).items():
        assert len(s3.get_object(Bucket=PLAIN, Key=key)["Body"].read()) == size, key
    for key, versions in listed_versions(s3).items():
        for version in (version for version, is_marker in versions.items() if not is_marker):
            s3.get_object(Bucket=VERSIONED, Key=key, VersionId=version)["Body"].read()


def metric(server, name):
    found = re.search(rf"^{name} (\S+)", server.admin("/-/metrics")[1], re.M)
    return float(found.group(1)) if found else 0


def reclaimed(server):
    return sum(metric(server, f"cairn_gc_extents_{what}_total") for what in ("compacted", "removed"))


def test_a_store_is_restored_from_a_backup_that_was_made_under_load(place):
    server = cairn_server.Server(place + "/data", GARBAGE_GOES).start()
    restored, earlier = (cairn_server.Server(place + name, GARBAGE_GOES) for name in ("/restored", "/first"))
    try:
        s3 = make_client(server)
        for bucket in (PLAIN, VERSIONED):
            s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
        quiet, late = Store(server, "quiet"), Store(server, "late")
        loads = [Load(server, f"load{n}") for n in range(2)]
        for load in loads:
            load.start()
        for n in range(40):
            quiet.step(n)
        cairn("backup", place + "/data", place + "/backups")
        for n in range(12):
            late.step(n)
        cairn("backup", place + "/data", place + "/backups")
        steps = [load.steps for load in loads]
        assert min(steps) > 5, "it was made under load"
        server.kill()
        for load in loads:
            load.enough.set()
            load.join(60)
            assert load.steps > 0 and load.failed is not None, "the server was killed under it"

        said = cairn("restore", place + "/backups", place + "/restored")
        assert "DAMAGE" not in said and "Reclaim is held" in said, said
        code, said = cairn_server.check(place + "/restored")
        assert code == 0, said
        first = min(os.listdir(place + "/backups/snapshots")).split(".")[0] + ".manifest"
        cairn("restore", place + "/backups", place + "/first", "--backup", first)
        earlier.start()
        check_there(earlier, quiet)
        late.plain, late.versions, there = {}, {}, (late.plain, late.versions)
        check_there(earlier, late)
        check_readable(earlier)
        late.plain, late.versions = there
        restored.start()
        for store in (quiet, late):
            check_there(restored, store)
        check_readable(restored)
        # Held: what is deleted now stays where it is.
        again = Store(restored, "again")
        for n in range(20):
            again.step(n)
        check_there(restored, again)
        assert "by restore" in cairn("reclaim", "status", place + "/restored")
        assert metric(restored, "cairn_gc_held") == 1 and reclaimed(restored) == 0
        cairn("reclaim", "release", place + "/restored")
        until = time.monotonic() + 90
        while reclaimed(restored) == 0:
            assert time.monotonic() < until, restored.admin("/-/metrics")[1]
            time.sleep(0.5)
        for store in (quiet, late, again):
            check_there(restored, store)
        check_readable(restored)
        assert restored.stop() == 0
        code, said = cairn_server.check(place + "/restored")
        assert code == 0 and "clean" in said, said
    finally:
        server.kill()
        restored.kill()
        earlier.kill()
