"""Copies that take longer than a client would wait in silence: 200 at once, spaces, then the document; a refusal stands inside the 200.

The server is stopped (SIGSTOP) while the copy is under way until its patience is over, and goes on then: how fast the disk is plays no part.
"""

import re
import shutil
import signal
import time
import xml.etree.ElementTree

import pytest

import cairn_server
import conftest
import signed_http

MIB = 1 << 20
SIZE = 512 * MIB
SILENT_SECONDS = 5
"""`limits::SILENT_MS_MAX`."""
KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)


@pytest.fixture(scope="module")
def alone():
    directory = cairn_server.test_dir("long")
    server = cairn_server.Server(directory + "/data")
    server.start()
    try:
        yield server
        assert server.stop() == 0, server.log_tail()
    finally:
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)
        server.kill()
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def large(alone):
    """Made of copies of 64 MiB."""
    s3 = conftest.make_client(alone)
    s3.create_bucket(Bucket="from")
    s3.put_object(Bucket="from", Key="piece", Body=b"0123456789abcdef" * (4 * MIB))
    upload = s3.create_multipart_upload(Bucket="from", Key="large")["UploadId"]
    parts = []
    for number in range(1, SIZE // (64 * MIB) + 1):
        copied = s3.upload_part_copy(Bucket="from", Key="large", UploadId=upload, PartNumber=number, CopySource="from/piece")
        parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(Bucket="from", Key="large", UploadId=upload, MultipartUpload={"Parts": parts})
    return "from/large"


def under_way(server):
    _, page = server.admin("/-/metrics")
    return float(re.search(r"^cairn_s3_requests_under_way (\S+)$", page, re.M).group(1)) - 1  # not the asking itself


def slow_copy(server, path, source, query=(), meanwhile=lambda: None):
    """Sends a copy and stops the server while it works; answers all that came."""
    with signed_http.Raw(server.port, timeout=120) as bare:
        signed = signed_http.sign(KEYS, "PUT", path, f"127.0.0.1:{server.port}", query, {"x-amz-copy-source": source})
        target = path + ("?" + signed_http.canonical_query(query) if query else "")
        bare.send(signed_http.head_bytes("PUT", target, signed.headers | {"content-length": "0"}))
        deadline = time.monotonic() + 30
        while under_way(server) < 1:
            assert time.monotonic() < deadline, "the copy does not begin, or is over at once"
        meanwhile()
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(SILENT_SECONDS + 0.5)
        server.process.send_signal(signal.SIGCONT)
        return bare.answer()


def read(answer):
    """The document behind declaration and spaces."""
    assert answer.status == 200 and "content-length" not in answer.headers, (answer.status, answer.headers)
    declaration, rest = answer.body.split(b"?>", 1)
    assert declaration.startswith(b"<?xml ") and re.match(rb"\s+<", rest), answer.body[:200]
    return xml.etree.ElementTree.fromstring(answer.body)


def test_a_copy_that_takes_long(alone, large):
    s3 = conftest.make_client(alone)
    s3.create_bucket(Bucket="target")
    document = read(slow_copy(alone, "/target/copy", large))
    assert document.tag.endswith("}CopyObjectResult")
    head = s3.head_object(Bucket="target", Key="copy")
    assert head["ContentLength"] == SIZE
    assert document.findtext("{*}ETag") == head["ETag"]
    tail = s3.get_object(Bucket="target", Key="copy", Range="bytes=-32")["Body"].read()
    assert tail == b"0123456789abcdef" * 2


def test_a_refusal_that_comes_late(alone, large):
    s3 = conftest.make_client(alone)
    s3.create_bucket(Bucket="gone")
    # What the copy is to be named in goes while its bytes come.
    answer = slow_copy(alone, "/gone/copy", large, meanwhile=lambda: s3.delete_bucket(Bucket="gone"))
    document = read(answer)
    assert (document.tag, document.findtext("Code"), document.findtext("BucketName")) == ("Error", "NoSuchBucket", "gone")
    assert document.findtext("RequestId") == answer.headers["x-amz-request-id"]
    assert [b["Name"] for b in s3.list_buckets()["Buckets"] if b["Name"] == "gone"] == []


def test_a_part_that_takes_long(alone, large):
    s3 = conftest.make_client(alone)
    s3.create_bucket(Bucket="parts")
    upload = s3.create_multipart_upload(Bucket="parts", Key="k")["UploadId"]
    document = read(slow_copy(alone, "/parts/k", large, [("partNumber", "1"), ("uploadId", upload)]))
    assert document.tag.endswith("}CopyPartResult")
    (part,) = s3.list_parts(Bucket="parts", Key="k", UploadId=upload)["Parts"]
    assert (part["Size"], part["ETag"]) == (SIZE, document.findtext("{*}ETag"))
    s3.abort_multipart_upload(Bucket="parts", Key="k", UploadId=upload)
