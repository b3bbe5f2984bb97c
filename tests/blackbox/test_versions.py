"""Versions: enabled, suspended, null versions, delete markers, everything by version, and their listing."""

import os

import pytest
from expecting import refused

NOBODYS = "0123456789abcdef0123456789abcdef"


def set_versioning(s3, bucket, status):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status


@pytest.fixture
def kept(s3, bucket):
    """A bucket that keeps versions."""
    set_versioning(s3, bucket, "Enabled")
    return bucket


def put(s3, bucket, key, body, **more):
    return s3.put_object(Bucket=bucket, Key=key, Body=body, **more).get("VersionId")


def body_of(s3, bucket, key, **which):
    return s3.get_object(Bucket=bucket, Key=key, **which)["Body"].read()


def versions(s3, bucket, **query):
    """Every version and marker of a page: key, version, whether a marker, whether latest."""
    page = s3.list_object_versions(Bucket=bucket, **query)
    found = [(v["Key"], v["VersionId"], False, v["IsLatest"]) for v in page.get("Versions", [])]
    found += [(m["Key"], m["VersionId"], True, m["IsLatest"]) for m in page.get("DeleteMarkers", [])]
    return found


def test_a_bucket_says_its_state(s3, bucket):
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    for status in ["Enabled", "Suspended", "Suspended", "Enabled"]:
        set_versioning(s3, bucket, status)
    with refused("NotImplemented", 501):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"})
    with refused("IllegalVersioningConfigurationException", 400):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={})
    with refused("MalformedXML", 400):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "On"})
    with refused("NoSuchBucket", 404):
        s3.put_bucket_versioning(Bucket=bucket + "-none", VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_before_versioning_nothing_says_versions(s3, bucket):
    answers = [
        s3.put_object(Bucket=bucket, Key="k", Body=b"x"),
        s3.get_object(Bucket=bucket, Key="k"),
        s3.head_object(Bucket=bucket, Key="k"),
        s3.get_object(Bucket=bucket, Key="k", VersionId="null"),
    ]
    assert versions(s3, bucket) == [("k", "null", False, True)]
    answers.append(s3.delete_object(Bucket=bucket, Key="k"))
    assert all("x-amz-version-id" not in a["ResponseMetadata"]["HTTPHeaders"] for a in answers)
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")
    assert versions(s3, bucket) == []


@pytest.mark.parametrize("size", [0, 5, 3000, 400_000])
def test_every_version_stays_readable(s3, kept, size):
    bodies = [os.urandom(size) for _ in range(4)]
    ids = [put(s3, kept, "k", body, Metadata={"n": str(n)}) for n, body in enumerate(bodies)]
    assert len(set(ids)) == 4
    assert body_of(s3, kept, "k") == bodies[3]
    for n, (version, body) in enumerate(zip(ids, bodies, strict=True)):
        got = s3.get_object(Bucket=kept, Key="k", VersionId=version)
        assert (got["Body"].read(), got["VersionId"], got["Metadata"]) == (body, version, {"n": str(n)})
        assert s3.head_object(Bucket=kept, Key="k", VersionId=version)["VersionId"] == version
    latest_first = [("k", version, False, version == ids[3]) for version in reversed(ids)]
    assert versions(s3, kept) == latest_first


def test_what_was_there_before_is_the_null_version(s3, bucket):
    put(s3, bucket, "k", b"before")
    set_versioning(s3, bucket, "Enabled")
    assert s3.head_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    version = put(s3, bucket, "k", b"after")
    assert body_of(s3, bucket, "k") == b"after"
    assert body_of(s3, bucket, "k", VersionId="null") == b"before"
    assert versions(s3, bucket) == [("k", version, False, True), ("k", "null", False, False)]
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert versions(s3, bucket) == [("k", version, False, True)]


def test_a_marker_hides_and_its_deletion_restores(s3, kept):
    version = put(s3, kept, "k", b"x")
    deleted = s3.delete_object(Bucket=kept, Key="k")
    marker = deleted["VersionId"]
    assert deleted["DeleteMarker"] and marker not in (version, "null")
    assert "Contents" not in s3.list_objects_v2(Bucket=kept)
    for read in [s3.get_object, s3.head_object]:
        with refused("NoSuchKey" if read == s3.get_object else "404", 404) as caught:
            read(Bucket=kept, Key="k")
        headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
        assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)
        with refused("MethodNotAllowed" if read == s3.get_object else "405", 405) as caught:
            read(Bucket=kept, Key="k", VersionId=marker)
        headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
        assert (headers["x-amz-delete-marker"], headers["allow"]) == ("true", "DELETE")
        assert "last-modified" in headers
    assert body_of(s3, kept, "k", VersionId=version) == b"x"
    again = s3.delete_object(Bucket=kept, Key="k", VersionId=marker)
    assert (again["VersionId"], again["DeleteMarker"]) == (marker, True)
    assert body_of(s3, kept, "k") == b"x"
    assert versions(s3, kept) == [("k", version, False, True)]


def test_a_marker_over_nothing(s3, kept):
    marker = s3.delete_object(Bucket=kept, Key="never")["VersionId"]
    assert versions(s3, kept) == [("never", marker, True, True)]
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=kept)
    s3.delete_object(Bucket=kept, Key="never", VersionId=marker)
    s3.delete_bucket(Bucket=kept)


def test_deleting_versions_uncovers_the_next(s3, kept):
    ids = [put(s3, kept, "k", b"%d" % n) for n in range(4)]
    deleted = s3.delete_object(Bucket=kept, Key="k", VersionId=ids[1])
    assert deleted["VersionId"] == ids[1] and "DeleteMarker" not in deleted
    assert body_of(s3, kept, "k") == b"3"
    s3.delete_object(Bucket=kept, Key="k", VersionId=ids[3])
    assert body_of(s3, kept, "k") == b"2"
    s3.delete_object(Bucket=kept, Key="k", VersionId=ids[2])
    assert body_of(s3, kept, "k") == b"0"
    with refused("NoSuchVersion", 404):
        s3.get_object(Bucket=kept, Key="k", VersionId=ids[1])
    # What is not there is deleted.
    s3.delete_object(Bucket=kept, Key="k", VersionId=ids[1])
    s3.delete_object(Bucket=kept, Key="k", VersionId=NOBODYS)
    s3.delete_object(Bucket=kept, Key="k", VersionId=ids[0])
    assert versions(s3, kept) == []


def test_suspended_there_is_one_null_version(s3, bucket):
    put(s3, bucket, "k", b"null 1")
    set_versioning(s3, bucket, "Enabled")
    version = put(s3, bucket, "k", b"kept")
    set_versioning(s3, bucket, "Suspended")
    assert put(s3, bucket, "k", b"null 2") is None
    put(s3, bucket, "k", b"null 3")
    assert body_of(s3, bucket, "k") == body_of(s3, bucket, "k", VersionId="null") == b"null 3"
    assert versions(s3, bucket) == [("k", "null", False, True), ("k", version, False, False)]
    deleted = s3.delete_object(Bucket=bucket, Key="k")
    assert (deleted["DeleteMarker"], deleted["VersionId"]) == (True, "null")
    assert sorted(versions(s3, bucket)) == sorted([("k", version, False, False), ("k", "null", True, True)])
    put(s3, bucket, "k", b"null 4")
    assert versions(s3, bucket) == [("k", "null", False, True), ("k", version, False, False)]
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert body_of(s3, bucket, "k") == b"kept"


def test_many_at_once(s3, kept):
    first, second = put(s3, kept, "a", b"1"), put(s3, kept, "a", b"2")
    put(s3, kept, "b", b"1")

    def delete(*objects):
        answer = s3.delete_objects(Bucket=kept, Delete={"Objects": list(objects)})
        return answer.get("Deleted", []), answer.get("Errors", [])

    deleted, errors = delete({"Key": "a", "VersionId": second}, {"Key": "b"}, {"Key": "c", "VersionId": "nonsense"})
    assert deleted[0] == {"Key": "a", "VersionId": second}
    marker = deleted[1].pop("DeleteMarkerVersionId")
    assert deleted[1:] == [{"Key": "b", "DeleteMarker": True}]
    assert [(e["Key"], e["VersionId"], e["Code"]) for e in errors] == [("c", "nonsense", "InvalidArgument")]
    assert body_of(s3, kept, "a", VersionId=first) == body_of(s3, kept, "a") == b"1"
    deleted, _ = delete({"Key": "b", "VersionId": marker})
    assert deleted == [{"Key": "b", "VersionId": marker, "DeleteMarker": True, "DeleteMarkerVersionId": marker}]
    assert body_of(s3, kept, "b") == b"1"


def test_uploads_and_copies_make_versions(s3, kept):
    first = put(s3, kept, "k", b"first")
    upload = s3.create_multipart_upload(Bucket=kept, Key="k")["UploadId"]
    tag = s3.upload_part(Bucket=kept, Key="k", UploadId=upload, PartNumber=1, Body=b"second")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    done = s3.complete_multipart_upload(Bucket=kept, Key="k", UploadId=upload, MultipartUpload=parts)
    assert body_of(s3, kept, "k") == body_of(s3, kept, "k", VersionId=done["VersionId"]) == b"second"
    source = {"Bucket": kept, "Key": "k", "VersionId": first}
    copied = s3.copy_object(Bucket=kept, Key="k", CopySource=source)
    assert copied["CopySourceVersionId"] == first
    assert [v[1] for v in versions(s3, kept)] == [copied["VersionId"], done["VersionId"], first]
    assert body_of(s3, kept, "k") == b"first"
    marker = s3.delete_object(Bucket=kept, Key="k")["VersionId"]
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=kept, Key="to", CopySource={**source, "VersionId": marker})
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=kept, Key="to", CopySource={"Bucket": kept, "Key": "k"})


def test_conditions_look_at_what_is_visible(s3, kept):
    etag = s3.put_object(Bucket=kept, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=kept, Key="k", Body=b"2", IfNoneMatch="*")
    s3.put_object(Bucket=kept, Key="k", Body=b"2", IfMatch=etag)
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=kept, Key="k", Body=b"3", IfMatch=etag)
    s3.delete_object(Bucket=kept, Key="k")
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=kept, Key="k", Body=b"3", IfMatch=etag)
    s3.put_object(Bucket=kept, Key="k", Body=b"3", IfNoneMatch="*")
    assert body_of(s3, kept, "k") == b"3"


@pytest.mark.parametrize("version", ["nonsense", NOBODYS.upper(), NOBODYS + "0", "Null"])
def test_what_no_version_is_called(s3, kept, version):
    put(s3, kept, "k", b"x")
    for act in [s3.get_object, s3.delete_object]:
        with refused("InvalidArgument", 400):
            act(Bucket=kept, Key="k", VersionId=version)
    with refused("NoSuchVersion", 404):
        s3.get_object(Bucket=kept, Key="k", VersionId=NOBODYS)
    with refused("NoSuchVersion", 404):
        s3.get_object(Bucket=kept, Key="k", VersionId="null")


@pytest.fixture
def crowd(s3, kept):
    """Three versions and a marker of each of nine keys, some under prefixes; key to its versions, newest first."""
    all_of = {}
    for key in ["a", "a/1", "a/2", "a b", "b/x/1", "b/x/2", "b/y", "c", "d\n"]:
        made = [put(s3, kept, key, b"%d" % n) for n in range(3)]
        made.append(s3.delete_object(Bucket=kept, Key=key)["VersionId"])
        all_of[key] = made[::-1]
    return all_of


@pytest.mark.parametrize("max_keys", [1, 3, 4, 7])
def test_pages_join_to_the_whole(s3, kept, crowd, max_keys):
    whole = [(key, version) for key in sorted(crowd) for version in crowd[key]]
    found, pages, where = [], 0, {}
    while True:
        page = s3.list_object_versions(Bucket=kept, MaxKeys=max_keys, **where)
        both = page.get("Versions", []) + page.get("DeleteMarkers", [])
        assert len(both) <= max_keys
        found += [(one["Key"], one["VersionId"], one["IsLatest"]) for one in both]
        pages += 1
        if not page["IsTruncated"]:
            break
        where = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
    assert pages == -(-len(whole) // max_keys)
    assert sorted(found) == sorted((key, version, version == crowd[key][0]) for key, version in whole)


def test_prefixes_delimiters_and_markers(s3, kept, crowd):
    def keys(**query):
        page = s3.list_object_versions(Bucket=kept, **query)
        both = page.get("Versions", []) + page.get("DeleteMarkers", [])
        prefixes = [p["Prefix"] for p in page.get("CommonPrefixes", [])]
        return sorted({one["Key"] for one in both}), prefixes

    assert keys(Delimiter="/") == (["a", "a b", "c", "d\n"], ["a/", "b/"])
    assert keys(Delimiter="/", Prefix="b/") == (["b/y"], ["b/x/"])
    assert keys(Prefix="b/x") == (["b/x/1", "b/x/2"], [])
    assert keys(Delimiter="/", KeyMarker="a/") == (["c", "d\n"], ["b/"])
    assert keys(KeyMarker="b/y") == (["c", "d\n"], [])
    assert keys(EncodingType="url", Prefix="d") == (["d%0A"], [])
    assert keys(MaxKeys=0) == ([], [])
    after = versions(s3, kept, KeyMarker="c", VersionIdMarker=crowd["c"][1], Prefix="c")
    assert after == [("c", crowd["c"][2], False, False), ("c", crowd["c"][3], False, False)]
    page = s3.list_object_versions(Bucket=kept, Delimiter="/", Prefix="b", MaxKeys=1)
    assert (page["IsTruncated"], [p["Prefix"] for p in page["CommonPrefixes"]]) == (False, ["b/"])


@pytest.mark.parametrize(
    "query",
    [
        {"version-id-marker": "null"},
        {"key-marker": "k", "version-id-marker": ""},
        {"key-marker": "k", "version-id-marker": "x"},
        {"max-keys": "x"},
    ],
)
def test_bad_markers(raw, kept, query):
    answer = raw.request("GET", f"/{kept}", query=[("versions", ""), *query.items()])
    assert (answer.status, b"<Code>InvalidArgument</Code>" in answer.body) == (400, True)


def test_a_page_goes_on_when_its_null_version_went(s3, bucket):
    put(s3, bucket, "k", b"null")
    set_versioning(s3, bucket, "Enabled")
    newest = put(s3, bucket, "k", b"kept")
    set_versioning(s3, bucket, "Suspended")
    put(s3, bucket, "k", b"null again")
    page = s3.list_object_versions(Bucket=bucket, MaxKeys=1)
    assert page["Versions"][0]["VersionId"] == "null"
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    where = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
    assert [v[1] for v in versions(s3, bucket, **where)] == [newest]
