"""Multipart uploads: boto3's transfers as they come, and each operation by hand."""

import concurrent.futures
import hashlib
import io
import random

import pytest
from conftest import OTHER
from expecting import refused

MIB = 1 << 20


def data_of(size, seed=1):
    return random.Random(seed).randbytes(size)


def parts_etag(parts):
    return f'"{hashlib.md5(b"".join(hashlib.md5(p).digest() for p in parts)).hexdigest()}-{len(parts)}"'


def upload_parts(s3, bucket, key, parts, numbers=None):
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    numbers = numbers or range(1, len(parts) + 1)
    done = []
    for number, part in zip(numbers, parts):
        etag = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=part)["ETag"]
        assert etag == f'"{hashlib.md5(part).hexdigest()}"'
        done.append({"PartNumber": number, "ETag": etag})
    return upload, done


def test_a_hundred_mebibytes_up_and_down(s3, bucket, tmp_path):
    data = data_of(100 * MIB)
    (tmp_path / "up").write_bytes(data)
    s3.upload_file(str(tmp_path / "up"), bucket, "large")
    head = s3.head_object(Bucket=bucket, Key="large")
    assert head["ContentLength"] == len(data)
    assert head["ETag"] == parts_etag([data[n : n + 8 * MIB] for n in range(0, len(data), 8 * MIB)])
    s3.download_file(bucket, "large", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == data
    # And in one stream, and a range over a part's edge.
    whole = hashlib.sha256()
    for piece in s3.get_object(Bucket=bucket, Key="large")["Body"].iter_chunks(MIB):
        whole.update(piece)
    assert whole.digest() == hashlib.sha256(data).digest()
    edge = s3.get_object(Bucket=bucket, Key="large", Range=f"bytes={16 * MIB - 5}-{16 * MIB + 4}")["Body"].read()
    assert edge == data[16 * MIB - 5 : 16 * MIB + 5]


def test_one_put_of_a_hundred_mebibytes(s3, bucket):
    data = data_of(100 * MIB, 2)
    s3.put_object(Bucket=bucket, Key="large", Body=io.BytesIO(data))
    got = s3.get_object(Bucket=bucket, Key="large")["Body"].read()
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def test_parts_in_any_order_with_gaps_and_overwritten(s3, bucket):
    parts = [data_of(5 * MIB, 3), data_of(6 * MIB + 1, 4), data_of(77, 5)]
    upload = s3.create_multipart_upload(
        Bucket=bucket, Key="k", Metadata={"m": "1"}, ContentType="text/x"
    )["UploadId"]
    put = lambda n, body: s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=n, Body=body)["ETag"]
    etags = {9: put(9, parts[2]), 2: put(2, b"to be overwritten")}
    etags[2] = put(2, parts[0])
    etags[5] = put(5, parts[1])
    put(7, data_of(5 * MIB, 6))  # never named at the completion
    done = s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etags[n]} for n in sorted(etags)]},
    )
    assert done["ETag"] == parts_etag(parts)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == b"".join(parts)
    assert got["Metadata"] == {"m": "1"} and got["ContentType"] == "text/x"
    with refused("NoSuchUpload", 404):
        s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)
    with refused("NoSuchUpload", 404):
        put(1, b"late")


def test_nothing_is_visible_before_completion(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    upload, parts = upload_parts(s3, bucket, "k", [b"after"])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"before"
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"after"


def test_abort(s3, bucket):
    upload, parts = upload_parts(s3, bucket, "k", [b"x" * 100_000])
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    with refused("NoSuchUpload", 404):
        s3.complete_multipart_upload(
            Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts}
        )
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_bad_completions_are_refused_and_change_nothing(s3, bucket):
    upload, parts = upload_parts(s3, bucket, "k", [b"small", b"last"])
    complete = lambda named: s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": named}
    )
    with refused("EntityTooSmall", 400):
        complete(parts)
    with refused("InvalidPartOrder", 400):
        complete(parts[::-1])
    with refused("InvalidPart", 400):
        complete([parts[0], {"PartNumber": 3, "ETag": parts[1]["ETag"]}])
    with refused("InvalidPart", 400):
        complete([{"PartNumber": 1, "ETag": parts[1]["ETag"]}])
    with refused("MalformedXML", 400):
        complete([])
    assert len(s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)["Parts"]) == 2
    complete(parts[:1])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"small"


@pytest.mark.parametrize("number", [0, 10_001, -1])
def test_part_numbers_have_bounds(s3, bucket, number):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    with refused("InvalidArgument", 400):
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"x")


def test_completing_twice_answers_the_same(s3, bucket):
    """Decision 0008; S3 itself says NoSuchUpload once it has forgotten the upload."""
    upload, parts = upload_parts(s3, bucket, "k", [b"one"])
    ask = {"Bucket": bucket, "Key": "k", "UploadId": upload, "MultipartUpload": {"Parts": parts}}
    first = s3.complete_multipart_upload(**ask)
    try:
        again = s3.complete_multipart_upload(**ask)
    except s3.exceptions.ClientError as e:
        assert OTHER and e.response["Error"]["Code"] == "NoSuchUpload"
    else:
        assert again["ETag"] == first["ETag"]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"one"


def test_of_a_part_named_again_the_last_counts(s3, bucket):
    upload, parts = upload_parts(s3, bucket, "k", [b"old"])
    again = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"new")["ETag"]
    named = [*parts, {"PartNumber": 1, "ETag": again}]
    with refused("InvalidPart", 400):
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": named[::-1]})
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": named})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


def test_what_a_completion_says_must_be_so(s3, bucket):
    upload, parts = upload_parts(s3, bucket, "k", [b"four"])
    ask = {"Bucket": bucket, "Key": "k", "UploadId": upload, "MultipartUpload": {"Parts": parts}}
    with refused("InvalidRequest", 400):
        s3.complete_multipart_upload(**ask, MpuObjectSize=5)
    with refused("InvalidRequest", 400):
        s3.complete_multipart_upload(**ask, ChecksumType="COMPOSITE")
    s3.complete_multipart_upload(**ask, MpuObjectSize=4, ChecksumType="FULL_OBJECT")


def test_of_a_completion_and_an_abort_at_once_one_is_done(s3, bucket):
    def attempt(act):
        try:
            act()
            return True
        except s3.exceptions.ClientError as e:
            assert e.response["Error"]["Code"] == "NoSuchUpload", e.response
            return False

    for n in range(20):
        key = f"k{n}"
        upload, parts = upload_parts(s3, bucket, key, [b"x"])
        ask = {"Bucket": bucket, "Key": key, "UploadId": upload}
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            acts = [
                lambda: s3.complete_multipart_upload(**ask, MultipartUpload={"Parts": parts}),
                lambda: s3.abort_multipart_upload(**ask),
            ]
            completed, aborted = pool.map(attempt, acts)
        assert completed != aborted
        assert ("Contents" in s3.list_objects_v2(Bucket=bucket, Prefix=key)) == completed
        s3.delete_object(Bucket=bucket, Key=key)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_listing_parts_in_pages(s3, bucket):
    upload, parts = upload_parts(s3, bucket, "k", [b"%d" % n for n in range(25)], range(1, 76, 3))
    found, marker = [], 0
    while True:
        page = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, MaxParts=10, PartNumberMarker=marker)
        found += page["Parts"]
        if not page["IsTruncated"]:
            break
        marker = page["NextPartNumberMarker"]
    assert [(p["PartNumber"], p["ETag"]) for p in found] == [(p["PartNumber"], p["ETag"]) for p in parts]
    assert [p["Size"] for p in found] == [len(b"%d" % n) for n in range(25)]


def test_listing_uploads_in_pages(s3, bucket):
    begun = []
    for key in ["a", "a", "b/1", "b/2", "c"]:
        begun.append((key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]))
    found, marks = [], {}
    while True:
        page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=2, **marks)
        found += [(u["Key"], u["UploadId"]) for u in page["Uploads"]]
        if not page["IsTruncated"]:
            break
        marks = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert found == begun
    below = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [u["Key"] for u in below["Uploads"]] == ["a", "a", "c"]
    assert [p["Prefix"] for p in below["CommonPrefixes"]] == ["b/"]
    assert len(s3.list_multipart_uploads(Bucket=bucket, Prefix="b/")["Uploads"]) == 2


def test_many_parts(s3, bucket):
    """More chunks than a record holds itself: the list moves into a manifest."""
    parts = [data_of(5 * MIB, n) for n in range(3)] * 7
    upload, named = upload_parts(s3, bucket, "k", parts)
    done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": named})
    assert done["ETag"] == parts_etag(parts)
    got = s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert hashlib.sha256(got).digest() == hashlib.sha256(b"".join(parts)).digest()
    at = 18 * 5 * MIB - 3
    piece = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={at}-{at + 9}")["Body"].read()
    assert piece == b"".join(parts)[at : at + 10]


def test_uploads_do_not_keep_a_bucket(s3, bucket):
    """As in S3: what was begun and never ended goes with its bucket. A bucket that cannot go keeps it."""
    first = s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="a", UploadId=first, PartNumber=1, Body=b"x" * 100_000)
    s3.create_multipart_upload(Bucket=bucket, Key="a")
    s3.put_object(Bucket=bucket, Key="b", Body=b"x")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    assert len(s3.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 2
    assert len(s3.list_parts(Bucket=bucket, Key="a", UploadId=first)["Parts"]) == 1
    s3.delete_object(Bucket=bucket, Key="b")
    s3.delete_bucket(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        s3.list_parts(Bucket=bucket, Key="a", UploadId=first)
    s3.create_bucket(Bucket=bucket)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with refused("NoSuchUpload", 404):
        s3.list_parts(Bucket=bucket, Key="a", UploadId=first)


def test_a_bucket_goes_with_more_uploads_than_a_page(s3, bucket):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        begin = lambda n: s3.create_multipart_upload(Bucket=bucket, Key=f"k{n % 7}")
        list(pool.map(begin, range(1100)))
    assert s3.list_multipart_uploads(Bucket=bucket)["IsTruncated"]
    s3.delete_bucket(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        s3.list_multipart_uploads(Bucket=bucket)


def test_a_completion_beside_a_deletion_is_never_lost(s3, bucket):
    """Either the object is there and so is the bucket, or neither."""
    part = b"x" * 1000
    for n in range(20):
        upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        tag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=part)["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}

        def complete():
            return s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)

        def delete():
            return s3.delete_bucket(Bucket=bucket)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            order = [complete, delete] if n % 2 else [delete, complete]
            futures = {call: pool.submit(call) for call in order}
        completed, deleted = (futures[call].exception() is None for call in (complete, delete))
        assert completed != deleted
        if completed:
            assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == part
            s3.delete_object(Bucket=bucket, Key="k")
        else:
            assert futures[complete].exception().response["Error"]["Code"] in ("NoSuchBucket", "NoSuchUpload")
            s3.create_bucket(Bucket=bucket)
