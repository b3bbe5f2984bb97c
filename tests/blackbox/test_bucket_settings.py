"""What buckets are told: tags, CORS, ownership, public access; and listing them. As boto3 and browsers ask."""

import urllib.error
import urllib.request

import pytest
from expecting import refused

import cairn_server
from conftest import STRANGER_ACCESS_KEY, STRANGER_SECRET_KEY, make_client

RULES = {
    "CORSRules": [
        {
            "ID": "pages",
            "AllowedOrigins": ["https://*.example.com"],
            "AllowedMethods": ["GET", "PUT"],
            "AllowedHeaders": ["content-type", "x-amz-*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 600,
        }
    ]
}


def browser(server, method, path, **headers):
    """Status and headers of an unsigned request."""
    names = {k.replace("_", "-"): v for k, v in headers.items()}
    request = urllib.request.Request(server.endpoint + path, method=method, headers=names)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as e:
        return e.code, e.headers


def test_tags(s3, bucket):
    tags = [{"Key": "team", "Value": "storage é"}, {"Key": "empty", "Value": ""}]
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    got = s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    assert sorted(got, key=lambda t: t["Key"]) == sorted(tags, key=lambda t: t["Key"])
    with refused("InvalidTag", 400):
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [tags[0], tags[0]]})
    s3.delete_bucket_tagging(Bucket=bucket)
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)


def test_cors(s3, server, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=bucket)
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration=RULES)
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == RULES["CORSRules"]
    asking = {"Origin": "https://app.example.com", "Access_Control_Request_Method": "PUT"}
    status, headers = browser(
        server, "OPTIONS", f"/{bucket}/k", **asking, Access_Control_Request_Headers="Content-Type, x-amz-acl"
    )
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert headers["Access-Control-Allow-Methods"] == "GET, PUT"
    assert headers["Access-Control-Allow-Headers"] == "content-type, x-amz-acl"
    assert headers["Access-Control-Max-Age"] == "600"
    assert "Origin" in headers["Vary"]
    assert browser(server, "OPTIONS", f"/{bucket}/k", **asking, Access_Control_Request_Headers="range")[0] == 403
    assert browser(server, "OPTIONS", f"/{bucket}/k", Origin="https://a.example.com")[0] == 400
    assert browser(server, "OPTIONS", f"/{bucket}/k")[0] == 400
    # A presigned link used from a page: the bytes, and the page may see them.
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    request = urllib.request.Request(url, headers={"Origin": "https://app.example.com"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.read() == b"x"
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert answer.headers["Access-Control-Expose-Headers"] == "ETag"
    status, headers = browser(server, "GET", f"/{bucket}/k", Origin="https://app.example.com")
    assert (status, headers["Access-Control-Allow-Origin"]) == (403, "https://app.example.com")
    assert "Origin" in headers["Vary"]
    # Where no rule fits nothing is said, as in S3.
    status, headers = browser(server, "GET", f"/{bucket}/k", Origin="https://elsewhere.example.net")
    assert status == 403 and not [n for n in headers if n.lower() == "vary" or n.lower().startswith("access-control")]
    with refused("InvalidRequest", 400):
        rule = {"AllowedOrigins": ["*"], "AllowedMethods": ["PATCH"]}
        s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    s3.delete_bucket_cors(Bucket=bucket)
    assert browser(server, "OPTIONS", f"/{bucket}/k", **asking)[0] == 403


def test_ownership_and_public_access(s3, bucket):
    def ownership():
        return s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]

    assert ownership() == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    s3.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
    )
    assert ownership() == [{"ObjectOwnership": "BucketOwnerPreferred"}]
    s3.delete_bucket_ownership_controls(Bucket=bucket)
    with refused("OwnershipControlsNotFoundError", 404):
        ownership()

    def block():
        return s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]

    assert set(block().values()) == {True}
    some = {"BlockPublicAcls": True, "IgnorePublicAcls": False, "BlockPublicPolicy": False, "RestrictPublicBuckets": True}
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=some)
    assert block() == some
    s3.delete_public_access_block(Bucket=bucket)
    with refused("NoSuchPublicAccessBlockConfiguration", 404):
        block()


def test_lists_of_access(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="private")
    for get, put, where in [
        (s3.get_bucket_acl, s3.put_bucket_acl, {"Bucket": bucket}),
        (s3.get_object_acl, s3.put_object_acl, {"Bucket": bucket, "Key": "k"}),
    ]:
        acl = get(**where)
        assert [g["Permission"] for g in acl["Grants"]] == ["FULL_CONTROL"]
        assert acl["Owner"] == {k: acl["Grants"][0]["Grantee"][k] for k in ("ID", "DisplayName")}
        put(**where, ACL="private")
        put(**where, AccessControlPolicy={"Owner": acl["Owner"], "Grants": acl["Grants"]})
        put(**where, GrantFullControl=f'id="{acl["Owner"]["ID"]}"')
        with refused("AccessControlListNotSupported", 400):
            put(**where, ACL="public-read")
        with refused("InvalidArgument", 400):
            put(**where, GrantRead='id="nobody"')
    with refused("AccessControlListNotSupported", 400):
        s3.put_object(Bucket=bucket, Key="public", Body=b"x", ACL="public-read")
    with refused("InvalidBucketAclWithObjectOwnership", 400):
        s3.create_bucket(Bucket=bucket + "-public", ACL="public-read")


@pytest.mark.parametrize(
    "call, code",
    [
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_policy_status", "NoSuchBucketPolicy"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
        ("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("get_bucket_logging", None),
        ("get_bucket_notification_configuration", None),
        ("get_bucket_accelerate_configuration", None),
        ("get_bucket_request_payment", None),
        ("get_bucket_location", None),
        ("list_bucket_analytics_configurations", None),
        ("list_bucket_intelligent_tiering_configurations", None),
        ("list_bucket_inventory_configurations", None),
        ("list_bucket_metrics_configurations", None),
        ("delete_bucket_policy", None),
        ("delete_bucket_lifecycle", None),
        ("delete_bucket_website", None),
    ],
)
def test_what_is_not_configured(s3, bucket, call, code):
    if code is None:
        assert getattr(s3, call)(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] in (200, 204)
    else:
        with refused(code, 404):
            getattr(s3, call)(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        getattr(s3, call)(Bucket=bucket + "-absent")


def test_what_cannot_be_configured_is_refused_by_name(s3, bucket):
    for call, more in [
        ("put_bucket_policy", {"Policy": "{}"}),
        ("put_bucket_request_payment", {"RequestPaymentConfiguration": {"Payer": "Requester"}}),
        ("put_bucket_accelerate_configuration", {"AccelerateConfiguration": {"Status": "Enabled"}}),
    ]:
        with refused("NotImplemented", 501):
            getattr(s3, call)(Bucket=bucket, **more)


def test_listing_buckets(server):
    """Of an account of their own, so that other tests' buckets do not count."""
    s3 = make_client(server, STRANGER_ACCESS_KEY, STRANGER_SECRET_KEY)
    names = [f"page-{cairn_server.os.getpid()}-{i}" for i in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)
    try:
        pages = s3.get_paginator("list_buckets").paginate(Prefix="page-", PaginationConfig={"PageSize": 2})
        pages = [[b["Name"] for b in page["Buckets"]] for page in pages]
        assert pages == [names[:2], names[2:4], names[4:]]
        listed = s3.list_buckets(Prefix=names[3])
        assert [b["BucketRegion"] for b in listed["Buckets"]] == ["us-east-1"]
        assert listed["Owner"]["DisplayName"] == "000000000002"
        assert listed["Prefix"] == names[3]
        assert s3.list_buckets(BucketRegion="eu-west-1")["Buckets"] == []
        with refused("InvalidArgument", 400):
            s3.list_buckets(MaxBuckets=10_001)
        s3.create_bucket(Bucket=names[0])
    finally:
        for name in names:
            s3.delete_bucket(Bucket=name)


def test_whose_bucket_it_is(s3, server, bucket):
    stranger = make_client(server, STRANGER_ACCESS_KEY, STRANGER_SECRET_KEY)
    with refused("AccessDenied", 403):
        stranger.get_bucket_tagging(Bucket=bucket)
    with refused("BucketAlreadyExists", 409):
        stranger.create_bucket(Bucket=bucket)
    assert s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="000000000001")["BucketRegion"] == "us-east-1"
    with refused("AccessDenied", 403):
        s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner="000000000002")
    with refused("InvalidBucketOwnerAWSAccountID", 400):
        s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner="root")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", RequestPayer="requester")
