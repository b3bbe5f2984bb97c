"""Listing: order, pages, prefixes, delimiters, url encoding."""

import concurrent.futures

import pytest
from expecting import refused

MANY = 2345


def put_all(s3, bucket, keys):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(s3.put_object, Bucket=bucket, Key=k, Body=k.encode()) for k in keys]:
            done.result()


@pytest.fixture(scope="module")
def many(s3):
    """A bucket with 2,345 keys in 5 directories, 1 of them deep."""
    bucket = "listing-many"
    s3.create_bucket(Bucket=bucket)
    keys = [f"dir{n % 5}/{'deep/' * (n % 5)}{n:05}" for n in range(MANY)]
    put_all(s3, bucket, keys)
    return bucket, sorted(keys)


def pages(s3, **ask):
    """All pages, following the tokens by hand."""
    out = []
    while True:
        page = s3.list_objects_v2(**ask)
        out.append(page)
        if not page["IsTruncated"]:
            assert "NextContinuationToken" not in page
            return out
        ask["ContinuationToken"] = page["NextContinuationToken"]


def keys_of(listed):
    return [o["Key"] for page in listed for o in page.get("Contents", [])]


def prefixes_of(listed):
    return [p["Prefix"] for page in listed for p in page.get("CommonPrefixes", [])]


def test_more_than_a_thousand_keys(s3, many):
    bucket, keys = many
    listed = pages(s3, Bucket=bucket)
    assert [p["KeyCount"] for p in listed] == [1000, 1000, 345]
    assert keys_of(listed) == keys
    first = listed[0]["Contents"][0]
    assert first["Size"] == len(first["Key"]) and first["StorageClass"] == "STANDARD"
    assert s3.head_object(Bucket=bucket, Key=first["Key"])["ETag"] == first["ETag"]


def test_version_one_pages_by_marker(s3, many):
    bucket, keys = many
    found, marker = [], ""
    while True:
        page = s3.list_objects(Bucket=bucket, Marker=marker, MaxKeys=700)
        found += [o["Key"] for o in page["Contents"]]
        if not page["IsTruncated"]:
            break
        marker = page.get("NextMarker") or page["Contents"][-1]["Key"]
    assert found == keys
    below = s3.list_objects(Bucket=bucket, Delimiter="/", MaxKeys=2)
    assert [p["Prefix"] for p in below["CommonPrefixes"]] == ["dir0/", "dir1/"] and below["NextMarker"] == "dir1/"


@pytest.mark.parametrize("size", [1, 7, 999])
def test_small_pages(s3, many, size):
    bucket, keys = many
    keys = [k for k in keys if k.startswith("dir4/")][: 469]
    assert keys_of(pages(s3, Bucket=bucket, Prefix="dir4/", MaxKeys=size)) == keys


def test_delimiter_skips_what_is_below(s3, many):
    bucket, _ = many
    listed = pages(s3, Bucket=bucket, Delimiter="/")
    assert prefixes_of(listed) == [f"dir{n}/" for n in range(5)] and keys_of(listed) == []
    listed = pages(s3, Bucket=bucket, Delimiter="/", Prefix="dir2/", MaxKeys=1)
    assert prefixes_of(listed) == ["dir2/deep/"] and len(listed) == 1
    listed = pages(s3, Bucket=bucket, Delimiter="/", MaxKeys=2)
    assert [p["KeyCount"] for p in listed] == [2, 2, 1]
    assert prefixes_of(listed) == [f"dir{n}/" for n in range(5)]


def test_a_prefix_that_the_start_lies_in_is_past(s3, bucket):
    for key in ("a/1", "a/2", "b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    ask = {"Bucket": bucket, "Delimiter": "/"}
    for list_, start, entries in [
        (s3.list_objects_v2, {"StartAfter": "a/1"}, "Contents"),
        (s3.list_objects, {"Marker": "a/1"}, "Contents"),
        (s3.list_object_versions, {"KeyMarker": "a/1"}, "Versions"),
        (s3.list_multipart_uploads, {"KeyMarker": "a/1"}, "Uploads"),
    ]:
        page = list_(**ask, **start)
        assert [e["Key"] for e in page[entries]] == ["b"] and "CommonPrefixes" not in page, page


def test_start_after(s3, many):
    bucket, keys = many
    after = keys[1234]
    assert keys_of(pages(s3, Bucket=bucket, StartAfter=after)) == keys[1235:]
    assert keys_of(pages(s3, Bucket=bucket, StartAfter="zzz")) == []


def test_mixed_keys_and_prefixes_in_one_order(s3, bucket):
    keys = ["a", "a/", "a/b", "a/b/c", "a0", "b/x", "b/y", "b0/z", "c"]
    put_all(s3, bucket, keys)
    for size in (1, 2, 3, 1000):
        listed = pages(s3, Bucket=bucket, Delimiter="/", MaxKeys=size)
        assert keys_of(listed) == ["a", "a0", "c"], size
        assert prefixes_of(listed) == ["a/", "b/", "b0/"], size
        assert keys_of(pages(s3, Bucket=bucket, MaxKeys=size)) == keys, size
        below = pages(s3, Bucket=bucket, Delimiter="/", Prefix="a/", MaxKeys=size)
        assert keys_of(below) == ["a/", "a/b"] and prefixes_of(below) == ["a/b/"], size


def test_a_delimiter_may_be_anything(s3, bucket):
    put_all(s3, bucket, ["x--1--a", "x--1--b", "x--2", "y"])
    listed = pages(s3, Bucket=bucket, Delimiter="--")
    assert prefixes_of(listed) == ["x--"] and keys_of(listed) == ["y"]
    listed = pages(s3, Bucket=bucket, Delimiter="--", Prefix="x--")
    assert prefixes_of(listed) == ["x--1--"] and keys_of(listed) == ["x--2"]


def test_url_encoding_of_what_xml_cannot_say(s3, bucket, raw):
    keys = ["ctl\x01\x02", "new\nline", "plus+", "per%cent", "amp&", "ü 日本 🪨"]
    put_all(s3, bucket, keys)
    # boto3 asks for it and decodes it.
    assert keys_of(pages(s3, Bucket=bucket)) == sorted(keys, key=lambda k: k.encode())
    answer = raw.request("GET", f"/{bucket}", query=[("list-type", "2"), ("encoding-type", "url"), ("prefix", "ctl")])
    assert b"<Key>ctl%01%02</Key>" in answer.body and b"<EncodingType>url</EncodingType>" in answer.body


def test_an_empty_bucket_and_empty_pages(s3, bucket):
    empty = s3.list_objects_v2(Bucket=bucket)
    assert empty["KeyCount"] == 0 and not empty["IsTruncated"] and "Contents" not in empty
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    none = s3.list_objects_v2(Bucket=bucket, MaxKeys=0)
    assert none["KeyCount"] == 0 and "Contents" not in none
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)["MaxKeys"] == 1000


def test_bad_arguments_are_refused(s3, bucket, raw):
    with refused("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=bucket, ContinuationToken="not one of ours")
    for query in ([("max-keys", "x")], [("max-keys", "-1")], [("encoding-type", "base64")]):
        answer = raw.request("GET", f"/{bucket}", query=[("list-type", "2"), *query])
        assert (answer.status, answer.code) == (400, "InvalidArgument"), (query, answer)


def test_listing_sees_each_change_at_once(s3, bucket):
    for n in range(20):
        s3.put_object(Bucket=bucket, Key=f"k{n % 3}", Body=b"x" * n)
        listed = {o["Key"]: o["Size"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]}
        assert listed[f"k{n % 3}"] == n
        s3.delete_object(Bucket=bucket, Key=f"k{(n + 1) % 3}")
        assert f"k{(n + 1) % 3}" not in keys_of(pages(s3, Bucket=bucket))


def test_pages_of_large_rows_end_early_and_go_on(s3, bucket):
    """What a page may take is bounded in bytes: fewer keys than were asked for, marked as truncated, and each once."""
    names = sorted([f"{n:02}/a" for n in range(60)] + [f"{n:02}k" for n in range(60)])
    metadata = {"m": "v" * 2000}
    for name in names:
        s3.put_object(Bucket=bucket, Key=name, Metadata=metadata)
        s3.create_multipart_upload(Bucket=bucket, Key=name, Metadata=metadata)
    lines = sorted([f"{n:02}/" for n in range(60)] + [f"{n:02}k" for n in range(60)])

    def told(call, rows, **ask):
        return [
            sorted([r["Key"] for r in page.get(rows, [])] + [p["Prefix"] for p in page.get("CommonPrefixes", [])])
            for page in s3.get_paginator(call).paginate(Bucket=bucket, **ask)
        ]

    for call, rows, most in [
        ("list_objects_v2", "Contents", "MaxKeys"),
        ("list_objects", "Contents", "MaxKeys"),
        ("list_object_versions", "Versions", "MaxKeys"),
        ("list_multipart_uploads", "Uploads", "MaxUploads"),
    ]:
        for delimiter, wanted in [({}, names), ({"Delimiter": "/"}, lines)]:
            listed = told(call, rows, **{most: 100}, **delimiter)
            assert sum(listed, []) == wanted, (call, delimiter)
            assert 0 < len(listed[0]) < 100, (call, delimiter)


def test_times_are_those_of_the_heads(s3, bucket):
    """In whole seconds, as a header has them: who copies what is newer would copy it again for a fraction."""
    for n in range(5):
        s3.put_object(Bucket=bucket, Key=f"k{n}", Body=b"x")
    heads = {f"k{n}": s3.head_object(Bucket=bucket, Key=f"k{n}")["LastModified"] for n in range(5)}
    for listed in [
        s3.list_objects_v2(Bucket=bucket)["Contents"],
        s3.list_objects(Bucket=bucket)["Contents"],
        s3.list_object_versions(Bucket=bucket)["Versions"],
    ]:
        assert {o["Key"]: o["LastModified"] for o in listed} == heads
