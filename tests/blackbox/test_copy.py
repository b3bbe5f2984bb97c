"""CopyObject and UploadPartCopy."""

import datetime
import hashlib
import random

import pytest
from conftest import STRANGER_ACCESS_KEY, STRANGER_SECRET_KEY, make_client
from expecting import refused

MIB = 1 << 20
HOUR = datetime.timedelta(hours=1)


def body_of(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


@pytest.mark.parametrize("size", [0, 1, 512, 513, 200_000, 6 * MIB])
def test_a_copy_is_the_same_bytes(s3, bucket, size):
    data = random.Random(size).randbytes(size)
    put = s3.put_object(Bucket=bucket, Key="from", Body=data, ContentType="text/x", Metadata={"a": "1"})
    answer = s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from"})
    assert answer["CopyObjectResult"]["ETag"] == put["ETag"]
    got = s3.get_object(Bucket=bucket, Key="to")
    assert got["Body"].read() == data
    assert (got["ContentType"], got["Metadata"], got["ETag"]) == ("text/x", {"a": "1"}, put["ETag"])
    s3.delete_object(Bucket=bucket, Key="from")
    assert body_of(s3, bucket, "to") == data


def test_metadata_is_copied_or_replaced(s3, bucket):
    s3.put_object(Bucket=bucket, Key="from", Body=b"x", ContentType="text/x", Metadata={"a": "1"}, Tagging="t=1")
    source = {"Bucket": bucket, "Key": "from"}
    s3.copy_object(Bucket=bucket, Key="kept", CopySource=source, ContentType="text/ignored", Metadata={"b": "2"})
    kept = s3.head_object(Bucket=bucket, Key="kept")
    assert (kept["ContentType"], kept["Metadata"]) == ("text/x", {"a": "1"})
    new = {"ContentType": "text/y", "Metadata": {"b": "2"}, "CacheControl": "no-store"}
    s3.copy_object(Bucket=bucket, Key="new", CopySource=source, MetadataDirective="REPLACE", **new)
    replaced = s3.head_object(Bucket=bucket, Key="new")
    assert {name: replaced[name] for name in new} == new


def test_onto_itself_something_must_change(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 1000)
    source = {"Bucket": bucket, "Key": "k"}
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="k", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "1"})
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"n": "1"}
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source, ChecksumAlgorithm="SHA256")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert "ChecksumSHA256" in head and head["Metadata"] == {"n": "1"}
    assert body_of(s3, bucket, "k") == b"x" * 1000


@pytest.mark.parametrize("key", ["a b", "a+b", "?versionId", "%25", "ü/ñ", "a//b", "_", " "])
def test_odd_keys_across_buckets(s3, bucket, key):
    other = bucket + "-other"
    s3.create_bucket(Bucket=other)
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.copy_object(Bucket=other, Key=key, CopySource={"Bucket": bucket, "Key": key})
    assert body_of(s3, other, key) == key.encode()


def test_conditions_on_the_source(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]

    def copy(**conditions):
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "k"}, **conditions)

    copy(CopySourceIfMatch=etag)
    copy(CopySourceIfNoneMatch='"other"')
    copy(CopySourceIfModifiedSince=modified - HOUR)
    copy(CopySourceIfUnmodifiedSince=modified + HOUR)
    copy(CopySourceIfMatch=etag, CopySourceIfUnmodifiedSince=modified - HOUR)
    for conditions in [
        {"CopySourceIfMatch": '"other"'},
        {"CopySourceIfNoneMatch": etag},
        {"CopySourceIfModifiedSince": modified},
        {"CopySourceIfUnmodifiedSince": modified - HOUR},
        {"CopySourceIfNoneMatch": etag, "CopySourceIfModifiedSince": modified - HOUR},
    ]:
        with refused("PreconditionFailed", 412):
            copy(**conditions)


def test_conditions_on_the_target(raw, s3, bucket):
    s3.put_object(Bucket=bucket, Key="from", Body=b"x")
    headers = {"x-amz-copy-source": f"/{bucket}/from", "if-none-match": "*"}
    assert raw.request("PUT", f"/{bucket}/to", headers=headers).status == 200
    assert raw.request("PUT", f"/{bucket}/to", headers=headers).status == 412


def test_refusals(s3, server, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused("NoSuchKey", 404) as caught:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "absent"})
    assert caught.value.response["Error"]["Key"] == "absent"
    with refused("NoSuchBucket", 404) as caught:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket + "-no", "Key": "k"})
    assert caught.value.response["Error"]["BucketName"] == bucket + "-no"
    with refused("NoSuchBucket", 404) as caught:
        s3.copy_object(Bucket=bucket + "-no", Key="to", CopySource={"Bucket": bucket, "Key": "k"})
    with refused("InvalidArgument", 400):
        s3.copy_object(Bucket=bucket, Key="to", CopySource="nonsense")
    with refused("InvalidArgument", 400):
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "k"}, MetadataDirective="BOTH")
    stranger = make_client(server, STRANGER_ACCESS_KEY, STRANGER_SECRET_KEY)
    theirs = bucket + "-theirs"
    stranger.create_bucket(Bucket=theirs)
    with refused("AccessDenied", 403):
        stranger.copy_object(Bucket=theirs, Key="to", CopySource={"Bucket": bucket, "Key": "k"})
    with refused("AccessDenied", 403):
        s3.copy_object(Bucket=theirs, Key="to", CopySource={"Bucket": bucket, "Key": "k"})


def test_checksums_go_along(s3, bucket):
    s3.put_object(Bucket=bucket, Key="sha", Body=b"x" * 3000, ChecksumAlgorithm="SHA1")
    source = {"Bucket": bucket, "Key": "sha"}
    kept = s3.copy_object(Bucket=bucket, Key="to", CopySource=source)["CopyObjectResult"]
    assert "ChecksumSHA1" in kept and kept["ChecksumType"] == "FULL_OBJECT"
    asked = s3.copy_object(Bucket=bucket, Key="to", CopySource=source, ChecksumAlgorithm="CRC32C")["CopyObjectResult"]
    assert "ChecksumCRC32C" in asked and "ChecksumSHA1" not in asked


def test_an_object_of_parts_copied_is_one_body(s3, bucket):
    data = random.Random(7).randbytes(5 * MIB + 3)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="from", ChecksumAlgorithm="SHA256")["UploadId"]
    parts = []
    for number, part in ((1, data[: 5 * MIB]), (2, data[5 * MIB :])):
        answer = s3.upload_part(
            Bucket=bucket, Key="from", UploadId=upload, PartNumber=number, Body=part, ChecksumAlgorithm="SHA256"
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": answer["ChecksumSHA256"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="from", UploadId=upload, MultipartUpload={"Parts": parts})
    copied = s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from"})["CopyObjectResult"]
    assert copied["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert copied["ChecksumType"] == "FULL_OBJECT" and "-" not in copied["ChecksumSHA256"]
    assert body_of(s3, bucket, "to") == data


def test_parts_of_copies(s3, bucket):
    data = random.Random(8).randbytes(11 * MIB)
    s3.put_object(Bucket=bucket, Key="from", Body=data)
    source = {"Bucket": bucket, "Key": "from"}
    upload = s3.create_multipart_upload(Bucket=bucket, Key="to")["UploadId"]
    parts = []
    ranges = [(0, 5 * MIB - 1), (5 * MIB, 10 * MIB), (10 * MIB + 1, 11 * MIB - 1)]
    for number, (first, last) in enumerate(ranges, 1):
        answer = s3.upload_part_copy(
            Bucket=bucket, Key="to", UploadId=upload, PartNumber=number, CopySource=source,
            CopySourceRange=f"bytes={first}-{last}",
        )["CopyPartResult"]
        assert answer["ETag"] == f'"{hashlib.md5(data[first : last + 1]).hexdigest()}"'
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="to", UploadId=upload, MultipartUpload={"Parts": parts})
    assert body_of(s3, bucket, "to") == data


def test_part_copy_refusals(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="from", Body=b"12345")["ETag"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="to")["UploadId"]

    def copy(**more):
        ask = {"Bucket": bucket, "Key": "to", "UploadId": upload, "PartNumber": 1}
        return s3.upload_part_copy(**{**ask, "CopySource": {"Bucket": bucket, "Key": "from"}, **more})

    for bad in ["0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=hello-", "bytes=0-2,3-4", "bytes=-2"]:
        with refused("InvalidArgument", 400):
            copy(CopySourceRange=bad)
    with refused("InvalidRange", 416):
        copy(CopySourceRange="bytes=0-5")
    with refused("NoSuchUpload", 404):
        copy(UploadId="0" * 32)
    with refused("NoSuchKey", 404):
        copy(CopySource={"Bucket": bucket, "Key": "absent"})
    with refused("PreconditionFailed", 412):
        copy(CopySourceIfNoneMatch=etag)
    copy(CopySourceIfMatch=etag, CopySourceRange="bytes=4-4")
    part = s3.list_parts(Bucket=bucket, Key="to", UploadId=upload)["Parts"][0]
    assert part["Size"] == 1
