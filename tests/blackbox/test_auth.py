"""Who may: signatures, keys, clocks, regions, accounts, virtual-host style, and what is refused by name."""

import cairn_server
import conftest
import pytest
import signed_http
from expecting import refused

ASKED = [("response-content-type", "text/x")]
KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)


def test_bad_signatures_and_keys(server, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    liar = conftest.make_client(server, secret_key="not the secret")
    for act in (
        lambda: liar.get_object(Bucket=bucket, Key="k"),
        lambda: liar.put_object(Bucket=bucket, Key="k", Body=b"y" * 100_000),
        lambda: liar.delete_object(Bucket=bucket, Key="k"),
        lambda: liar.list_objects_v2(Bucket=bucket),
        lambda: liar.list_buckets(),
    ):
        with refused("SignatureDoesNotMatch", 403):
            act()
    with refused("InvalidAccessKeyId", 403):
        conftest.make_client(server, access_key="nobody").get_object(Bucket=bucket, Key="k")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_nobody_gets_in_unsigned(server, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for method, path in [("GET", f"/{bucket}/k"), ("GET", f"/{bucket}"), ("GET", "/"), ("PUT", f"/{bucket}/k"), ("DELETE", f"/{bucket}/k")]:
        with signed_http.Raw(server.port) as raw:
            raw.send(signed_http.head_bytes(method, path, {"host": "x", "content-length": "0"}))
            answer = raw.answer()
            assert (answer.status, answer.code) == (403, "AccessDenied"), (method, path, answer)


def test_each_piece_of_a_request_is_signed(raw, bucket):
    """A request changed on its way is refused."""
    path = f"/{bucket}/k"
    raw.request("PUT", path, body=b"x")
    good = signed_http.sign(KEYS, "GET", path, raw.host, ASKED, {"x-amz-checksum-mode": "ENABLED"})
    assert raw.send("GET", path, ASKED, b"", good.headers).status == 200
    for what, method, target, query, headers in [
        ("method", "HEAD", path, ASKED, good.headers),
        ("path", "GET", path + "2", ASKED, good.headers),
        ("query", "GET", path, [("response-content-type", "text/y")], good.headers),
        ("query", "GET", path, [], good.headers),
        ("header", "GET", path, ASKED, good.headers | {"x-amz-checksum-mode": "DISABLED"}),
        ("unsigned x-amz header", "GET", path, ASKED, good.headers | {"x-amz-request-payer": "requester"}),
    ]:
        answer = raw.send(method, target, query, b"", headers)
        assert answer.status == 403, (what, answer)


def test_the_payload_is_held_against_its_hash(raw, bucket):
    import hashlib

    path = f"/{bucket}/k"
    digest = hashlib.sha256(b"these bytes").hexdigest()
    assert raw.request("PUT", path, body=b"these bytes", payload=digest).status == 200
    answer = raw.request("PUT", path, body=b"other bytes", payload=digest)
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch"), answer
    assert raw.request("GET", path).body == b"these bytes"


@pytest.mark.parametrize("shift, status", [(-14 * 60, 200), (14 * 60, 200), (-16 * 60, 403), (16 * 60, 403)])
def test_clocks_may_differ_by_fifteen_minutes(raw, bucket, shift, status):
    answer = raw.request("PUT", f"/{bucket}/k", body=b"x", date=signed_http.amz_date(shift))
    assert answer.status == status, answer
    if status == 403:
        assert answer.code == "RequestTimeTooSkewed"


def test_the_wrong_region_is_named(server, raw, bucket):
    raw.credentials = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY, "eu-central-1")
    answer = raw.request("GET", f"/{bucket}", query=[("list-type", "2")])
    assert (answer.status, answer.code) == (400, "AuthorizationHeaderMalformed"), answer
    assert b"<Region>us-east-1</Region>" in answer.body
    with refused("InvalidLocationConstraint", 400):
        conftest.make_client(server).create_bucket(
            Bucket=bucket + "-elsewhere", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )


def test_several_access_keys_and_accounts(server, s3, bucket):
    """A second key of the same account sees the same buckets; another account's does not."""
    second = conftest.make_client(server, conftest.SECOND_ACCESS_KEY, conftest.SECOND_SECRET_KEY)
    stranger = conftest.make_client(server, conftest.STRANGER_ACCESS_KEY, conftest.STRANGER_SECRET_KEY)
    second.put_object(Bucket=bucket, Key="k", Body=b"by the second key")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"by the second key"
    assert bucket in [b["Name"] for b in second.list_buckets()["Buckets"]]
    assert bucket not in [b["Name"] for b in stranger.list_buckets()["Buckets"]]
    for act in (
        lambda: stranger.get_object(Bucket=bucket, Key="k"),
        lambda: stranger.put_object(Bucket=bucket, Key="k", Body=b"y"),
        lambda: stranger.delete_object(Bucket=bucket, Key="k"),
        lambda: stranger.list_objects_v2(Bucket=bucket),
        lambda: stranger.delete_bucket(Bucket=bucket),
        lambda: stranger.create_multipart_upload(Bucket=bucket, Key="k"),
    ):
        with refused("AccessDenied", 403):
            act()
    with refused("BucketAlreadyExists", 409):
        stranger.create_bucket(Bucket=bucket)
    stranger.create_bucket(Bucket=bucket + "-strange")
    stranger.delete_bucket(Bucket=bucket + "-strange")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"by the second key"


def test_virtual_host_style(server, bucket):
    raw = signed_http.Client(server.port, KEYS, host=f"{bucket}.{conftest.DOMAIN}:{server.port}")
    try:
        assert raw.request("PUT", "/some/key", body=b"x").status == 200
        assert raw.request("GET", "/some/key").body == b"x"
        assert b"<Key>some/key</Key>" in raw.request("GET", "/", query=[("list-type", "2")]).body
    finally:
        raw.close()
    path_style = signed_http.Client(server.port, KEYS, host=f"{conftest.DOMAIN}:{server.port}")
    try:
        assert path_style.request("GET", f"/{bucket}/some/key").body == b"x"
    finally:
        path_style.close()


@pytest.mark.parametrize(
    "method, key, query, name",
    [
        ("PUT", "k", "retention", "PutObjectRetention"), ("PUT", "k", "legal-hold", "PutObjectLegalHold"),
        ("GET", "k", "torrent", "GetObjectTorrent"), ("POST", "k", "restore", "RestoreObject"), ("POST", "k", "select", "SelectObjectContent"),
        ("PUT", "k", "something-new", "something-new"), ("GET", "k", "something-new", "something-new"), ("DELETE", "k", "something-new", "something-new"),
        ("PUT", None, "something-new", "something-new"), ("GET", None, "something-new", "something-new"), ("DELETE", None, "something-new", "something-new"),
    ],
)
def test_unknown_sub_resources_are_refused_by_name(raw, s3, bucket, method, key, query, name):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    path = f"/{bucket}/{key}" if key else f"/{bucket}"
    answer = raw.request(method, path, query=[(query, "")], body=b"y" if method in ("PUT", "POST") else b"")
    assert answer.status >= 400 and answer.code is not None, answer
    if not conftest.OTHER:
        assert (answer.status, answer.code) == (501, "NotImplemented") and name.encode() in answer.body, answer.body
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


@pytest.mark.parametrize(
    "headers, code",
    [
        ({"x-amz-server-side-encryption": "AES256"}, "NotImplemented"),
        ({"x-amz-server-side-encryption": "aws:kms"}, "NotImplemented"),
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, "NotImplemented"),
        ({"x-amz-object-lock-mode": "COMPLIANCE", "x-amz-object-lock-retain-until-date": "2033-01-01T00:00:00Z"}, "NotImplemented"),
        ({"x-amz-object-lock-legal-hold": "ON"}, "NotImplemented"),
        ({"x-amz-website-redirect-location": "/elsewhere"}, "NotImplemented"),
        ({"x-amz-something-new": "1"}, "NotImplemented"),
        ({"x-amz-storage-class": "GLACIER"}, "InvalidStorageClass"),
        ({"x-amz-acl": "public-read"}, None),
        ({"x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}, None),
    ],
)
def test_guarantees_not_given_are_refused(raw, bucket, headers, code):
    answer = raw.request("PUT", f"/{bucket}/k", body=b"x", headers=headers)
    assert answer.status in (400, 403, 501) and answer.code is not None, (headers, answer)
    if code and not conftest.OTHER:
        assert answer.code == code, answer.body
        # By its name: who reads the answer knows what they asked for in vain.
        asked = [s for pair in headers.items() for s in pair]
        assert any(s.encode() in answer.body for s in asked), answer.body
    assert raw.request("HEAD", f"/{bucket}/k").status == 404


@pytest.mark.parametrize("acl", ["private", "bucket-owner-full-control"])
def test_acls_that_are_what_cairn_does(s3, bucket, acl):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL=acl)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
