"""Reads by part, GetObjectAttributes, response overrides."""

import random

import pytest
from expecting import refused

MIB = 1 << 20


@pytest.fixture
def parted(s3, bucket):
    """An object of three parts, numbered with a gap, and the parts."""
    parts = {1: random.Random(1).randbytes(5 * MIB), 2: random.Random(2).randbytes(6 * MIB), 9: b"the last"}
    upload = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256", Tagging="a=1&b=2"
    )["UploadId"]
    named = []
    for number, part in parts.items():
        done = s3.upload_part(
            Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=part, ChecksumAlgorithm="SHA256"
        )
        named.append({"PartNumber": number, "ETag": done["ETag"], "ChecksumSHA256": done["ChecksumSHA256"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": named})
    return parts, named


def test_parts_are_read_by_number(s3, bucket, parted):
    parts, named = parted
    start, size = 0, sum(len(p) for p in parts.values())
    for (number, part), name in zip(parts.items(), named):
        place = f"bytes {start}-{start + len(part) - 1}/{size}"
        for read in (s3.get_object, s3.head_object):
            got = read(Bucket=bucket, Key="k", PartNumber=number, ChecksumMode="ENABLED")
            assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
            assert (got["ContentRange"], got["ContentLength"]) == (place, len(part))
            assert got["PartsCount"] == 3
            assert (got["ChecksumSHA256"], got["ChecksumType"]) == (name["ChecksumSHA256"], "COMPOSITE")
            if "Body" in got:
                assert got["Body"].read() == part
        start += len(part)
    with refused("InvalidPart", 400):
        s3.get_object(Bucket=bucket, Key="k", PartNumber=3)
    with refused("InvalidArgument", 400):
        s3.get_object(Bucket=bucket, Key="k", PartNumber=10_001)
    with refused("InvalidRequest", 400):
        s3.get_object(Bucket=bucket, Key="k", PartNumber=1, Range="bytes=0-1")
    assert s3.head_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "2"
    assert [t["Key"] for t in s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]] == ["a", "b"]


def test_one_body_is_its_own_first_part(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=1)
    assert got["Body"].read() == b"body" and "PartsCount" not in got
    with refused("InvalidPart", 400):
        s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    assert s3.get_object(Bucket=bucket, Key="empty", PartNumber=1)["Body"].read() == b""


def test_an_empty_part_is_no_bytes(s3, bucket):
    # As clients end an upload that did not know its length.
    parts = {1: random.Random(3).randbytes(5 * MIB), 2: b""}
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32")["UploadId"]
    named = []
    for number, part in parts.items():
        done = s3.upload_part(
            Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=part, ChecksumAlgorithm="CRC32"
        )
        named.append({"PartNumber": number, "ETag": done["ETag"], "ChecksumCRC32": done["ChecksumCRC32"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": named})
    for read in (s3.get_object, s3.head_object):
        got = read(Bucket=bucket, Key="k", PartNumber=2, ChecksumMode="ENABLED")
        assert (got["ContentLength"], got["PartsCount"]) == (0, 2)
        assert "ContentRange" not in got and got["ChecksumCRC32"] == "AAAAAA=="
        if "Body" in got:
            assert got["Body"].read() == b""
    assert s3.get_object(Bucket=bucket, Key="k", PartNumber=1)["Body"].read() == parts[1]


def test_attributes(s3, bucket, parted):
    parts, named = parted
    every = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=every)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["ETag"] == head["ETag"].strip('"')
    assert got["ObjectSize"] == head["ContentLength"]
    assert got["StorageClass"] == "STANDARD"
    assert got["Checksum"] == {"ChecksumSHA256": head["ChecksumSHA256"], "ChecksumType": "COMPOSITE"}
    assert got["LastModified"] == head["LastModified"]
    whole = got["ObjectParts"]
    assert (whole["TotalPartsCount"], whole["IsTruncated"]) == (3, False)
    assert [(p["PartNumber"], p["Size"], p["ChecksumSHA256"]) for p in whole["Parts"]] == [
        (n["PartNumber"], len(parts[n["PartNumber"]]), n["ChecksumSHA256"]) for n in named
    ]
    page = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], MaxParts=1, PartNumberMarker=1
    )["ObjectParts"]
    assert (page["IsTruncated"], page["NextPartNumberMarker"], page["Parts"][0]["PartNumber"]) == (True, 2, 2)
    with refused("NoSuchKey", 404):
        s3.get_object_attributes(Bucket=bucket, Key="absent", ObjectAttributes=every)


def test_attributes_that_are_none(raw, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    path, query = f"/{bucket}/k", [("attributes", "")]
    for names, code in [(None, b"InvalidRequest"), ("", b"InvalidRequest"), ("ETag,Nonsense", b"InvalidArgument")]:
        headers = {} if names is None else {"x-amz-object-attributes": names}
        answer = raw.request("GET", path, query, headers=headers)
        assert answer.status == 400 and b"<Code>" + code in answer.body, answer


def test_overrides_on_get_and_head(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain", ContentLanguage="de")
    for read in (s3.get_object, s3.head_object):
        got = read(Bucket=bucket, Key="k", ResponseContentType="a/b", ResponseContentDisposition="inline")
        assert (got["ContentType"], got["ContentDisposition"], got["ContentLanguage"]) == ("a/b", "inline", "de")
