"""Buckets and whole objects through boto3: put, get, head, delete, batch delete, metadata, ranges, error codes."""

import hashlib
import random

import pytest
from expecting import refused

# Around every boundary of the byte path: inline, block, journal, frame.
SIZES = [0, 1, 511, 512, 513, 4095, 4096, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 1_048_575, 1_048_576, 1_048_577, 7_000_001]


def data_of(size):
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_put_and_get_give_the_same_bytes(s3, bucket, size):
    data = data_of(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data)
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data
    assert got["ContentLength"] == size
    assert got["ETag"] == put["ETag"]
    assert got["AcceptRanges"] == "bytes"
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size


def test_overwriting_gives_the_new_bytes(s3, bucket):
    for n in range(5):
        s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % n * (n * 40_000))
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"%d" % n * (n * 40_000)


def test_metadata_and_content_headers_come_back(s3, bucket):
    headers = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "is",
    }
    metadata = {"one": "1", "two-words": "with spaces, and commas", "upper": "UPPER"}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata, Expires="Thu, 01 Dec 2033 16:00:00 GMT", **headers)
    for answer in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert answer["Metadata"] == metadata
        for name, value in headers.items():
            assert answer[name] == value, name
        assert answer["ExpiresString"] == "Thu, 01 Dec 2033 16:00:00 GMT"
    s3.put_object(Bucket=bucket, Key="k", Body=b"y")
    plain = s3.head_object(Bucket=bucket, Key="k")
    assert plain["Metadata"] == {} and "CacheControl" not in plain
    assert plain["ContentType"] == "binary/octet-stream"


def test_too_much_metadata_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="fits", Body=b"", Metadata={"m": "v" * 2000})
    with refused("MetadataTooLarge", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"m": "v" * 2100})


@pytest.mark.parametrize(
    "asked, first, last",
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-65535", 0, 65_535),
        ("bytes=65535-65536", 65_535, 65_536),
        ("bytes=100000-199999", 100_000, 199_999),
        ("bytes=299990-", 299_990, 299_999),
        ("bytes=299990-999999", 299_990, 299_999),
        ("bytes=-10", 299_990, 299_999),
        ("bytes=-999999", 0, 299_999),
    ],
)
def test_ranges(s3, bucket, asked, first, last):
    data = data_of(300_000)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{last}/300000"
    assert got["Body"].read() == data[first : last + 1]


def test_ranges_of_an_inline_object_and_past_the_end(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=2-4")["Body"].read() == b"234"
    with refused("InvalidRange", 416):
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=10-20")
    # What is no range of bytes is no range at all.
    assert s3.get_object(Bucket=bucket, Key="k", Range="lines=1-2")["Body"].read() == b"0123456789"


def test_overriding_headers_of_the_answer(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    got = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="image/png", ResponseContentDisposition="inline", ResponseCacheControl="no-store"
    )
    assert (got["ContentType"], got["ContentDisposition"], got["CacheControl"]) == ("image/png", "inline", "no-store")


def test_delete_and_what_is_gone(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 200_000)
    assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="k")
    # Deleting nothing is no error.
    assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_batch_delete(s3, bucket):
    keys = [f"d/{n:04} <&> \u00fc" for n in range(1000)]
    for key in keys[:40]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.put_object(Bucket=bucket, Key="stays", Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in keys]})
    assert sorted(d["Key"] for d in answer["Deleted"]) == sorted(keys)
    assert "Errors" not in answer
    left = s3.list_objects_v2(Bucket=bucket)
    assert [o["Key"] for o in left["Contents"]] == ["stays"]
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "stays"}], "Quiet": True})
    assert "Deleted" not in quiet and s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    with refused("MalformedXML", 400):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(n)} for n in range(1001)]})


def test_buckets(s3, bucket):
    other = bucket + "-other"
    s3.create_bucket(Bucket=other)
    names = [b["Name"] for b in s3.list_buckets()["Buckets"]]
    assert bucket in names and other in names and names == sorted(names)
    assert s3.head_bucket(Bucket=other)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert s3.get_bucket_location(Bucket=other)["LocationConstraint"] is None  # how us-east-1 is said
    s3.put_object(Bucket=other, Key="k", Body=b"x")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=other)
    assert s3.get_object(Bucket=other, Key="k")["Body"].read() == b"x"
    s3.delete_object(Bucket=other, Key="k")
    s3.delete_bucket(Bucket=other)
    with refused("404", 404):
        s3.head_bucket(Bucket=other)
    with refused("NoSuchBucket", 404):
        s3.list_objects_v2(Bucket=other)
    with refused("NoSuchBucket", 404):
        s3.put_object(Bucket=other, Key="k", Body=b"x")
    with refused("NoSuchBucket", 404):
        s3.delete_bucket(Bucket=other)
    # The name can be taken again, and nothing of before is in it.
    s3.create_bucket(Bucket=other)
    assert s3.list_objects_v2(Bucket=other)["KeyCount"] == 0


def test_a_clients_md5_is_held_against_the_bytes(s3, bucket):
    import base64

    good = base64.b64encode(hashlib.md5(b"these bytes").digest()).decode()
    s3.put_object(Bucket=bucket, Key="k", Body=b"these bytes", ContentMD5=good)
    with refused("BadDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"other bytes", ContentMD5=good)
    with refused("InvalidDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5="nonsense")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"these bytes"
