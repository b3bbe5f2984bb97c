"""`cairn check --rebuild-index`: a store whose index is gone reads again, out of its extents; what it cannot know it says."""

import hashlib
import os
import random
import re
import shutil
import subprocess

import pytest

import cairn_server
import signed_http
from conftest import make_client
from stored_bytes import find_bytes, flip

KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
PART = 5 << 20


@pytest.fixture
def directory():
    path = cairn_server.test_dir("rebuild")
    yield path + "/data"
    shutil.rmtree(path)


def rebuild(directory, *arguments):
    line = [cairn_server.binary(), "check", "--rebuild-index", *arguments, directory]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def fill(server):
    """Objects of every kind; answers what is to read back, and what cannot be known."""
    source = random.Random(11)
    s3 = make_client(server)
    for name in ("first", "second"):
        s3.create_bucket(Bucket=name)
    there = {}

    def put(bucket, key, size, **more):
        data = source.randbytes(size)
        s3.put_object(Bucket=bucket, Key=key, Body=data, **more)
        there[bucket, key] = data

    for n, size in enumerate([513, 4_000, 70_000, 140_000, 3 << 20, 70 << 20]):
        put("first", f"plain/{n}", size, ContentType="text/plain")
    put("second", "plain/0", 10_000)
    put("first", "a key of ünïcödé\u0001/", 600)
    put("first", "overwritten", 9_000)
    put("first", "overwritten", 8_000)
    upload = s3.create_multipart_upload(Bucket="second", Key="parts")["UploadId"]
    parts, named = [], []
    for number in (1, 2, 5):
        data = source.randbytes(PART if number < 5 else 1_000)
        if number == 2:
            s3.upload_part(Bucket="second", Key="parts", UploadId=upload, PartNumber=2, Body=source.randbytes(PART))
        done = s3.upload_part(Bucket="second", Key="parts", UploadId=upload, PartNumber=number, Body=data)
        parts.append(data)
        named.append({"PartNumber": number, "ETag": done["ETag"]})
    s3.complete_multipart_upload(Bucket="second", Key="parts", UploadId=upload, MultipartUpload={"Parts": named})
    there["second", "parts"] = b"".join(parts)
    there["first", "appended"] = source.randbytes(20_000)
    s3.put_object(Bucket="first", Key="appended", Body=there["first", "appended"])
    # Behind the parts, too, of whose numbers 3 and 4 are free.
    raw = signed_http.Client(server.port, KEYS)
    for at in [("first", "appended"), ("second", "parts")] * 2:
        more = source.randbytes(30_000)
        there_at = {"x-amz-write-offset-bytes": str(len(there[at]))}
        # Not by boto3: its checksum is another than that of an object of parts.
        assert raw.request("PUT", f"/{at[0]}/{at[1]}", body=more, headers=there_at).status == 200
        there[at] += more
    raw.close()
    s3.put_object(Bucket="first", Key="inline", Body=b"x" * 512)
    s3.put_object(Bucket="first", Key="empty", Body=b"")
    s3.put_object(Bucket="first", Key="deleted", Body=source.randbytes(5_000))
    s3.delete_object(Bucket="first", Key="deleted")
    unended = s3.create_multipart_upload(Bucket="first", Key="unended")["UploadId"]
    s3.upload_part(Bucket="first", Key="unended", UploadId=unended, PartNumber=1, Body=b"y" * 2_000)
    begun = s3.create_multipart_upload(Bucket="first", Key="plain/3")["UploadId"]
    s3.upload_part(Bucket="first", Key="plain/3", UploadId=begun, PartNumber=1, Body=b"z" * 6_000)
    s3.create_bucket(Bucket="deleted")
    s3.put_object(Bucket="deleted", Key="k", Body=source.randbytes(5_000))
    s3.delete_object(Bucket="deleted", Key="k")
    s3.delete_bucket(Bucket="deleted")
    etags = {at: s3.head_object(Bucket=at[0], Key=at[1])["ETag"] for at in there}
    return there, etags


def read_all(server, names, there, etags):
    s3 = make_client(server)
    for (bucket, key), data in there.items():
        got = s3.get_object(Bucket=names[bucket], Key=key)
        assert got["Body"].read() == data, (bucket, key)
        assert got["ETag"] == etags[bucket, key], (bucket, key)


def extents(directory):
    """Every needle's file as it is, to see that nothing goes."""
    return {name: os.path.getsize(f"{directory}/extents/{name}") for name in os.listdir(directory + "/extents")}


@pytest.mark.parametrize("catalogue", ["there", "gone", "bad"])
def test_all_of_the_index_is_gone(directory, catalogue):
    server = cairn_server.Server(directory)
    server.start()
    try:
        there, etags = fill(server)
        assert server.stop() == 0
        shutil.rmtree(directory + "/index")
        if catalogue == "gone":
            os.remove(directory + "/index-catalogue")
        elif catalogue == "bad":
            with open(directory + "/index-catalogue", "r+b") as f:
                f.write(b"7" * os.fstat(f.fileno()).st_size)
        with pytest.raises(AssertionError):
            server.start()
        before = extents(directory)
        twice = [f"--bucket=000100000000000{n}=renamed" for n in (1, 2)]
        code, output = rebuild(directory, *twice)
        assert code != 0 and "given to two buckets" in output, output
        code, output = rebuild(directory, twice[0])
        assert code == 0, output
        # A bucket that was deleted has needles yet.
        unnamed = sorted(re.findall(r"it is called (bucket-[0-9a-f]{16}) now", output))
        assert len(unnamed) == 2 and "it is called renamed now" in output, output
        for known in ("up to 512 bytes", "deleted may be back", "content types", "2 objects that were appended", "1 objects sent in parts"):
            assert known in output, (known, output)
        assert re.search(r"GUESSED 0001000000000001/.plain/3.: 1 uploads were written later", output), output
        assert extents(directory).keys() == before.keys()

        server.start()
        names = {"first": "renamed", "second": unnamed[0]}
        read_all(server, names, there, etags)
        s3 = make_client(server)
        listed = {o["Key"] for o in s3.list_objects_v2(Bucket="renamed")["Contents"]}
        assert listed == {key for bucket, key in there if bucket == "first"} | {"deleted", "unended"}
        # It is a store like any other again: written, read, listed, started.
        s3.put_object(Bucket="renamed", Key="plain/0", Body=b"new" * 1000)
        s3.put_object(Bucket="renamed", Key="new", Body=b"new")
        s3.create_bucket(Bucket="third")
        s3.put_object(Bucket="third", Key="k", Body=b"z" * 5_000)
        there["first", "plain/0"], etags["first", "plain/0"] = b"new" * 1000, f'"{hashlib.md5(b"new" * 1000).hexdigest()}"'
        assert server.admin("/-/metrics")[1].find("cairn_gc_held 1") >= 0
        assert server.stop() == 0
        code, output = cairn_server.check(directory)
        assert code == 0 and "clean" in output, output
        server.start()
        read_all(server, names, there, etags)
        assert make_client(server).get_object(Bucket="third", Key="k")["Body"].read() == b"z" * 5_000
        assert server.stop() == 0
        code, output = rebuild(directory)
        assert code != 0 and "nothing to rebuild" in output, output
    finally:
        server.kill()


@pytest.mark.parametrize("partition", ["0000000000000001", "0000000000000002", "0000000000000010"])
def test_what_is_whole_of_the_old_index_is_kept(directory, partition):
    """One partition's file is damaged where no start can do without it: rows of the others are taken over, and all old files are kept."""
    server = cairn_server.Server(directory)
    server.start()
    try:
        cairn_server.hold_reclaim(directory)
        there, etags = fill(server)
        assert server.stop() == 0
        # A second life: what the journal has of the first is gone from it with the files written.
        server.start()
        assert server.stop() == 0
        path = f"{directory}/index/{partition}.redb"
        for offset in (100, 8192 + 100):
            flip(path, offset)
        with pytest.raises(AssertionError):
            server.start()
        if partition != "0000000000000001":
            code, output = rebuild(directory, "--bucket", "0001000000000003=first")
            assert code != 0 and "is called first already" in output, output
        code, output = rebuild(directory)
        assert code == 0, output
        assert f"{partition}.redb.old1" in os.listdir(directory + "/index"), output
        names = {"first": "first", "second": "second"}
        if partition == "0000000000000001":
            # The bucket that was deleted is not there again.
            assert output.count("it is called") == 2, output
        else:
            assert "it is called" not in output, output
            assert ("1 keys of buckets" in output) == (partition == "0000000000000010"), output
        if partition == "0000000000000001":
            names = dict(zip(("first", "second"), sorted(re.findall(r"it is called (bucket-[0-9a-f]{16}) now", output))))
        server.start()
        read_all(server, names, there, etags)
        s3 = make_client(server)
        if partition != "0000000000000010":
            # Nothing of the objects' partition is lost.
            assert s3.get_object(Bucket=names["first"], Key="inline")["Body"].read() == b"x" * 512
            assert s3.head_object(Bucket=names["first"], Key="plain/1")["ContentType"] == "text/plain"
        s3.put_object(Bucket=names["first"], Key="new", Body=b"z" * 5_000)
        s3.create_bucket(Bucket="third")
        assert server.stop() == 0
        code, output = cairn_server.check(directory)
        assert code == 0 and "clean" in output, output
    finally:
        server.kill()


def test_an_object_that_is_not_whole_is_told_and_not_named(directory):
    server = cairn_server.Server(directory)
    server.start()
    try:
        there, etags = fill(server)
        assert server.stop() == 0
        shutil.rmtree(directory + "/index")
        victim = there.pop(("first", "plain/5"))
        for name in os.listdir(directory + "/extents"):
            path = f"{directory}/extents/{name}"
            with open(path, "rb") as f:
                at = f.read().find(victim[65 << 20 : (65 << 20) + 64])
            if at >= 0:
                flip(path, at)
        code, output = rebuild(directory)
        assert code == 0 and "1 damaged" in output, output
        assert re.search(r"INCOMPLETE .*plain/5.* is damaged", output), output
        names = dict(zip(("first", "second"), sorted(re.findall(r"it is called (bucket-[0-9a-f]{16}) now", output))))
        server.start()
        read_all(server, names, there, etags)
        with pytest.raises(make_client(server).exceptions.NoSuchKey):
            make_client(server).get_object(Bucket=names["first"], Key="plain/5")
    finally:
        server.kill()


@pytest.mark.parametrize("victim, at", [(("second", "parts"), PART + 1_000), (("first", "grown"), 21_000), (("first", "overwritten"), 1_000)])
def test_what_a_damaged_piece_belongs_to_is_not_named_without_it(directory, victim, at):
    """A part, and a piece between two others: each is one needle, so that nothing but its number is missing without it. And an object that
    replaced another: that is not named in its place."""
    server = cairn_server.Server(directory)
    server.start()
    try:
        there, etags = fill(server)
        s3, source, grown = make_client(server), random.Random(5), b""
        for size in (20_000, 10_000, 5_000):
            piece = source.randbytes(size)
            s3.put_object(Bucket="first", Key="grown", Body=piece, **({"WriteOffsetBytes": len(grown)} if grown else {}))
            grown += piece
        there["first", "grown"] = grown
        etags["first", "grown"] = s3.head_object(Bucket="first", Key="grown")["ETag"]
        assert server.stop() == 0
        shutil.rmtree(directory + "/index")
        flip(*find_bytes(directory + "/extents", there.pop(victim)[at : at + 64]))
        code, output = rebuild(directory)
        assert code == 0 and "1 damaged" in output, output
        assert re.search(rf"INCOMPLETE .*{victim[1]}.* is not whole", output), output
        names = dict(zip(("first", "second"), sorted(re.findall(r"it is called (bucket-[0-9a-f]{16}) now", output))))
        server.start()
        read_all(server, names, there, etags)
        with pytest.raises(make_client(server).exceptions.NoSuchKey):
            make_client(server).get_object(Bucket=names[victim[0]], Key=victim[1])
    finally:
        server.kill()


def test_an_index_that_still_serves_is_not_thrown_away(directory):
    """A leaf rotted: what stood there is an error, all else is answered. Rebuilding would give up all that no needle says."""
    server = cairn_server.Server(directory)
    names = [f"a-name-that-takes-some-room-in-its-row/{n:04}" for n in range(400)]
    ask = lambda key, method="GET", **more: client.request(method, f"/bucket{key}", **more).status  # noqa: E731
    try:
        client = signed_http.Client(server.start().port, KEYS)
        assert ask("", "PUT") == 200
        assert {ask(f"/{name}", "PUT", body=name.encode() * 20) for name in names} == {200}
        client.close()
        assert server.stop() == 0
        # A second life: nothing of the first is read from the journal.
        server.start()
        assert server.stop() == 0
        index = f"{directory}/index/0000000000000010.redb"
        for page in range(6, os.path.getsize(index) // 4096):
            flip(index, page * 4096 + 77)
            try:
                client = signed_http.Client(server.start().port, KEYS)
            except AssertionError:
                flip(index, page * 4096 + 77)
                continue
            statuses = {ask(f"/{name}") for name in names}
            client.close()
            assert server.stop() == 0
            if statuses == {200, 500}:
                break
            flip(index, page * 4096 + 77)
        else:
            pytest.fail("no page had some of the objects")
        before = sorted(os.listdir(directory + "/index"))
        code, output = rebuild(directory)
        assert code != 0 and "--past-damage" in output and "nothing was changed" in output, output
        assert sorted(os.listdir(directory + "/index")) == before
        client = signed_http.Client(server.start().port, KEYS)
        assert {ask(f"/{name}") for name in names} == {200, 500}
        client.close()
        assert server.stop() == 0
        # The new index cannot be laid: the old one still serves.
        os.mkdir(directory + "/index-laid.new")
        code, output = rebuild(directory, "--even-if-it-serves")
        assert code != 0 and "Is a directory" in output, output
        os.rmdir(directory + "/index-laid.new")
        assert sorted(name for name in os.listdir(directory + "/index") if "laid" not in name) == before
        client = signed_http.Client(server.start().port, KEYS)
        assert {ask(f"/{name}") for name in names} == {200, 500}
        client.close()
        assert server.stop() == 0
        code, output = rebuild(directory, "--even-if-it-serves")
        assert code == 0, output
        client = signed_http.Client(server.start().port, KEYS)
        assert {ask(f"/{name}") for name in names} == {200}
        client.close()
    finally:
        server.kill()


def test_a_number_that_was_given_after_the_backup_is_not_given_again(directory):
    """The same index restored twice: a bucket that was made in between is nobody else's, also where the index is rebuilt then."""
    server = cairn_server.Server(directory)
    dest = directory + "-backups"

    def cairn(*arguments):
        done = subprocess.run([cairn_server.binary(), *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done
        return done.stdout

    def make(bucket):
        s3 = make_client(server.start())
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=bucket, Body=bucket.encode() * 1000)
        assert server.stop() == 0

    try:
        make("before")
        cairn("backup", directory, dest)
        (snapshot,) = [name for name in os.listdir(dest + "/snapshots") if name.endswith(".snapshot")]
        for bucket in ("between", "later"):
            cairn("restore", "--index", f"{dest}/snapshots/{snapshot}", directory)
            cairn("reclaim", "release", directory)
            make(bucket)
        shutil.rmtree(directory + "/index")
        code, output = rebuild(directory)
        assert code == 0, output
        s3 = make_client(server.start())
        there = {}
        for bucket in s3.list_buckets()["Buckets"]:
            there[bucket["Name"]] = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", [])]
        assert sorted(there.values()) == [["before"], ["between"], ["later"]], there
        assert server.stop() == 0
    finally:
        server.kill()
