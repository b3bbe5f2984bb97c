"""Every code that Cairn can answer is provoked through HTTP, and comes with its status.

The codes are read from docs/operating/error-codes.md, which a test in crates/s3 holds to the code's own list: a code without a test here fails
`test_every_code_is_provoked`. Codes that only a failing role can bring about are provoked there.
"""

import base64
import hashlib
import hmac
import os
import re

import pytest

import cairn_server
import conftest
import signed_http

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/operating/error-codes.md")
PROVOKED = {}


def codes():
    """Code → status and who brings it about."""
    with open(PAGE, encoding="utf-8") as f:
        rows = re.findall(r"^\| ([A-Za-z0-9]+) \| (\d{3}) \| .* \| (a client|failing roles) \|$", f.read(), re.M)
    return {code: (int(status), by) for code, status, by in rows}


def provokes(code):
    def keep(function):
        assert code not in PROVOKED, code
        PROVOKED[code] = function
        return function

    return keep


class Provocateur:
    """A server, a bucket of one's own, and every way to be refused."""

    def __init__(self, server, s3, raw, bucket):
        self.server, self.s3, self.raw, self.bucket = server, s3, raw, bucket
        self.path = f"/{bucket}"
        self.host = f"127.0.0.1:{server.port}"

    def key(self, name="k", body=b"x"):
        """Puts an object; answers its path."""
        path = f"{self.path}/{name}"
        assert self.raw.request("PUT", path, body=body).status == 200
        return path

    def as_key(self, access_key, secret_key, *request, **more):
        client = signed_http.Client(self.server.port, signed_http.Credentials(access_key, secret_key))
        try:
            return client.request(*request, **more)
        finally:
            client.close()

    def stranger(self, *request, **more):
        return self.as_key(conftest.STRANGER_ACCESS_KEY, conftest.STRANGER_SECRET_KEY, *request, **more)

    def ask(self, sub_resource, method="GET", path=None, body=b"", **headers):
        """A request for `?sub_resource`, its body vouched for."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            given.setdefault("content-md5", base64.b64encode(hashlib.md5(body).digest()).decode())
        return self.raw.request(method, path or self.path, query=[(sub_resource, "")], body=body, headers=given)

    def upload(self, key="m"):
        """Begins an upload; answers its path and id."""
        return f"{self.path}/{key}", self.s3.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]

    def complete(self, path, upload, parts):
        """Completes with these pairs of a number and a tag."""
        xml = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in parts)
        body = f"<CompleteMultipartUpload>{xml}</CompleteMultipartUpload>".encode()
        return self.raw.request("POST", path, query=[("uploadId", upload)], body=body)

    def form(self, body):
        """Posts what is or is not a form, unsigned."""
        headers = {"host": self.host, "content-type": "multipart/form-data; boundary=X"}
        return self.raw.send("POST", self.path, (), body, headers)

    def head_only(self, method, path, headers, payload=signed_http.UNSIGNED, body=b"", query=()):
        """Signs, sends a head as it is and then `body`, and says that no more will come."""
        credentials = self.raw.credentials
        signed = signed_http.sign(credentials, method, path, self.host, query, headers, payload)
        with signed_http.Raw(self.server.port, timeout=60) as bare:
            target = path + ("?" + signed_http.canonical_query(query) if query else "")
            bare.send(signed_http.head_bytes(method, target, signed.headers) + body)
            return bare.answer()

    def framed(self, pieces, payload=signed_http.STREAMING, alter=lambda body: body, headers=None, **how):
        """Puts an aws-chunked body; `alter` falsifies its bytes."""
        size = sum(map(len, pieces))
        sent = {"x-amz-decoded-content-length": str(size), "content-encoding": "aws-chunked", **(headers or {})}
        signed = signed_http.sign(self.raw.credentials, "PUT", f"{self.path}/f", self.host, (), sent, payload)
        body = alter(signed_http.chunked(self.raw.credentials, signed, pieces, **how))
        return self.raw.send("PUT", f"{self.path}/f", (), body, signed.headers)


@pytest.fixture
def p(server, s3, raw, bucket):
    return Provocateur(server, s3, raw, bucket)


BY_ONE_REQUEST = {
    "AccessControlListNotSupported": lambda p: p.ask("acl", "PUT", x_amz_acl="public-read"),
    "AccessDenied": lambda p: p.stranger("GET", p.path),
    "BadRequest": lambda p: p.framed([b"x" * 100], alter=lambda body: b"zz" + body[2:]),
    "BucketAlreadyExists": lambda p: p.stranger("PUT", p.path),
    "EntityTooLarge": lambda p: p.head_only("PUT", p.path + "/k", {"content-length": str((5 << 30) + 1), "expect": "100-continue"}),
    "IllegalVersioningConfigurationException": lambda p: p.ask("versioning", "PUT", body=b"<VersioningConfiguration/>"),
    "IncompleteBody": lambda p: p.framed([b"x" * 100, b"y" * 100][:1], headers={"x-amz-decoded-content-length": "200"}, alter=lambda body: body + b" " * 200),
    "IncorrectNumberOfFilesInPostRequest": lambda p: p.form(b"--X--\r\n"),
    "InvalidAccessKeyId": lambda p: p.as_key("nobody", "whatever", "GET", p.path),
    "InvalidArgument": lambda p: p.raw.request("GET", p.path, query=[("max-keys", "many")]),
    "InvalidBucketAclWithObjectOwnership": lambda p: p.raw.request("PUT", p.path + "-new", headers={"x-amz-acl": "public-read"}),
    "InvalidBucketName": lambda p: p.raw.request("PUT", "/No"),
    "InvalidBucketOwnerAWSAccountID": lambda p: p.raw.request("GET", p.path, headers={"x-amz-expected-bucket-owner": "me"}),
    "InvalidChunkSizeError": lambda p: p.framed([b"x" * 8191, b"y" * 8192]),
    "InvalidDigest": lambda p: p.raw.request("PUT", p.path + "/k", body=b"x", headers={"content-md5": "no digest"}),
    "InvalidRange": lambda p: p.raw.request("GET", p.key(), headers={"range": "bytes=5-6"}),
    "InvalidRequest": lambda p: p.raw.request("PUT", p.path + "/k", body=b"x", headers={"x-amz-sdk-checksum-algorithm": "CRC32"}),
    "InvalidStorageClass": lambda p: p.raw.request("PUT", p.path + "/k", body=b"x", headers={"x-amz-storage-class": "BRONZE"}),
    "InvalidTag": lambda p: p.raw.request("PUT", p.path + "/k", body=b"x", headers={"x-amz-tagging": "&".join(f"t{n}=1" for n in range(11))}),
    "InvalidToken": lambda p: p.raw.request("GET", p.path, headers={"x-amz-security-token": "a token of nobody"}),
    "InvalidURI": lambda p: p.raw.request("GET", p.path + "/%FF"),
    "InvalidWriteOffset": lambda p: p.raw.request("PUT", p.key(), body=b"y", headers={"x-amz-write-offset-bytes": "5"}),
    "KeyTooLongError": lambda p: p.raw.request("PUT", f"{p.path}/{'k' * 1025}", body=b"x"),
    "MalformedACLError": lambda p: p.ask("acl", "PUT", body=b"<AccessControlPolicy/>"),
    "MalformedPOSTRequest": lambda p: p.form(b"no form"),
    "MalformedXML": lambda p: p.ask("delete", "POST", body=b"<Delete>"),
    "MaxMessageLengthExceeded": lambda p: p.ask("delete", "POST", body=b"<Delete>" + b" " * (2 << 20) + b"</Delete>"),
    "MetadataTooLarge": lambda p: p.raw.request("PUT", p.path + "/k", body=b"x", headers={"x-amz-meta-a": "x" * 2048}),
    "MethodNotAllowed": lambda p: p.raw.request("PATCH", p.path + "/k"),
    "MissingContentLength": lambda p: p.head_only("PUT", p.path + "/k", {"transfer-encoding": "chunked"}, body=b"1\r\nx\r\n0\r\n\r\n"),
    "MissingRequestBodyError": lambda p: p.ask("delete", "POST", content_md5=base64.b64encode(hashlib.md5(b"").digest()).decode()),
    "MissingSecurityHeader": lambda p: p.ask("acl", "PUT"),
    "NoSuchBucket": lambda p: p.raw.request("GET", p.path + "-none"),
    "NoSuchBucketPolicy": lambda p: p.ask("policy"),
    "NoSuchCORSConfiguration": lambda p: p.ask("cors"),
    "NoSuchConfiguration": lambda p: p.raw.request("GET", p.path, query=[("inventory", ""), ("id", "x")]),
    "NoSuchKey": lambda p: p.raw.request("GET", p.path + "/none"),
    "NoSuchLifecycleConfiguration": lambda p: p.ask("lifecycle"),
    "NoSuchTagSet": lambda p: p.ask("tagging"),
    "NoSuchUpload": lambda p: p.raw.request("DELETE", p.path + "/k", query=[("uploadId", "0" * 32)]),
    "NoSuchVersion": lambda p: p.raw.request("GET", p.key(), query=[("versionId", "0" * 32)]),
    "NoSuchWebsiteConfiguration": lambda p: p.ask("website"),
    "NotImplemented": lambda p: p.raw.request("PUT", p.path + "/k", body=b"x", headers={"x-amz-server-side-encryption": "aws:kms"}),
    "ObjectLockConfigurationNotFoundError": lambda p: p.ask("object-lock"),
    "PreconditionFailed": lambda p: p.raw.request("PUT", p.key(), body=b"y", headers={"if-none-match": "*"}),
    "ReplicationConfigurationNotFoundError": lambda p: p.ask("replication"),
    "RequestHeaderSectionTooLarge": lambda p: p.head_only("GET", p.path, {f"x-filler-{n}": "x" * 4000 for n in range(2)}),
    "RequestTimeTooSkewed": lambda p: p.raw.request("GET", p.path, date=signed_http.amz_date(-16 * 60)),
    "ServerSideEncryptionConfigurationNotFoundError": lambda p: p.ask("encryption"),
    "SignatureDoesNotMatch": lambda p: p.as_key(cairn_server.ACCESS_KEY, "a guess", "GET", p.path),
    "UnexpectedContent": lambda p: p.ask("acl", "PUT", body=b"<AccessControlPolicy/>", x_amz_acl="private"),
    "UnresolvableGrantByEmailAddress": lambda p: p.ask("acl", "PUT", x_amz_grant_read='emailAddress="a@b.test"'),
    "XAmzContentSHA256Mismatch": lambda p: p.raw.request("PUT", p.path + "/k", body=b"x", payload=hashlib.sha256(b"y").hexdigest()),
}
for _code, _provoke in BY_ONE_REQUEST.items():
    provokes(_code)(_provoke)


@provokes("AuthorizationHeaderMalformed")
def _(p):
    elsewhere = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY, region="mars-1")
    client = signed_http.Client(p.server.port, elsewhere)
    return client.request("GET", p.path)


@provokes("AuthorizationQueryParametersError")
def _(p):
    credential = f"{cairn_server.ACCESS_KEY}/{p.raw.credentials.scope(signed_http.amz_date()[:8])}"
    query = [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"), ("X-Amz-Credential", credential), ("X-Amz-Date", signed_http.amz_date()),
        ("X-Amz-Expires", "604801"), ("X-Amz-SignedHeaders", "host"), ("X-Amz-Signature", "0" * 64),
    ]
    return p.raw.send("GET", p.path, query, b"", {"host": p.host})


@provokes("BadDigest")
def _(p):
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    return p.raw.request("PUT", p.path + "/k", body=b"x", headers={"content-md5": wrong})


@provokes("BucketAlreadyOwnedByYou")
def _(p):
    """In the first region S3 answers 200, so this takes a server elsewhere."""
    directory = cairn_server.test_dir("elsewhere")
    with open(directory + "/cairn.toml", "w", encoding="utf-8") as f:
        f.write('region = "eu-west-1"\n')
    elsewhere = cairn_server.Server(directory + "/data", ["--config", directory + "/cairn.toml"])
    elsewhere.start()
    try:
        keys = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY, region="eu-west-1")
        client = signed_http.Client(elsewhere.port, keys)
        assert client.request("PUT", "/mine").status == 200
        return client.request("PUT", "/mine")
    finally:
        elsewhere.kill()


@provokes("BucketNotEmpty")
def _(p):
    p.key()
    return p.raw.request("DELETE", p.path)


@provokes("ConditionalRequestConflict")
def _(p):
    """An append whose object is written anew while its bytes come."""
    path, body = p.key(), b"y" * 200_000
    headers = {"content-length": str(len(body)), "x-amz-write-offset-bytes": "1"}
    signed = signed_http.sign(p.raw.credentials, "PUT", path, p.host, (), headers)
    with signed_http.Raw(p.server.port) as bare:
        bare.send(signed_http.head_bytes("PUT", path, {**signed.headers, "expect": "100-continue"}))
        assert bare.socket.recv(1000).startswith(b"HTTP/1.1 100")  # it has been looked at
        bare.send(body[:100_000])
        p.key(body=b"z")
        bare.send(body[100_000:])
        return bare.answer()


@provokes("EntityTooSmall")
def _(p):
    path, upload = p.upload()
    put = [p.raw.request("PUT", path, query=[("partNumber", str(n)), ("uploadId", upload)], body=b"small") for n in (1, 2)]
    return p.complete(path, upload, [(n, a.headers["etag"]) for n, a in enumerate(put, 1)])


@provokes("InvalidLocationConstraint")
def _(p):
    body = b"<CreateBucketConfiguration><LocationConstraint>mars-1</LocationConstraint></CreateBucketConfiguration>"
    return p.raw.request("PUT", p.path + "-2", body=body)


@provokes("InvalidPart")
def _(p):
    path, upload = p.upload()
    return p.complete(path, upload, [(1, "0" * 32)])


@provokes("InvalidPartOrder")
def _(p):
    path, upload = p.upload()
    tags = {}
    for n in (1, 2):
        answer = p.raw.request("PUT", path, query=[("partNumber", str(n)), ("uploadId", upload)], body=b"x" * (5 << 20))
        tags[n] = answer.headers["etag"]
    return p.complete(path, upload, [(2, tags[2]), (1, tags[1])])


@provokes("MalformedTrailerError")
def _(p):
    return p.framed(
        [b"x" * 100], payload=signed_http.STREAMING_UNSIGNED_TRAILER, sign_chunks=False, headers={"x-amz-trailer": "x-amz-checksum-crc32"},
        trailers=[("x-amz-checksum-crc32", "AAAAAA==")], alter=lambda body: body.replace(b"crc32:", b"crc32 "),
    )


@provokes("NoSuchPublicAccessBlockConfiguration")
def _(p):
    p.ask("publicAccessBlock", "DELETE")
    return p.ask("publicAccessBlock")


@provokes("OwnershipControlsNotFoundError")
def _(p):
    p.ask("ownershipControls", "DELETE")
    return p.ask("ownershipControls")


@provokes("RequestTimeout")
def _(p):
    """As long as the server's patience: half a minute."""
    return p.head_only("PUT", p.path + "/k", {"content-length": "10"}, body=b"x")


@provokes("AccessForbidden")
def _(p):
    headers = {"host": p.host, "origin": "https://page.test", "access-control-request-method": "GET"}
    return p.raw.send("OPTIONS", p.path, (), b"", headers)


@provokes("InvalidBucketAclWithBlockPublicAccessError")
def _(p):
    headers = {"x-amz-acl": "public-read", "x-amz-object-ownership": "ObjectWriter"}
    return p.raw.request("PUT", p.path + "-new", headers=headers)


@provokes("InvalidPolicyDocument")
def _(p):
    policy = base64.b64encode(b"{}")
    digest = hmac.new(cairn_server.SECRET_KEY.encode(), policy, hashlib.sha1).digest()
    fields = {"key": "k", "AWSAccessKeyId": cairn_server.ACCESS_KEY, "policy": policy.decode()}
    fields |= {"signature": base64.b64encode(digest).decode(), "file": "x"}
    part = '--X\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    return p.form("".join(part.format(*f) for f in fields.items()).encode() + b"--X--\r\n")


@provokes("MaxPostPreDataLengthExceededError")
def _(p):
    head = b'--X\r\nContent-Disposition: form-data; name="key"\r\n\r\n'
    return p.form(head + b"k" * 30_000 + b"\r\n--X--\r\n")


def by_client():
    return [code for code, (_, by) in codes().items() if by == "a client"]


@pytest.mark.parametrize("code", by_client())
def test_code_is_provoked(code, p):
    assert code in PROVOKED, f"{code} has no test that provokes it"
    answer = PROVOKED[code](p)
    assert answer is not None, "closed without an answer"
    assert (answer.status, answer.code) == (codes()[code][0], code), answer
    for element in ("Message", "Resource", "RequestId", "HostId"):
        assert f"<{element}>".encode() in answer.body, answer.body


def test_every_code_is_provoked():
    """And none is provoked that is not told of."""
    assert len(codes()) > 50 and sorted(PROVOKED) == sorted(by_client())
