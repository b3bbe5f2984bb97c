"""The matrix: each client does each of the things people do with it, and what it really sent is looked at.

A cell is a sentence. It begins with "ok", or, where the client has no such function, with "n/a": then the test has checked that it has none (by what it
sent, or by its own help), and says what it did in its place. The table is printed at the end of the run; no cell may be empty.
"""

import hashlib
import os
import shutil
import ssl
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

import cairn_server
import conftest
import real_tree
import signed_http
from matrix import clients
from matrix.witness import Witness

MIB = clients.MIB
LARGE = 23 * MIB + 4321
MANY = 1005
ODD_KEYS = [
    "a b+c", "100%/%2F%zz", "q?x=1&y=2", "hash#tag", "semi;colon,comma", "quote'\"double", "star*{y}", "[x]y", "ünïcödé/日本語/🪨", "dots../...", "~@:=!$",
    "(a)<b>|^`", "-dash", "k" * 900,
]
CELLS = conftest.CELLS


@pytest.fixture(scope="module")
def place():
    path = cairn_server.test_dir("matrix")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def witness(server, place):
    running = Witness(server.port, place)
    yield running
    running.close()


@pytest.fixture(scope="module")
def made(witness, place):
    """The clients, each made once."""
    out = {}
    for name, kind in clients.ALL.items():
        os.mkdir(f"{place}/{name}")
        out[name] = kind(witness, f"{place}/{name}")
    return out


@pytest.fixture(params=clients.ALL)
def name(request):
    return request.param


@pytest.fixture
def client(made, name, witness):
    witness.forget()
    return made[name]


@pytest.fixture(scope="module")
def large(place):
    path = place + "/large"
    with open(path, "wb") as f:
        f.write(os.urandom(LARGE))
    return path


@pytest.fixture
def file(place):
    def make(text):
        path = place + "/small"
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    return make


@pytest.fixture
def cell(request, name):
    """Tells what the test's cell says; only a test that got to its end tells."""
    column = request.node.originalname.removeprefix("test_").replace("_", " ")
    CELLS.setdefault(column, {})

    def tell(sentence):
        assert sentence.startswith(("ok", "n/a: ")), sentence
        CELLS[column][name] = sentence

    return tell


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def body(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_default_checksums(name, client, cell, witness, s3, bucket, file):
    """What a client sends without being told to, so that a byte changed on the way is found."""
    client.put(file("checked"), bucket, "k")
    put = witness.requests("PUT", key="k")[-1].headers
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert body(s3, bucket, "k") == b"checked"
    if name in ("aws-cli", "boto3"):
        assert put["x-amz-trailer"] == "x-amz-checksum-crc32" and "aws-chunked" in put["content-encoding"], put
        assert put["x-amz-content-sha256"] == "STREAMING-UNSIGNED-PAYLOAD-TRAILER", put
        assert "ChecksumCRC32" in head, head
        return cell("ok: CRC32 in a trailer")
    assert not any(h.startswith("x-amz-checksum") or h == "x-amz-trailer" for h in put), put
    # What the others do in its place is checked, too.
    signed = put["x-amz-content-sha256"] == hashlib.sha256(b"checked").hexdigest()
    md5 = "content-md5" in put
    assert signed or md5, put
    ways = " and ".join(way for way, has in (("signed SHA-256", signed), ("Content-MD5", md5)) if has)
    return cell(f"n/a: {name} has no trailers (none sent); {ways}")


def test_multipart(name, client, cell, witness, s3, bucket, large, place):
    client.put_parts(large, bucket, "large")
    parts = witness.requests("PUT", "partNumber", "uploadId")
    assert len(witness.requests("POST", "uploads")) == 1 and len(witness.requests("POST", "uploadId")) == 1
    assert {r.query["partNumber"] for r in parts} == {str(n) for n in range(1, len(parts) + 1)} and len(parts) == 5
    assert s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-5"')
    client.get(bucket, "large", place + "/large-down")
    assert digest(place + "/large-down") == digest(large)
    os.remove(place + "/large-down")
    cell("ok: 5 parts")


def test_parallel_ranges(name, client, cell, witness, s3, bucket, large, place):
    s3.upload_file(large, bucket, "large")
    down = place + "/ranges-down"
    if name == "s3cmd":
        # Has no parallel download: one request for all of it. What it has is the rest of a file.
        client.get(bucket, "large", down)
        gets = witness.requests("GET", key="large")
        assert len(gets) == 1 and "range" not in gets[0].headers, gets
        os.truncate(down, LARGE // 2)
        client.get_rest(bucket, "large", down)
        assert witness.requests("GET", key="large")[-1].headers["range"] == f"bytes={LARGE // 2}-"
        says = "n/a: s3cmd has no parallel download (one GET seen); a resumed download by range"
    else:
        client.get_ranges(bucket, "large", down)
        ranges = {r.headers["range"] for r in witness.requests("GET", key="large") if "range" in r.headers}
        assert len(ranges) >= 4, ranges
        says = f"ok: {len(ranges)} ranges"
    assert digest(down) == digest(large)
    os.remove(down)
    cell(says)


@pytest.fixture(scope="module")
def tree(place):
    """Some hundred files with names that break naive clients and servers, and one that goes up in parts."""
    root = place + "/tree"
    for n, odd in enumerate(real_tree.ODD_NAMES):
        for path in (f"odd/{odd}", f"odd/in {odd}/{odd}"):
            os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
            with open(f"{root}/{path}", "wb") as f:
                f.write(os.urandom(97 * n))
    with open(root + "/parts.bin", "wb") as f:
        f.write(os.urandom(12 * MIB + 1))
    real_tree.age(root)
    return root


# Names that a client loses by itself, whatever the server: s5cmd quotes what does not print and then looks for the quoted name; s3cmd puts ^I
# in a tab's place before it asks.
NOT_KEPT = {"s5cmd": ["tab\there", "zero\u200bwidth", "family 👩\u200d👩\u200d👧"], "s3cmd": ["tab\there"]}


def test_sync_both_ways(name, client, cell, witness, s3, bucket, tree, place):
    up, down = f"{place}/up-{name}", f"{place}/down-{name}"
    lost = NOT_KEPT.get(name, [])
    shutil.copytree(tree, up, ignore=lambda _, names: [n for n in names if n.removeprefix("in ") in lost])
    expected = real_tree.digest(up)
    client.sync_up(up, bucket)
    listed = {k.removeprefix("tree/") for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket) for k in keys_of(page)}
    assert listed == set(expected), sorted(listed ^ set(expected))[:10]
    if name != "boto3":
        witness.forget()
        client.sync_up(up, bucket)
        assert not witness.requests("PUT") and not witness.requests("POST"), "a second sync found work to do"
    os.makedirs(down)
    client.sync_down(bucket, down)
    differences = real_tree.differences(expected, real_tree.digest(down))
    assert not differences, "\n".join(differences)
    shutil.rmtree(up)
    shutil.rmtree(down)
    if name == "boto3":
        # A library without a sync: each file by itself, all of them compared.
        assert not any("sync" in verb for verb in dir(client.s3)), "boto3 has a sync by now"
        return cell(f"n/a: boto3 has no sync; {len(expected)} files each by itself, byte for byte")
    without = f", without {len(lost)} names that {name} itself loses" if lost else ""
    return cell(f"ok: {len(expected)} files, byte for byte, nothing left to do{without}")


def keys_of(page):
    return [o["Key"] for o in page.get("Contents", [])]


def fill(server, bucket, keys):
    """Puts many small objects, quickly."""
    credentials = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)

    def some(own):
        quick = signed_http.Client(server.port, credentials)
        for key in own:
            answer = quick.request("PUT", signed_http.object_path(bucket, key), body=key.encode())
            assert answer.status == 200, answer
        quick.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(some, (keys[n::8] for n in range(8))))


def test_many_keys(name, client, cell, witness, server, bucket):
    keys = [f"many/{n:05}" for n in range(MANY)]
    fill(server, bucket, keys)
    witness.forget()
    assert sorted(client.keys(bucket)) == keys
    pages = [r for r in witness.requests("GET") if r.path.rstrip("/") == f"/{bucket}" and "location" not in r.query]
    assert len(pages) >= 2, pages
    version = "2" if any(r.query.get("list-type") == "2" for r in pages) else "1"
    cell(f"ok: {MANY} keys, listing version {version}")


def test_batch_delete(name, client, cell, witness, server, s3, bucket):
    fill(server, bucket, [f"many/{n:05}" for n in range(MANY)])
    witness.forget()
    client.delete_all(bucket)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    batches, single = witness.requests("POST", "delete"), witness.requests("DELETE")
    if name == "rclone":
        assert not batches and len(single) == MANY, (batches, len(single))
        return cell(f"n/a: rclone has no batch delete (none sent); {MANY} keys one by one")
    assert batches and not single, (batches, single[:3])
    return cell(f"ok: {MANY} keys in {len(batches)} requests")


def test_odd_keys(name, client, cell, s3, bucket, file, place):
    keys = [k for k in ODD_KEYS if name != "s5cmd" or not set("*?") & set(k)]
    for key in keys:
        client.put(file(key), bucket, key)
    for key in set(ODD_KEYS) - set(keys):
        with pytest.raises(clients.Refused, match="can not contain glob characters"):
            client.put(file(key), bucket, key)
    listed = keys_of(s3.list_objects_v2(Bucket=bucket))
    assert listed == sorted(keys, key=lambda k: k.encode())
    for key in keys:
        assert body(s3, bucket, key) == key.encode(), key
        down = place + "/odd-down"
        client.get(bucket, key, down)
        with open(down, encoding="utf-8") as f:
            assert f.read() == key
        os.remove(down)
    cell(f"ok: {len(keys)} keys" + ("; s5cmd itself refuses to write those with * or ?" if keys != ODD_KEYS else ""))


def fetch(url, witness):
    tls = ssl.create_default_context(cafile=witness.certificate)
    with urllib.request.urlopen(url, context=tls, timeout=30) as answer:
        return answer.read()


def test_presign(name, client, cell, witness, s3, bucket):
    s3.put_object(Bucket=bucket, Key="a b/ü.txt", Body=b"for whoever has the link")
    url = client.presign(bucket, "a b/ü.txt")
    url = url.replace("http://", "https://")
    assert "Signature=" in url and fetch(url, witness) == b"for whoever has the link"
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(url[:-1] + ("0" if url[-1] != "0" else "1"), witness)
    assert refused.value.code == 403
    version = "4" if "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url else "2"
    cell(f"ok: Signature Version {version}; fetched, and refused when falsified")


def test_versions(name, client, cell, witness, s3, bucket, file, place):
    client.keep_versions(bucket)
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    client.put(file("the first"), bucket, "k.txt")
    client.put(file("the second, longer"), bucket, "k.txt")
    kept = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert [v["IsLatest"] for v in kept] == [True, False]
    if name == "s3cmd":
        assert "version-id" not in client.help() and "versions" not in client.help().replace("setversioning", "")
        client.delete(bucket, "k.txt")
        assert body_of_version(s3, bucket, "k.txt", kept[1]["VersionId"]) == b"the first"
        assert s3.list_object_versions(Bucket=bucket)["DeleteMarkers"][0]["IsLatest"]
        return cell("ok: turns it on, writes, deletes; n/a: s3cmd has no reading of old ones (its help), read by boto3")
    ids = client.version_ids(bucket, "k.txt")
    assert len(ids) == 2
    for version, text in zip(ids, ("the second, longer", "the first"), strict=True):
        client.get_version(bucket, "k.txt", version, place + "/version")
        with open(place + "/version", encoding="utf-8") as f:
            assert f.read() == text
        os.remove(place + "/version")
    client.delete(bucket, "k.txt")
    after = s3.list_object_versions(Bucket=bucket)
    assert len(after["Versions"]) == 2 and after["DeleteMarkers"][0]["IsLatest"]
    if name == "rclone":
        return cell("ok: on, list, read, delete; n/a: rclone has no removal of one version by id, it names them by time")
    client.delete_version(bucket, "k.txt", after["DeleteMarkers"][0]["VersionId"])
    assert body(s3, bucket, "k.txt") == b"the second, longer"
    client.delete_version(bucket, "k.txt", ids[0])
    assert body(s3, bucket, "k.txt") == b"the first"
    return cell("ok: on, list, read, delete, undelete, remove one")


def body_of_version(s3, bucket, key, version):
    return s3.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read()


def test_conditional_put(name, client, cell, witness, s3, bucket, file):
    if name == "s5cmd":
        # It has none: no header of its own, and no way to add one. It looks first, and sends nothing.
        assert "if-none-match" not in client.call("cp", "--help").lower() and "header" not in client.help().lower()
        client.put_if_absent_here(file("first"), bucket, "k")
        client.put_if_absent_here(file("second"), bucket, "k")
        assert all("if-none-match" not in r.headers for r in witness.requests("PUT"))
        assert len(witness.requests("PUT", key="k")) == 1 and body(s3, bucket, "k") == b"first"
        return cell("n/a: s5cmd has no conditional put (its help, its requests); --no-clobber looks first")
    client.put_new(file("first"), bucket, "k")
    with pytest.raises(clients.Refused) as refused:
        client.put_new(file("second"), bucket, "k")
    puts = witness.requests("PUT", key="k")
    assert len(puts) >= 2 and all(r.headers["if-none-match"] == "*" for r in puts), puts
    assert "412" in str(refused.value) or "PreconditionFailed" in str(refused.value), refused.value
    assert body(s3, bucket, "k") == b"first"
    return cell("ok: the second is refused")


def test_no_cell_is_empty(request):
    """Of what ran: a client or column that was left out by hand is not missed here."""
    every = {item.originalname for item in request.session.items if item.fspath == request.node.fspath}
    columns = [f for f in globals() if f.startswith("test_") and f != "test_no_cell_is_empty"]
    if every != {*columns, "test_no_cell_is_empty"}:
        columns = [c for c in columns if c in every]
    empty = [
        (column, name)
        for column in (c.removeprefix("test_").replace("_", " ") for c in columns)
        for name in clients.ALL
        if name not in CELLS.get(column, {})
    ]
    assert not empty, f"cells without a sentence: {empty}"
