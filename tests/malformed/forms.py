"""Forms: multipart/form-data that is none, and policies that are none or allow something else."""

import base64
import hashlib
import hmac
import json

LATER = "2099-01-01T00:00:00Z"


def field(name, value, more=""):
    value = value if isinstance(value, bytes) else value.encode()
    return f'--X\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def signed(p, policy):
    """The fields of a form with this policy, signed in the shorter of the two ways."""
    policy = base64.b64encode(policy if isinstance(policy, bytes) else json.dumps(policy).encode()).decode()
    digest = hmac.new(p.credentials.secret_key.encode(), policy.encode(), hashlib.sha1).digest()
    return {"key": "form", "AWSAccessKeyId": p.credentials.access_key, "policy": policy, "signature": base64.b64encode(digest).decode()}


def allowing(p, *more):
    return {"expiration": LATER, "conditions": [{"bucket": p.bucket}, {"key": "form"}, *more]}


def post(p, body, kind="multipart/form-data; boundary=X", more=(), ends=False, length=None):
    headers = [("host", p.host), ("content-type", kind), ("content-length", len(body) if length is None else length), *more]
    return p.written("POST", p.path, (), headers, body, ends)


def form(p, fields, *after):
    parts = [field(*f) for f in fields.items()] + list(after or [field("file", b"x")])
    return b"".join(parts) + b"--X--\r\n"


def forms_that_are_none(p):
    good = form(p, signed(p, allowing(p)))
    return p.choice([
        lambda: post(p, p.randbytes(p.randrange(1, 999))),
        lambda: post(p, b""),
        lambda: post(p, good, "text/plain"),
        lambda: post(p, good, "multipart/form-data"),
        lambda: post(p, good, "multipart/form-data; boundary=" + p.choice(["", "Y", "X" * 3000])),
        lambda: post(p, good, more=[("authorization", "AWS4-HMAC-SHA256 x")]),
        lambda: post(p, good[: p.randrange(1, len(good) - 10)]),
        lambda: post(p, good[: p.randrange(1, len(good) - 10)], length=len(good), ends=True),
        lambda: post(p, good.replace(b"form-data", p.choice([b"attachment", b"", b"form-data\x00"]), 1)),
        lambda: post(p, good.replace(b'name="key"', p.choice([b"", b'name="', b"name=\xff", b'name=""'])), 1),
        lambda: post(p, good.replace(b"\r\n\r\n", b"\r\n", 1)),
        lambda: post(p, good.replace(b"\r\n", b"\n")),
        lambda: post(p, form(p, signed(p, allowing(p)), b"")),
        lambda: post(p, field("key", "form") + good),
        lambda: post(p, field("x", b"v" * 30_000) + good),
        lambda: post(p, b"".join(field(f"x-ignore-{n}", "") for n in range(400)) + good),
        lambda: post(p, field("a", b"\xff\xfe") + good),
        lambda: post(p, b"--X\r\n" + b"h: v\r\n" * 5000 + b"\r\nx\r\n" + good),
    ])()


def policies_that_are_none(p):
    deep = p.randrange(200, 4000)
    policy = p.choice([
        b"", b"{", b"[]", b"null", b"\xff", b"{}", b"[" * deep, b'{"conditions":' + b"[" * deep + b"]" * deep + b"}",
        {"expiration": LATER}, {"conditions": []}, {"expiration": p.word(), "conditions": []}, {"expiration": 1, "conditions": []}, allowing(p) | {p.word(): 1},
        allowing(p, {}), allowing(p, {"a": "1", "b": "2"}), allowing(p, {"a": None}), allowing(p, 1), allowing(p, []), allowing(p, ["eq", "$key"]), allowing(p, [p.word(), "$key", ""]),
        allowing(p, ["content-length-range", -1, 5]), allowing(p, ["content-length-range", 0, {}]),
    ])
    return post(p, form(p, signed(p, policy)))


def policies_that_forbid(p):
    fields, more = p.choice([
        ({}, [{"acl": "private"}]), ({"acl": "private"}, []), ({"x-amz-meta-a": "1"}, []), ({"acl": "public-read"}, [{"acl": "public-read"}]),
        ({}, [["content-length-range", 2, 5]]), ({}, [["content-length-range", 0, 0]]), ({}, [["starts-with", "$key", "z"]]), ({}, [{"bucket": "other"}]),
        ({"tagging": "<Tagging>"}, [["starts-with", "$tagging", ""]]), ({"x-amz-storage-class": "x"}, [["starts-with", "$x-amz-storage-class", ""]]),
        ({"content-md5": "x"}, [["starts-with", "$content-md5", ""]]), ({"key": "k" * 1025}, [["starts-with", "$key", ""]]), ({"key": ""}, []),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, [["starts-with", "$x-amz-checksum-crc32", ""]]), ({"x-amz-security-token": "t"}, [["starts-with", "$x-amz-security-token", ""]]),
        ({"content-type": "a\r\nb"}, [["starts-with", "$content-type", ""]]),
    ])
    policy = allowing(p, *more)
    if "key" in fields:
        policy = {"expiration": LATER, "conditions": [{"bucket": p.bucket}, ["starts-with", "$key", ""]]}
    return post(p, form(p, signed(p, policy) | fields))


def forms_that_are_forged(p):
    fields = signed(p, allowing(p))
    name, value = p.choice([
        ("signature", ""), ("signature", p.word(28)), ("signature", None), ("AWSAccessKeyId", p.word()), ("AWSAccessKeyId", None), ("policy", None),
        ("policy", fields["policy"][:-4]), ("x-amz-signature", "0" * 64), ("x-amz-algorithm", p.word()), ("x-amz-credential", "/" * p.randrange(9)),
    ])
    fields[name] = value
    return post(p, form(p, {k: v for k, v in fields.items() if v is not None}))


def expired(p):
    policy = allowing(p) | {"expiration": "2001-01-01T00:00:00Z"}
    return post(p, form(p, signed(p, policy)))


FAMILY = [forms_that_are_none, forms_that_are_none, policies_that_are_none, policies_that_forbid, forms_that_are_forged, expired]
