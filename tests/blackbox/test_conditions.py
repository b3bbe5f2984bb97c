"""Conditional reads and writes."""

import base64
import concurrent.futures
import datetime
import hashlib

import pytest
from expecting import refused

HOUR = datetime.timedelta(hours=1)


def test_write_only_what_is_not_there(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"second" * 50_000, IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"
    s3.delete_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfNoneMatch="*")
    # In quotes as some clients send it, it is no tag that nothing has.
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"fourth", IfNoneMatch='"*"')
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"fourth", IfNoneMatch='"other", *')
    s3.put_object(Bucket=bucket, Key="k", Body=b"fifth", IfMatch='"*"')
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"fifth"


def test_write_only_over_what_was_read(s3, bucket):
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["ETag"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfMatch=first)["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfMatch=first)
    assert s3.get_object(Bucket=bucket, Key="k")["ETag"] == second
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="absent", Body=b"x", IfMatch=first)


def test_write_unless_it_is_there_already(s3, bucket):
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch='"other"')["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch=first)
    s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch='"other"')
    s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfNoneMatch=first)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"third"


@pytest.mark.parametrize("size", [10, 100_000, 300_000])
def test_of_many_who_claim_a_name_one_wins(s3, bucket, size):
    def claim(n):
        try:
            s3.put_object(Bucket=bucket, Key="lock", Body=b"%04d" % n * (size // 4), IfNoneMatch="*")
            return n
        except s3.exceptions.ClientError as e:
            assert e.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"), e.response
            return None

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        winners = [n for n in pool.map(claim, range(32)) if n is not None]
    assert len(winners) == 1
    assert s3.get_object(Bucket=bucket, Key="lock")["Body"].read() == b"%04d" % winners[0] * (size // 4)


def test_complete_an_upload_only_when_the_name_is_free(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"p")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"taken")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    with refused("PreconditionFailed", 412):
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts, IfNoneMatch="*")
    s3.delete_object(Bucket=bucket, Key="k")
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts, IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"p"


@pytest.mark.parametrize("operation", ["get_object", "head_object"])
def test_conditional_reads(s3, bucket, operation):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    read = getattr(s3, operation)
    ask = {"Bucket": bucket, "Key": "k"}
    assert read(IfMatch=etag, **ask)["ETag"] == etag
    assert read(IfNoneMatch='"0123456789abcdef0123456789abcdef"', **ask)["ETag"] == etag
    assert read(IfModifiedSince=modified - HOUR, **ask)["ETag"] == etag
    assert read(IfUnmodifiedSince=modified + HOUR, **ask)["ETag"] == etag
    failed = "PreconditionFailed" if operation == "get_object" else "412"
    with refused(failed, 412):
        read(IfMatch='"0123456789abcdef0123456789abcdef"', **ask)
    with refused(failed, 412):
        read(IfUnmodifiedSince=modified - HOUR, **ask)
    with refused("304", 304):
        read(IfNoneMatch=etag, **ask)
    with refused("304", 304):
        read(IfModifiedSince=modified, **ask)
    # RFC 9110: where both are given, the tag decides.
    assert read(IfMatch=etag, IfUnmodifiedSince=modified - HOUR, **ask)["ETag"] == etag
    with refused("304", 304):
        read(IfNoneMatch=etag, IfModifiedSince=modified - HOUR, **ask)


def test_delete_only_what_was_seen(s3, bucket):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    seen = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    ask = {"Bucket": bucket, "Key": "k"}
    for other in [
        {"IfMatch": '"other"'},
        {"IfMatchLastModifiedTime": seen - HOUR},
        {"IfMatchSize": 4},
        {"IfMatch": put["ETag"], "IfMatchSize": 4},
    ]:
        with refused("PreconditionFailed", 412):
            s3.delete_object(**ask, **other)
    s3.delete_object(**ask, IfMatch=put["ETag"], IfMatchLastModifiedTime=seen, IfMatchSize=5)
    with refused("404", 404):
        s3.head_object(**ask)
    # Who compares and deletes must hear that there was nothing to compare with.
    for tag in ("*", put["ETag"]):
        with refused("NoSuchKey", 404):
            s3.delete_object(**ask, IfMatch=tag)
    s3.delete_object(**ask, IfMatchSize=4)


def test_delete_where_a_marker_stands(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    ask = {"Bucket": bucket, "Key": "k"}
    s3.delete_object(**ask)
    for key in ("k", "never"):
        for tag in ("*", put["ETag"]):
            with refused("NoSuchKey", 404):
                s3.delete_object(Bucket=bucket, Key=key, IfMatch=tag)
    listed = s3.list_object_versions(Bucket=bucket)
    assert len(listed["DeleteMarkers"]) == 1, "no delete that failed puts a marker"
    # S3 has this condition for the current version alone.
    with refused("NotImplemented", 501):
        s3.delete_object(**ask, VersionId=put["VersionId"], IfMatch=put["ETag"])
    one = {"Key": "k", "VersionId": put["VersionId"], "ETag": put["ETag"]}
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [one]})
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [("k", "NotImplemented")]
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 1


def test_delete_many_each_only_as_it_was_seen(s3, bucket):
    etags = {key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode())["ETag"] for key in "abcdef"}
    seen = s3.head_object(Bucket=bucket, Key="c")["LastModified"]
    objects = [
        {"Key": "a", "ETag": etags["a"]},
        {"Key": "b", "ETag": etags["a"]},
        {"Key": "c", "LastModifiedTime": seen},
        {"Key": "d", "LastModifiedTime": seen - HOUR},
        {"Key": "e", "Size": 1},
        {"Key": "f", "Size": 2},
        {"Key": "absent", "ETag": etags["a"]},
    ]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert sorted(d["Key"] for d in answer["Deleted"]) == ["a", "c", "e"]
    assert sorted((e["Key"], e["Code"]) for e in answer["Errors"]) == [
        ("absent", "NoSuchKey"), *((k, "PreconditionFailed") for k in "bdf")
    ]
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["b", "d", "f"]


def test_a_refused_write_names_its_condition(raw, bucket):
    path = f"/{bucket}/k"
    assert raw.request("PUT", path, body=b"x").status == 200
    for headers, named in [
        ({"if-none-match": "*"}, "If-None-Match"),
        ({"if-match": '"other"'}, "If-Match"),
        ({"if-match": "*", "if-none-match": "*"}, None),
    ]:
        answer = raw.request("PUT", path, body=b"y", headers=headers)
        assert (answer.status, answer.code) == (412, "PreconditionFailed"), answer
        assert (f"<Condition>{named}</Condition>".encode() in answer.body) == (named is not None), answer.body
    answer = raw.request("DELETE", path, headers={"x-amz-if-match-size": "7"})
    assert answer.code == "PreconditionFailed" and b"<Condition>x-amz-if-match-size</Condition>" in answer.body, answer


def test_not_modified_says_what_caches_keep_it_by(raw, bucket):
    path = f"/{bucket}/k"
    kept = {"cache-control": "max-age=60", "expires": "Wed, 21 Oct 2037 07:28:00 GMT"}
    tag = raw.request("PUT", path, body=b"x", headers={**kept, "content-type": "a/b", "x-amz-meta-m": "1"}).headers["etag"]
    for method in ("GET", "HEAD"):
        answer = raw.request(method, path, headers={"if-none-match": tag})
        assert (answer.status, answer.body) == (304, b"")
        said = {n: v for n, v in answer.headers.items() if not n.startswith("x-amz-") or n == "x-amz-meta-m"}
        assert said.keys() == {"etag", "last-modified", "cache-control", "expires", "date", "server"}, said
        assert said.items() >= kept.items()


def test_a_batch_takes_no_condition_for_all(s3, bucket, raw):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    document = b"<Delete><Object><Key>k</Key></Object></Delete>"
    md5 = base64.b64encode(hashlib.md5(document).digest()).decode()
    for name in ("if-match", "if-none-match"):
        answer = raw.request(
            "POST", f"/{bucket}", query=[("delete", "")], body=document, headers={name: f'"{"0" * 32}"', "content-md5": md5}
        )
        assert (answer.status, answer.code) == (501, "NotImplemented")
    s3.head_object(Bucket=bucket, Key="k")
