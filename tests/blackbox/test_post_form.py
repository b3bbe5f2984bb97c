"""Uploads by form, as pages make them: boto3 signs, urllib3 writes the form."""

import http.client
import json

import pytest
import urllib3

import cairn_server
from conftest import make_client

SIGNATURES = [None, "s3v4"]


@pytest.fixture(params=SIGNATURES, ids=["boto3's default", "version 4"])
def signer(server, request):
    return make_client(server, **({"signature_version": request.param} if request.param else {}))


def post(form, *file, fields=None, after=(), url=None):
    """Posts a form; `file` is (name, bytes) or (bytes,)."""
    parts = list({**form["fields"], **(fields or {})}.items())
    parts = [(k, v) for k, v in parts if v is not None]
    if file:
        parts.append(("file", file if len(file) == 2 else file[0]))
    body, kind = urllib3.encode_multipart_formdata([*parts, *after])
    return urllib3.request(
        "POST", url or form["url"], body=body, headers={"Content-Type": kind}, redirect=False, retries=False
    )


def code(answer):
    text = answer.data.decode()
    return answer.status, text.split("<Code>")[1].split("</Code>")[0] if "<Code>" in text else ""


def test_a_file(s3, signer, bucket):
    form = signer.generate_presigned_post(bucket, "up/${filename}")
    answer = post(form, "a ü.txt", b"hello", after=[("submit", "Upload")])
    assert (answer.status, answer.data) == (204, b"")
    got = s3.get_object(Bucket=bucket, Key="up/a ü.txt")
    assert got["Body"].read() == b"hello"
    assert answer.headers["ETag"] == got["ETag"]
    assert answer.headers["Location"].endswith(f"/{bucket}/up/a%20%C3%BC.txt")
    assert post(form, "empty", b"").status == 204
    assert s3.head_object(Bucket=bucket, Key="up/empty")["ContentLength"] == 0


@pytest.mark.parametrize("size", [512, 513, 200_000, 1 << 20, 5 << 20, (9 << 20) + 17])
@pytest.mark.parametrize("after", [0, 60_000])
def test_sizes(s3, signer, bucket, size, after):
    """The form does not say how long its file is, and fields may follow it."""
    body = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000 + 1)
    body = body[: size - 8] + b"\r\n--edge"
    form = signer.generate_presigned_post(bucket, "k")
    assert post(form, body, after=[("note", "n" * after)] if after else []).status == 204
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == body


def test_a_form_may_say_when_and_whose(s3, signer, bucket):
    fields = {"if-none-match": "*", "x-amz-expected-bucket-owner": "000000000001"}
    form = signer.generate_presigned_post(bucket, "k", Fields=dict(fields), Conditions=[{k: v} for k, v in fields.items()])
    assert post(form, b"first").status == 204
    assert code(post(form, b"second")) == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"
    fields = {"x-amz-expected-bucket-owner": "000000000002"}
    form = signer.generate_presigned_post(bucket, "k", Fields=dict(fields), Conditions=[{k: v} for k, v in fields.items()])
    assert code(post(form, b"third")) == (403, "AccessDenied")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"


def test_what_a_form_says_of_its_object(s3, signer, bucket):
    fields = {
        "acl": "private",
        "Content-Type": "text/plain",
        "Cache-Control": "no-cache",
        "x-amz-meta-name": "${filename}",
        "tagging": "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
        "success_action_status": "201",
    }
    conditions = [{k: v} for k, v in fields.items() if k != "x-amz-meta-name"] + [["starts-with", "$x-amz-meta-name", ""]]
    form = signer.generate_presigned_post(bucket, "k", Fields=dict(fields), Conditions=conditions)
    answer = post(form, "n.txt", b"x", fields={"x-ignore-this": "whatever"})
    text = answer.data.decode()
    assert answer.status == 201, text
    assert f"<Bucket>{bucket}</Bucket><Key>k</Key>" in text and "<PostResponse><Location>" in text
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentType"], head["CacheControl"]) == ("text/plain", "no-cache")
    assert head["Metadata"] == {"name": "n.txt"}
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]


def test_where_it_goes_then(signer, bucket):
    def to(url):
        fields = {"success_action_redirect": url}
        form = signer.generate_presigned_post(bucket, "k k", Fields=dict(fields), Conditions=[fields])
        return post(form, b"x")

    answer = to("http://localhost/done?x=1")
    assert answer.status == 303
    assert answer.headers["Location"].startswith(f"http://localhost/done?x=1&bucket={bucket}&key=k%20k&etag=%22")
    assert to("/relative").status == 204


def test_lengths(s3, signer, bucket):
    form = signer.generate_presigned_post(bucket, "k", Conditions=[["content-length-range", 5, 10]])
    for size, expected in [
        (4, (400, "EntityTooSmall")),
        (11, (400, "EntityTooLarge")),
        (3 << 20, (400, "EntityTooLarge")),
    ]:
        answer = post(form, b"x" * size)
        assert code(answer) == expected
        assert f"<ProposedSize>{size}</ProposedSize>" in answer.data.decode()
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert post(form, b"x" * 10).status == 204


def test_what_the_policy_does_not_allow(s3, signer, bucket):
    form = signer.generate_presigned_post(bucket, "mine/k", Conditions=[{"acl": "private"}], Fields={"acl": "private"})
    for fields, expected, says in [
        ({"key": "other/k"}, (403, "AccessDenied"), "Policy Condition failed: [&quot;eq&quot;, &quot;$key&quot;, &quot;mine/k&quot;]"),
        ({"acl": None}, (403, "AccessDenied"), "Policy Condition failed"),
        ({"x-amz-meta-more": "1"}, (403, "AccessDenied"), "Extra input fields: x-amz-meta-more"),
        ({"policy": form["fields"]["policy"][:-4] + "AAA="}, (403, "SignatureDoesNotMatch"), "SignatureProvided"),
    ]:
        answer = post(form, b"x", fields=fields)
        assert code(answer) == expected, fields
        assert says in answer.data.decode(), answer.data
    expired = signer.generate_presigned_post(bucket, "k", ExpiresIn=-1)
    answer = post(expired, b"x")
    assert code(answer) == (403, "AccessDenied") and b"Policy expired" in answer.data
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_who_signed(s3, server, signer, bucket):
    form = signer.generate_presigned_post(bucket, "k")
    names = [n for n in form["fields"] if n.lower() in ("signature", "x-amz-signature")]
    answer = post(form, b"x", fields={names[0]: None})
    assert code(answer) == (400, "InvalidArgument") and b"Bucket POST must contain a field named" in answer.data
    unsigned = {"url": form["url"], "fields": {"key": "k"}}
    assert code(post(unsigned, b"x")) == (403, "AccessDenied")
    policy = {"url": form["url"], "fields": {"key": "k", "policy": form["fields"]["policy"]}}
    assert code(post(policy, b"x")) == (403, "AccessDenied")
    assert code(post(form, b"x", url=form["url"] + "-absent")) == (404, "NoSuchBucket")
    other = make_client(server, "unknown-key", "secret").generate_presigned_post(bucket, "k")
    assert code(post(other, b"x")) == (403, "InvalidAccessKeyId")
    assert code(post(form)) == (400, "IncorrectNumberOfFilesInPostRequest")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_what_is_no_form(server, bucket):
    def send(body, kind="multipart/form-data; boundary=X", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        try:
            connection.request("POST", f"/{bucket}", body, {"Content-Type": kind, **headers})
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, text.split("<Code>")[1].split("</Code>")[0]
        finally:
            connection.close()

    def field(name, value):
        return f'--X\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'

    assert send(b"x", "text/plain") == (412, "PreconditionFailed")
    assert send(b"", "multipart/form-data") == (412, "PreconditionFailed")
    assert send(b"garbage") == (400, "MalformedPOSTRequest")
    assert send(field("key", "k")) == (400, "MalformedPOSTRequest")
    assert send(field("key", "k" * 30_000) + field("file", "")) == (400, "MaxPostPreDataLengthExceededError")
    assert send(field("key", "k") + "--X--\r\n") == (400, "IncorrectNumberOfFilesInPostRequest")
    signed = send(field("file", "x") + "--X--\r\n", Authorization="AWS4-HMAC-SHA256 x")
    assert signed == (400, "InvalidArgument")


def test_policies_that_are_none(s3, server, bucket):
    """Signed all the same: what it says is judged after who says it."""
    import base64
    import hashlib
    import hmac

    def with_policy(document):
        policy = base64.b64encode(document).decode()
        digest = hmac.new(cairn_server.SECRET_KEY.encode(), policy.encode(), hashlib.sha1).digest()
        fields = {"key": "k", "AWSAccessKeyId": cairn_server.ACCESS_KEY, "policy": policy}
        fields["signature"] = base64.b64encode(digest).decode()
        return post({"url": f"{server.endpoint}/{bucket}", "fields": fields}, b"x")

    later = "2099-01-01T00:00:00Z"
    for document in [b"", b"{", b"[]", b"{}"] + [
        json.dumps(d).encode()
        for d in [
            {"expiration": later},
            {"expiration": "tomorrow", "conditions": []},
            {"expiration": later, "conditions": [{}]},
            {"expiration": later, "conditions": [["eq", "$key"]]},
            {"expiration": later, "conditions": [["content-length-range", -1, 0]]},
        ]
    ]:
        expected = (400, "InvalidArgument") if document == b"" else (400, "InvalidPolicyDocument")
        assert code(with_policy(document)) == expected, document
    allows = {"expiration": later, "conditions": [{"bucket": bucket}, {"key": "k"}]}
    assert with_policy(json.dumps(allows).encode()).status == 204
    nowhere = {"expiration": later, "conditions": [{"key": "k"}]}
    assert code(with_policy(json.dumps(nowhere).encode())) == (403, "AccessDenied")


def test_a_form_under_a_condition(signer, bucket):
    once = {"if-none-match": "*"}
    form = signer.generate_presigned_post(bucket, "once", Fields=dict(once), Conditions=[once])
    assert post(form, b"first").status == 204
    answer = post(form, b"second")
    assert code(answer) == (412, "PreconditionFailed")
    assert b"<Condition>If-None-Match</Condition>" in answer.data
