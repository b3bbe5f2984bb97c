"""Presigned URLs: made by boto3, used by somebody without keys."""

import base64
import datetime
import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from unittest import mock

import botocore.auth
import botocore.awsrequest
import pytest
from conftest import make_client


def fetch(url, method="GET", data=None, headers=None):
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


@pytest.fixture
def signer(server):
    return make_client(server, signature_version="s3v4")


@pytest.mark.parametrize("settings", [{}, {"signature_version": "s3v4"}], ids=["default", "s3v4"])
@pytest.mark.parametrize("key", ["plain", "a b+c%20d/é 🪨?x=1&y#z"])
def test_put_and_get(server, bucket, key, settings):
    signer = make_client(server, **settings)
    put = signer.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key})
    # Version 2, boto3's default, signs the content type too, and urllib would make one up.
    assert fetch(put, "PUT", b"by link" * 50_000, {"content-type": ""})[0] == 200
    assert fetch(put.replace("/" + bucket + "/", "/" + bucket + "/x"), "PUT", b"x", {"content-type": ""})[0] == 403
    get = signer.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    assert fetch(get) == (200, b"by link" * 50_000)
    part = signer.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": key, "ResponseContentType": "text/x-link"}
    )
    with urllib.request.urlopen(part, timeout=30) as answer:
        assert answer.headers["content-type"] == "text/x-link"


def test_a_link_pins_digest_and_type(server, bucket, s3):
    """boto3's default signs both into the query, and whoever uses the link need not send them as headers."""
    body = b"pinned"
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    parameters = {"Bucket": bucket, "Key": "k", "ContentMD5": digest, "ContentType": "image/png"}
    url = urllib.parse.urlsplit(make_client(server).generate_presigned_url("put_object", Params=parameters))
    assert "content-md5=" in url.query and "content-type=" in url.query

    def put(data, headers):
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
        connection.request("PUT", f"{url.path}?{url.query}", data, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, text

    status, text = put(b"another", {})
    assert status == 400 and b"BadDigest" in text, text
    assert put(body, {"content-type": "text/html"})[0] == 403
    assert put(body, {})[0] == 200
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["ContentType"]) == (body, "image/png")


def test_a_link_does_not_know_the_body(signer, bucket):
    """SDKs sign the checksum of an empty body into a link for a put."""
    host = urllib.parse.urlsplit(signer.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k"}))
    query = "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-id=PutObject"
    request = botocore.awsrequest.AWSRequest("PUT", f"{host.scheme}://{host.netloc}{host.path}?{query}")
    credentials = signer._request_signer._credentials
    botocore.auth.S3SigV4QueryAuth(credentials, "s3", signer.meta.region_name, expires=60).add_auth(request)
    assert fetch(request.url, "PUT", b"a body", {"content-type": ""}) == (200, b"")
    assert signer.get_object(Bucket=bucket, Key="k")["Body"].read() == b"a body"
    status, text = fetch(request.url, "PUT", b"x", {"content-type": "", "x-amz-checksum-crc32": "AAAAAA=="})
    assert status == 403 and b"HeadersNotSigned" in text, "a header that is sent is signed"


def test_a_link_is_for_one_act(signer, bucket):
    signer.put_object(Bucket=bucket, Key="k", Body=b"x")
    get = signer.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    for status, body in [
        fetch(get, "PUT", b"y"),
        fetch(get, "DELETE"),
        fetch(get.replace("/k?", "/l?")),
        fetch(get + "&versionId=null"),
        fetch(get.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601")),
        fetch(get[:-1] + ("0" if get[-1] != "0" else "1")),
    ]:
        assert status == 403 and b"SignatureDoesNotMatch" in body
    assert fetch(get) == (200, b"x")


def test_signed_headers_must_be_sent(signer, bucket):
    put = signer.generate_presigned_url(
        "put_object", Params={"Bucket": bucket, "Key": "k", "ContentType": "text/plain", "Metadata": {"m": "1"}}
    )
    assert fetch(put, "PUT", b"x", {"content-type": "text/html", "x-amz-meta-m": "1"})[0] == 403
    assert fetch(put, "PUT", b"x", {"content-type": "text/plain"})[0] == 403
    assert fetch(put, "PUT", b"x", {"content-type": "text/plain", "x-amz-meta-m": "1"})[0] == 200
    assert signer.head_object(Bucket=bucket, Key="k")["Metadata"] == {"m": "1"}


def at(shift):
    """Signs as if now were `shift` from now."""
    then = datetime.datetime.now(datetime.timezone.utc) + shift
    return mock.patch.object(botocore.auth, "get_current_datetime", lambda *_, **__: then.replace(tzinfo=None))


def test_expiry_and_its_bounds(signer, bucket):
    signer.put_object(Bucket=bucket, Key="k", Body=b"x")

    def link(shift_seconds, expires):
        with at(datetime.timedelta(seconds=shift_seconds)):
            return fetch(signer.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=expires))

    assert link(-50, 60)[0] == 200
    status, body = link(-70, 60)
    assert status == 403 and b"Request has expired" in body
    assert link(-6 * 24 * 3600, 7 * 24 * 3600)[0] == 200
    status, body = link(0, 7 * 24 * 3600 + 1)
    assert status == 400 and b"AuthorizationQueryParametersError" in body
    status, body = link(20 * 60, 3600)
    assert status == 403, body
