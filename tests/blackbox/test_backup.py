"""Backups of a store that serves, and what becomes of them: restored, broken off, damaged, made again, and the index alone."""

import glob
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import boto3
import botocore.config
import pytest

import cairn_server
import signed_http
from stored_bytes import find_bytes

KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
BUCKET = "backed-up"
GARBAGE_GOES = ["--gc-grace", "100ms", "--gc-horizon", "100ms"]


def cairn(*arguments, code=0):
    """What a command of the program said; it ends with `code`."""
    done = subprocess.run([cairn_server.binary(), *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, (arguments, done)
    return done.stdout + done.stderr


def body(key, size):
    """Bytes that say whose they are."""
    return random.Random(f"{key} {size}").randbytes(size)


class Place:
    def __init__(self, path):
        self.data, self.dest, self.again = path + "/data", path + "/backups", path + "/restored"
        self.servers = []

    def start(self, directory=None, arguments=()):
        server = cairn_server.Server(directory or self.data, list(arguments))
        self.servers.append(server)
        return server.start()

    def backup(self, *arguments, code=0):
        return cairn("backup", self.data, self.dest, *arguments, code=code)

    def copied(self, *arguments):
        """How many extents a backup copied and how many it found there."""
        said = self.backup(*arguments)
        return tuple(int(n) for n in re.search(r"\((\d+) copied now, (\d+) there since before\)", said).groups())


@pytest.fixture
def place():
    path = cairn_server.test_dir("backup")
    made = Place(path)
    yield made
    for server in made.servers:
        server.kill()
    shutil.rmtree(path)


def client(server):
    return signed_http.Client(server.port, KEYS)


def put(server_or_client, key, size):
    c = server_or_client if isinstance(server_or_client, signed_http.Client) else client(server_or_client)
    answer = c.request("PUT", f"/{BUCKET}/{key}", body=body(key, size))
    assert answer.status == 200, (key, answer.status)


def s3(server):
    config = botocore.config.Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"})
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=cairn_server.ACCESS_KEY,
        aws_secret_access_key=cairn_server.SECRET_KEY,
        region_name="us-east-1",
        config=config,
    )


def everything(server):
    """Every object by boto3: key to bytes."""
    c = s3(server)
    pages = c.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [o["Key"] for page in pages for o in page.get("Contents", [])]
    return {key: c.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def status(directory):
    return cairn("reclaim", "status", directory)


class Load(threading.Thread):
    """Puts, overwrites and deletes until it is told to stop."""

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.server, self.number = server, number
        self.enough = threading.Event()
        self.sizes, self.failed = {}, None

    def run(self):
        try:
            c, rng, n = client(self.server), random.Random(self.number), 0
            while not self.enough.is_set():
                key = f"during/{self.number}/{n % 40}"
                size = rng.choice([100, 3_000, 20_000, 200_000, 900_000])
                self.sizes.setdefault(key, set()).add(size)
                put(c, key, size)
                if n % 5 == 4:
                    assert c.request("DELETE", f"/{BUCKET}/{key}").status == 204
                n += 1
        except Exception as e:
            self.failed = e


def test_what_was_acknowledged_before_is_in_it_and_what_came_during_is_whole_or_absent(place):
    server = place.start(arguments=GARBAGE_GOES)
    c = client(server)
    assert c.request("PUT", f"/{BUCKET}").status == 200
    before = {f"before/{n}": [0, 17, 600, 5_000, 150_000, 2_500_000][n % 6] + n for n in range(120)}
    loads = [Load(server, number) for number in range(3)]
    for load in loads:
        load.start()
    for key, size in before.items():
        put(c, key, size)
    upload = s3(server).create_multipart_upload(Bucket=BUCKET, Key="multipart")["UploadId"]
    parts = []
    for number in (1, 2):
        part = s3(server).upload_part(
            Bucket=BUCKET, Key="multipart", UploadId=upload, PartNumber=number, Body=body("multipart", 5 << 20)
        )
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    said = place.backup()
    assert "rows" in said and "extents" in said, said
    for load in loads:
        load.enough.set()
        load.join(60)
        assert load.failed is None, load.failed
    assert "not held" in status(place.data), "it was let go with the backup's end"
    server.kill()
    said = cairn("restore", place.dest, place.again)
    assert "Reclaim is held" in said, said
    code, said = cairn_server.check(place.again)
    assert code == 0, said
    assert "by restore: restored from a backup of 20" in said, said
    restored = place.start(place.again, GARBAGE_GOES)
    assert "by restore" in status(place.again)
    found = everything(restored)
    for key, size in before.items():
        assert found.pop(key) == body(key, size), key
    sizes = {key: sizes for load in loads for key, sizes in load.sizes.items()}
    for key, bytes_of in found.items():
        assert any(bytes_of == body(key, size) for size in sizes[key]), key
    # It goes on: the upload is there, new objects are taken, and reclaim once it is let go.
    done = s3(restored).complete_multipart_upload(
        Bucket=BUCKET, Key="multipart", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    assert done["ETag"].endswith('-2"')
    put(restored, "after", 70_000)
    assert "not held" in cairn("reclaim", "release", place.again)
    until = time.monotonic() + 60
    while not re.search(r"^cairn_gc_extents_compacted_total [1-9]", restored.admin("/-/metrics")[1], re.M):
        assert time.monotonic() < until, "what was deleted is reclaimed again"
        time.sleep(0.5)
    found = everything(restored)
    assert found["after"] == body("after", 70_000) and found["multipart"] == 2 * body("multipart", 5 << 20)
    assert all(found[key] == body(key, size) for key, size in before.items())
    assert restored.stop() == 0
    code, said = cairn_server.check(place.again)
    assert code == 0, said


def filled(place, count=40, arguments=()):
    server = place.start(arguments=arguments)
    c = client(server)
    assert c.request("PUT", f"/{BUCKET}").status == 200
    for n in range(count):
        put(c, f"k/{n}", 100_000 + n)
    return server


def check_restored(place, count=40):
    cairn("restore", place.dest, place.again)
    restored = place.start(place.again)
    assert everything(restored) == {f"k/{n}": body(f"k/{n}", 100_000 + n) for n in range(count)}
    restored.kill()


def test_a_second_backup_copies_only_what_changed_and_old_ones_go(place):
    server = filled(place)
    first, there = place.copied()
    assert first > 0 and there == 0
    assert place.copied() == (0, first), "nothing changed"
    put(server, "k/0", 100_000)
    copied, there = place.copied()
    assert copied >= 1 and copied + there >= first
    assert len(glob.glob(place.dest + "/snapshots/*.manifest")) == 3
    place.backup("--keep", "1")
    assert len(glob.glob(place.dest + "/snapshots/*.manifest")) == 1
    assert len(glob.glob(place.dest + "/snapshots/*.snapshot")) == 1
    server.kill()
    # A stopped directory is backed up as well.
    assert place.copied("--keep", "1")[1] > 0
    check_restored(place)


def slow_backup(place):
    """A backup that takes long, once it holds reclaim and has begun to copy."""
    running = subprocess.Popen(
        [cairn_server.binary(), "backup", place.data, place.dest, "--share", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not glob.glob(place.dest + "/extents/*/*.part"):
        assert time.monotonic() < until and running.poll() is None, running.communicate()
        time.sleep(0.01)
    return running


def test_a_backup_that_was_killed_is_none_and_holds_nothing(place):
    server = filled(place, 200)
    running = slow_backup(place)
    assert re.search(rf"by backup: process {running.pid} copies the store to \S+", status(place.data))
    running.send_signal(signal.SIGKILL)
    running.communicate()
    until = time.monotonic() + 30
    while "not held" not in status(place.data):
        assert time.monotonic() < until, status(place.data)
        time.sleep(0.2)
    assert "no whole backup" in cairn("restore", place.dest, place.again, code=1)
    assert not os.path.exists(place.again)
    place.backup()
    assert server.stop() == 0
    check_restored(place, 200)


def test_a_server_that_was_killed_ends_its_backup(place):
    server = filled(place, 200)
    running = slow_backup(place)
    server.kill()
    _, said = running.communicate(timeout=120)
    assert running.returncode == 1 and "the server ended during the backup" in said, said
    assert "no whole backup" in cairn("restore", place.dest, place.again, code=1)
    server.start()
    assert "not held" in status(place.data)
    place.backup()
    server.kill()
    check_restored(place, 200)


def flip(path, at=None):
    with open(path, "r+b") as f:
        at = os.path.getsize(path) // 2 if at is None else at
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1]))


def test_a_flipped_byte_of_a_backup_is_told(place):
    server = filled(place)
    place.backup()
    manifest, snapshot = (glob.glob(f"{place.dest}/snapshots/*.{kind}")[0] for kind in ("manifest", "snapshot"))
    extent = max(glob.glob(place.dest + "/extents/*/*"), key=os.path.getsize)
    for path in (manifest, snapshot):
        flip(path)
        said = cairn("restore", place.dest, place.again, code=1)
        assert os.path.basename(path) in said and not os.path.exists(place.again), said
        flip(path)
    flip(extent)
    said = cairn("restore", place.dest, place.again, code=1)
    assert re.search(rf"DAMAGE extents/\S*{os.path.basename(extent)}: extent \w+ offset \d+ needle \d+", said), said
    code, said = cairn_server.check(place.again)
    assert code == 1 and "DAMAGE" in said, said
    restored = place.start(place.again)
    c = client(restored)
    wrong = [n for n in range(40) if c.request("GET", f"/{BUCKET}/k/{n}").body != body(f"k/{n}", 100_000 + n)]
    assert len(wrong) == 1, wrong
    restored.kill()
    shutil.rmtree(place.again)
    # Read back and copied again while the store has it.
    assert place.copied()[0] == 0
    assert place.copied("--verify")[0] == 1
    server.kill()
    check_restored(place)


def test_a_copy_that_lost_its_head_has_all_its_objects(place):
    server = filled(place)
    place.backup()
    server.kill()
    extents = glob.glob(place.dest + "/extents/*/*")
    for extent in extents:
        flip(extent, 9)
    said = cairn("restore", place.dest, place.again, code=1)
    assert len(re.findall(r"^DAMAGE .*its head \(byte 0\) is not what was written", said, re.M)) == len(extents), said
    restored = place.start(place.again)
    assert everything(restored) == {f"k/{n}": body(f"k/{n}", 100_000 + n) for n in range(40)}
    assert restored.stop() == 0
    code, said = cairn_server.check(place.again)
    assert code == 0, said


def test_a_root_key_that_is_not_what_was_written_is_not_restored(place):
    server = cairn_server.Server(place.data, root_keys=False)
    place.servers.append(server)
    server.start()
    assert server.stop() == 0
    place.backup()
    (key,) = glob.glob(place.dest + "/snapshots/*.root-key")
    cairn("restore", place.dest, place.again)
    with open(key, "rb") as kept, open(place.again + "/root-key", "rb") as restored:
        assert kept.read() == restored.read()
    shutil.rmtree(place.again)
    flip(key)
    said = cairn("restore", place.dest, place.again, code=1)
    assert re.search(r"DAMAGE snapshots/\d+\.root-key: it is not what was written", said), said
    assert not os.path.exists(place.again + "/root-key")


def test_backups_of_several_stores_in_one_place(place):
    filled(place, 2)
    place.backup()
    other = place.start(place.data + "-other")
    assert client(other).request("PUT", f"/{BUCKET}").status == 200
    put(other, "other", 5_000)
    cairn("backup", place.data + "-other", place.dest, "--keep", "1")
    first, second = manifests(place)
    assert first["disk"] != second["disk"], "none of the first store's is removed"
    said = cairn("restore", place.dest, place.again, code=1)
    names = sorted(os.path.basename(path) for path in glob.glob(place.dest + "/snapshots/*.manifest"))
    assert "backups of 2 stores" in said and all(name in said for name in names), said
    assert not os.path.exists(place.again)
    for outside in (place.dest + "/snapshots/" + names[1], "../" + names[1], "snapshots/../../" + names[1]):
        said = cairn("restore", place.dest, place.again, "--backup", outside, code=1)
        assert "is no backup" in said, said
    said = cairn("restore", place.dest, place.again, "--backup", names[1])
    assert f"(disk {second['disk']})" in said, said
    restored = place.start(place.again)
    assert everything(restored) == {"other": body("other", 5_000)}


def test_a_store_of_somebody_else_stays_theirs(place):
    """Commands that root runs on a stopped directory. Whoever is not root has all of it anyway."""
    assert filled(place, 5).stop() == 0
    theirs = 12_345 if os.geteuid() == 0 else os.getuid()
    there = lambda: [os.path.join(at, name) for at, dirs, files in os.walk(place.data) for name in [*dirs, *files, "."]]  # noqa: E731
    for path in there():
        os.chown(path, theirs, -1)
    place.backup()
    cairn("reclaim", "hold", place.data)
    cairn("restore", "--index", glob.glob(place.dest + "/snapshots/*.snapshot")[0], place.data)
    assert {os.stat(path).st_uid for path in there()} == {theirs}


def test_a_place_without_sockets_is_served(place):
    """What has the socket's name here cannot be taken away, as where a file system has no sockets."""
    os.makedirs(place.data + "/admin.sock")
    server = filled(place, 3)
    assert everything(server).keys() == {f"k/{n}" for n in range(3)}
    assert "there is no socket admin.sock in the directory" in server.log_tail()
    assert "another process has" in place.backup(code=1)
    assert server.stop() == 0
    place.backup()
    check_restored(place, 3)


def rot(place):
    """Turns a bit of an object's bytes in the store."""
    flip(*find_bytes(place.data + "/extents", body("k/7", 100_007)[50_000:50_040]))


def manifests(place):
    """All of them, oldest first."""
    paths = sorted(glob.glob(place.dest + "/snapshots/*.manifest"))
    return [json.loads(open(path, encoding="utf-8").read().rsplit("crc32c", 1)[0]) for path in paths]


def test_damage_in_the_store_is_told_each_night(place):
    filled(place)
    place.backup()
    place.backup()
    first, second = manifests(place)
    assert first["extents"] == second["extents"] and sum(e["needles"] for e in first["extents"]) == 40
    shutil.rmtree(place.dest)
    rot(place)
    for _ in range(2):
        said = place.backup(code=1)
        assert len(re.findall(r"^DAMAGE extent ", said, re.M)) == 1, said
    first, second = manifests(place)
    assert first["extents"] == second["extents"] and sum(e["damaged"] for e in first["extents"]) == 1


def test_no_good_backup_goes_for_one_with_damage(place):
    server = filled(place)
    place.backup()
    rot(place)
    # Extents that grow are copied anew, now with the rot.
    for n in range(40):
        put(server, f"more/{n}", 100_000)
    place.backup("--keep", "1", code=1)
    assert len(manifests(place)) == 2, "the one that has those bytes is still there"
    place.backup("--keep", "1", code=1)
    assert len(manifests(place)) == 3
    server.kill()
    assert "DAMAGE" in cairn("restore", place.dest, place.again, code=1)
    shutil.rmtree(place.again)
    oldest = min(os.listdir(place.dest + "/snapshots")).split(".")[0]
    cairn("restore", place.dest, place.again, "--backup", f"snapshots/{oldest}.manifest")
    restored = place.start(place.again)
    assert everything(restored) == {f"k/{n}": body(f"k/{n}", 100_000 + n) for n in range(40)}
    restored.kill()


def test_one_bad_place_ends_no_backup_and_no_restore(place):
    filled(place)
    place.backup()
    newest = max(glob.glob(place.dest + "/snapshots/*.manifest"))
    flip(newest)
    said = place.backup(code=1)
    assert "the backup is made" in said and os.path.basename(newest) in said, said
    flip(max(glob.glob(place.dest + "/snapshots/*.manifest")))
    said = cairn("restore", place.dest, place.again, code=1)
    assert "cannot be restored, and there is no other one" in said, said
    flip(newest)
    said = cairn("restore", place.dest, place.again, code=1)
    assert f"`--backup snapshots/{os.path.basename(newest)}` takes" in said, said
    os.remove(max(glob.glob(place.dest + "/snapshots/*.manifest")))
    # A copy that is cut is restored as far as it goes.
    extent = max(glob.glob(place.dest + "/extents/*/*"), key=os.path.getsize)
    os.truncate(extent, os.path.getsize(extent) - 5000)
    said = cairn("restore", place.dest, place.again, code=1)
    assert re.search(r"DAMAGE extents/\S+: it has \d+ bytes of", said), said
    restored = place.start(place.again)
    c = client(restored)
    right = [n for n in range(40) if c.request("GET", f"/{BUCKET}/k/{n}").body == body(f"k/{n}", 100_000 + n)]
    assert len(right) == 39, right
    restored.kill()
    # A file that the store has no more: what was copied of it is as good.
    shutil.rmtree(place.dest)
    place.backup()
    path, _ = find_bytes(place.data + "/extents", body("k/7", 100_007)[50_000:50_040])
    os.rename(path, place.data + "/away")
    said = place.backup(code=1)
    assert re.search(r"DAMAGE extent \w+: its file .*; an earlier backup's copy of it is taken over", said), said
    older, newer = manifests(place)
    assert older["extents"] == newer["extents"] and newer["missing"] == 0
    shutil.rmtree(place.dest)
    said = place.backup(code=1)
    assert re.search(r"DAMAGE extent \w+: its file \(generation 0\) is missing, or", said), said
    assert [m["missing"] for m in manifests(place)] == [1]
    shutil.rmtree(place.again)
    assert "1 of the store's extents were missing" in cairn("restore", place.dest, place.again, code=1)


def test_places_that_are_something_else_are_left_alone(place):
    server = filled(place, 1)
    os.makedirs(place.dest)
    with open(place.dest + "/precious", "w", encoding="utf-8") as f:
        f.write("mine")
    assert "not empty" in place.backup(code=1)
    assert os.listdir(place.dest) == ["precious"]
    os.remove(place.dest + "/precious")
    place.backup()
    assert "not empty" in cairn("restore", place.dest, place.data, code=1)
    assert "No such file" in cairn("restore", "--index", place.dest + "/snapshots/none", place.data, code=1)
    assert server.is_running()
    newest = glob.glob(place.dest + "/snapshots/*.snapshot")[0]
    assert "another process has" in cairn("restore", "--index", newest, place.data, code=1)
    assert everything(server).keys() == {"k/0"}


def indexes(place):
    """Two backups; between them everything that the first one names was written over. Their snapshots, and what the second one names."""
    server = filled(place, 40, GARBAGE_GOES)
    place.backup()
    for n in range(40):
        put(server, f"new/{n}", 150_000 + n)
    place.backup()
    now = everything(server)
    assert server.stop() == 0
    old, new = sorted(glob.glob(place.dest + "/snapshots/*.snapshot"))
    return old, new, now


def settle(place):
    """Lets a server do what reclaim it may, for some passes of gc."""
    server = place.start(arguments=GARBAGE_GOES)
    assert len(everything(server)) == 40
    passes = re.compile(r"^cairn_gc_orphans_total ([1-9]\d*)", re.M)
    until = time.monotonic() + 20
    while time.monotonic() < until and not passes.search(server.admin("/-/metrics")[1]):
        time.sleep(0.5)
    found = passes.search(server.admin("/-/metrics")[1])
    time.sleep(2)
    assert server.stop() == 0
    return found


def test_an_older_index_loses_nothing_while_reclaim_is_held(place):
    old, new, now = indexes(place)
    said = cairn("restore", "--index", old, place.data)
    assert "Reclaim is held" in said, said
    code, said = cairn_server.check(place.data)
    assert code == 0 and "40 objects" in said and "40 orphans" in said, said
    assert settle(place) is None, "nothing is swept"
    # The newer index finds everything again.
    cairn("restore", "--index", new, place.data)
    server = place.start()
    assert everything(server) == now
    assert "the index was restored as of" in status(place.data)


def test_without_the_hold_it_would(place):
    """What the test before this one is about: let go, gc takes what the older index does not name."""
    old, new, now = indexes(place)
    cairn("restore", "--index", old, place.data)
    cairn("reclaim", "release", place.data)
    assert settle(place), "they are swept"
    cairn("restore", "--index", new, place.data)
    code, said = cairn_server.check(place.data)
    assert code == 1 and "LOST" in said, said


def test_numbers_are_not_given_twice_after_a_restore(place):
    server = filled(place, 3)
    c = s3(server)
    c.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    place.backup()
    lost = [c.put_object(Bucket=BUCKET, Key="k/0", Body=b"lost")["VersionId"] for _ in range(3)]
    server.kill()
    cairn("restore", place.dest, place.again)
    restored = place.start(place.again)
    c = s3(restored)
    new = c.put_object(Bucket=BUCKET, Key="k/0", Body=b"new")["VersionId"]
    assert new not in lost and new < min(lost), "newest sorts first"
    versions = c.list_object_versions(Bucket=BUCKET, Prefix="k/0")["Versions"]
    assert [v["VersionId"] for v in versions] == [new, "null"]
    # Extents, too: what the store writes now has another number than any that the lost one wrote.
    before = {name.split(".")[0] for name in os.listdir(place.data + "/extents")}
    put(restored, "big", 400_000)
    restored.kill()
    made = {name.split(".")[0] for name in os.listdir(place.again + "/extents")} - before
    assert made and max(made) > max(before), (made, before)
