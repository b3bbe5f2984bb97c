"""Tags of objects."""

from expecting import refused


def set_of(tags):
    return {"TagSet": [{"Key": k, "Value": v} for k, v in tags]}


def tags_of(s3, bucket, key, **more):
    return [(t["Key"], t["Value"]) for t in s3.get_object_tagging(Bucket=bucket, Key=key, **more)["TagSet"]]


def test_tags_are_put_read_and_deleted(s3, bucket):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="b=2&a+b=%C3%A9&c=")
    assert tags_of(s3, bucket, "k") == [("a b", "é"), ("b", "2"), ("c", "")]
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=set_of([("new", "1")]))
    assert tags_of(s3, bucket, "k") == [("new", "1")]
    head = s3.head_object(Bucket=bucket, Key="k")
    assert head["ETag"] == put["ETag"]
    assert head["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "1"
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert tags_of(s3, bucket, "k") == []
    assert "x-amz-tagging-count" not in s3.head_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"]


def test_copies_take_tags_or_new_ones(s3, bucket):
    s3.put_object(Bucket=bucket, Key="from", Body=b"x", Tagging="a=1")
    source = {"Bucket": bucket, "Key": "from"}
    s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    assert tags_of(s3, bucket, "kept") == [("a", "1")]
    s3.copy_object(Bucket=bucket, Key="new", CopySource=source, TaggingDirective="REPLACE", Tagging="b=2")
    assert tags_of(s3, bucket, "new") == [("b", "2")]
    s3.copy_object(Bucket=bucket, Key="none", CopySource=source, TaggingDirective="REPLACE")
    assert tags_of(s3, bucket, "none") == []
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="no", CopySource=source, Tagging="b=2")
    with refused("InvalidArgument", 400):
        s3.copy_object(Bucket=bucket, Key="no", CopySource=source, TaggingDirective="SOME")


def test_each_version_has_its_own(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first, second = (s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging=f"v={n}")["VersionId"] for n in (1, 2))
    s3.put_object_tagging(Bucket=bucket, Key="k", VersionId=first, Tagging=set_of([("v", "one")]))
    assert tags_of(s3, bucket, "k", VersionId=first) == [("v", "one")]
    assert tags_of(s3, bucket, "k") == tags_of(s3, bucket, "k", VersionId=second) == [("v", "2")]
    answer = s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert answer["VersionId"] == second
    assert tags_of(s3, bucket, "k", VersionId=first) == [("v", "one")]
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    for ask in ({}, {"VersionId": marker}):
        with refused("MethodNotAllowed", 405):
            s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=set_of([]), **ask)
        with refused("MethodNotAllowed", 405):
            s3.get_object_tagging(Bucket=bucket, Key="k", **ask)
        with refused("MethodNotAllowed", 405):
            s3.delete_object_tagging(Bucket=bucket, Key="k", **ask)
    s3.copy_object(Bucket=bucket, Key="old", CopySource={"Bucket": bucket, "Key": "k", "VersionId": first})
    assert tags_of(s3, bucket, "old") == [("v", "one")]


def test_refusals(s3, bucket, raw):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for tags in (
        [(str(n), "") for n in range(11)],
        [("k" * 129, "")],
        [("k", "v" * 257)],
        [("a", "1"), ("a", "2")],
        [("aws:a", "1")],
        [("<", "1")],
    ):
        with refused("InvalidTag", 400):
            s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=set_of(tags))
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket=bucket, Key="k2", Body=b"x", Tagging="a=1&a=2")
    with refused("NoSuchKey", 404):
        s3.put_object_tagging(Bucket=bucket, Key="absent", Tagging=set_of([]))
    with refused("NoSuchVersion", 404):
        s3.get_object_tagging(Bucket=bucket, Key="k", VersionId="0" * 32)
    for body, code in ((b"", "MissingRequestBodyError"), (b"<Tagging/>", "MalformedXML")):
        answer = raw.request("PUT", f"/{bucket}/k", [("tagging", "")], body=body)
        assert (answer.status, answer.code) == (400, code)
