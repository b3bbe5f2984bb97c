"""Appends: x-amz-write-offset-bytes on PutObject."""

import base64
import concurrent.futures
import hashlib
import random
import zlib

import pytest
from expecting import refused

MIB = 1 << 20


def append(s3, bucket, key, body, offset, **more):
    return s3.put_object(Bucket=bucket, Key=key, Body=body, WriteOffsetBytes=offset, **more)


def body_of(s3, bucket, key, **more):
    return s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def test_a_log_grows(s3, bucket):
    """From inline bytes over needles to pages of them; each state is read back and checked by boto3's own CRC32."""
    rng, whole = random.Random(1), b""
    sizes = [10, 0, 400, 102, 1, 5000, 1, 200_000, 70 * MIB] + [1000] * 20 + [1]
    for n, size in enumerate(s for s in sizes if s):
        piece = rng.randbytes(size)
        answer = append(s3, bucket, "log", piece, len(whole), **({} if whole else {"Metadata": {"m": "1"}}))
        whole += piece
        assert answer["Size"] == len(whole)
        assert int.from_bytes(base64.b64decode(answer["ChecksumCRC32"]), "big") == zlib.crc32(whole)
        head = s3.head_object(Bucket=bucket, Key="log", ChecksumMode="ENABLED")
        assert (head["ContentLength"], head["ETag"], head["Metadata"]) == (len(whole), answer["ETag"], {"m": "1"})
        assert head["ChecksumCRC32"] == answer["ChecksumCRC32"] and head["ChecksumType"] == "FULL_OBJECT"
        if len(whole) < MIB or n % 7 == 0:
            assert body_of(s3, bucket, "log") == whole
    assert hashlib.sha256(body_of(s3, bucket, "log")).digest() == hashlib.sha256(whole).digest()
    edge = len(whole) - 1500
    assert body_of(s3, bucket, "log", Range=f"bytes={edge}-") == whole[edge:]
    last = body_of(s3, bucket, "log", PartNumber=int(head["ETag"].strip('"').split("-")[1]))
    assert last == whole[-1:]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "log"})
    assert s3.head_object(Bucket=bucket, Key="copy")["ETag"] == f'"{hashlib.md5(whole).hexdigest()}"'


def test_the_etag_goes_on(s3, bucket):
    md5 = lambda b: hashlib.md5(b).digest()  # noqa: E731
    first = append(s3, bucket, "k", b"first", 0)["ETag"]
    assert first == f'"{md5(b"first").hex()}"'
    second = append(s3, bucket, "k", b"second", 5)["ETag"]
    chained = md5(md5(b"first") + md5(b"second"))
    assert second == f'"{chained.hex()}-2"'
    third = append(s3, bucket, "k", b"third", 11, IfMatch=second)["ETag"]
    assert third == f'"{md5(chained + md5(b"third")).hex()}-3"'
    with refused("PreconditionFailed", 412):
        append(s3, bucket, "k", b"x", 16, IfMatch=second)
    assert body_of(s3, bucket, "k") == b"firstsecondthird"
    assert s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"])["ObjectParts"][
        "TotalPartsCount"
    ] == 3


@pytest.mark.parametrize("size", [3, 3000])
def test_refusals(s3, bucket, raw, size):
    with refused("InvalidWriteOffset", 400):
        append(s3, bucket, "k", b"x", 1)
    append(s3, bucket, "k", b"x" * size, 0)
    for offset in (0, size - 1, size + 1):
        with refused("InvalidWriteOffset", 400):
            append(s3, bucket, "k", b"y", offset)
    with refused("InvalidRequest", 400):
        append(s3, bucket, "k", b"", size)
    with refused("InvalidRequest", 400):
        append(s3, bucket, "k", b"y", size, Metadata={"a": "1"})
    with refused("InvalidRequest", 400) as caught:
        append(s3, bucket, "k", b"y", size, ChecksumAlgorithm="SHA1")
    assert "expected checksum Type: crc32, actual checksum Type: sha1" in caught.value.response["Error"]["Message"]
    for offset in ("-1", "x", "1.5", ""):
        answer = raw.request("PUT", f"/{bucket}/k", body=b"y", headers={"x-amz-write-offset-bytes": offset})
        assert (answer.status, answer.code) == (400, "InvalidArgument"), offset
    assert body_of(s3, bucket, "k") == b"x" * size


def test_onto_an_object_of_parts(raw, s3, bucket):
    data = random.Random(2).randbytes(5 * MIB + 9)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=n, Body=b)["ETag"]}
        for n, b in ((1, data[: 5 * MIB]), (3, data[5 * MIB :]))
    ]
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    assert "ChecksumCRC64NVME" in s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    answer = raw.request("PUT", f"/{bucket}/k", body=b"tail", headers={"x-amz-write-offset-bytes": str(len(data))})
    assert answer.status == 200 and answer.headers["x-amz-object-size"] == str(len(data) + 4), answer
    assert "x-amz-checksum-crc64nvme" in answer.headers
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ETag"].endswith('-3"') and head["ChecksumType"] == "FULL_OBJECT"
    assert body_of(s3, bucket, "k") == data + b"tail"
    assert body_of(s3, bucket, "k", PartNumber=4) == b"tail"


def test_of_writers_at_one_place_one_wins(s3, bucket):
    append(s3, bucket, "k", b"0" * 1000, 0)

    def claim(n):
        try:
            append(s3, bucket, "k", b"%d" % n * 2000, 1000)
            return n
        except s3.exceptions.ClientError as e:
            assert e.response["Error"]["Code"] in ("InvalidWriteOffset", "ConditionalRequestConflict"), e.response
            return None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [n for n in pool.map(claim, range(8)) if n is not None]
    assert len(winners) == 1
    assert body_of(s3, bucket, "k") == b"0" * 1000 + b"%d" % winners[0] * 2000


def test_renaming_is_not_done(raw, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = raw.request("PUT", f"/{bucket}/to", [("renameObject", "")], headers={"x-amz-rename-source": "k"})
    assert (answer.status, answer.code) == (501, "NotImplemented") and b"RenameObject" in answer.body


def test_ten_thousand_appends(s3, raw, bucket):
    """As many parts as an object may have: read whole, by range, by part; copied; and not one more."""
    rng, path = random.Random(2), f"/{bucket}/log"
    pieces = [rng.randbytes(rng.choice((1, 7, 40, 300, 1000))) for _ in range(10_000)]
    ends, size = [], 0
    for piece in pieces:
        answer = raw.request("PUT", path, body=piece, headers={"x-amz-write-offset-bytes": str(size)})
        assert answer.status == 200, answer
        size += len(piece)
        ends.append(size)
    whole = b"".join(pieces)
    head = s3.head_object(Bucket=bucket, Key="log")
    assert (head["ContentLength"], head["ETag"]) == (size, answer.headers["etag"]) and head["ETag"].endswith('-10000"')
    with refused("TooManyParts", 400):
        append(s3, bucket, "log", b"x", size)
    assert body_of(s3, bucket, "log") == whole
    for _ in range(50):
        first = rng.randrange(size)
        last = min(size - 1, first + rng.choice((0, 1, 500, 100_000)))
        assert body_of(s3, bucket, "log", Range=f"bytes={first}-{last}") == whole[first : last + 1]
    for number in (1, 2, 5000, 9999, 10_000):
        part = s3.get_object(Bucket=bucket, Key="log", PartNumber=number)
        assert part["Body"].read() == pieces[number - 1] and part["PartsCount"] == 10_000
        assert part["ContentRange"] == f"bytes {ends[number - 2] if number > 1 else 0}-{ends[number - 1] - 1}/{size}"
    copied = s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "log"})
    assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(whole).hexdigest()}"'
    assert body_of(s3, bucket, "copy") == whole
    s3.delete_object(Bucket=bucket, Key="log")
    assert body_of(s3, bucket, "copy", Range="bytes=-1000") == whole[-1000:]
