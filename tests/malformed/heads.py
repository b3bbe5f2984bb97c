"""Heads: addresses, parameters and headers that are wrong, doubled, unsigned or too much; forgeries; and what is no HTTP."""

from signed_http import amz_date

from .place import Wire

NUMBERS = ["-1", "99999999999999999999", "1.5", "0x10", " ", "1e3", "\u0661", "x"]


def parameters(p):
    number = p.choice(NUMBERS)
    upload, obj, bucket = ("uploadId", p.upload), p.path + "/k", p.path
    method, path, query = p.choice([
        ("PUT", obj, [("partNumber", number), upload]),
        ("PUT", obj, [("partNumber", p.choice(["0", "10001", ""])), upload]),
        ("PUT", obj, [("partNumber", "1"), ("uploadId", p.word())]),
        ("GET", bucket, [("list-type", "2"), ("max-keys", number)]),
        ("GET", bucket, [("max-keys", number)]),
        ("GET", bucket, [("versions", ""), ("max-keys", number)]),
        ("GET", bucket, [("versions", ""), ("version-id-marker", p.word())]),
        ("GET", bucket, [("encoding-type", p.word())]),
        ("GET", bucket, [("list-type", "2"), ("continuation-token", p.word())]),
        ("GET", bucket, [("uploads", ""), ("max-uploads", number)]),
        ("GET", obj, [upload, ("max-parts", number)]),
        ("GET", obj, [upload, ("part-number-marker", number)]),
        ("GET", obj, [("versionId", p.word())]),
        ("GET", obj, [("partNumber", number)]),
        ("GET", "/", [("max-buckets", number)]),
        ("GET", bucket, [("acl", ""), ("cors", "")]),
        ("GET", bucket, [("prefix", "a"), ("prefix", "b")]),
    ])
    return p.request(method, path, query)


def addresses(p):
    junk = p.word()
    return p.request(*p.choice([
        ("PUT", f"/{p.choice(['ab', 'Bucket', 'a..b', 'b_b', '-ab', junk.upper(), '%E2%80%AEabc', '127.0.0.1', 'x' * 64])}/k"),
        ("PUT", f"{p.path}/{'k' * p.randrange(1025, 1300)}"),
        ("PUT", f"{p.path}/{'%C3%A9' * p.randrange(513, 600)}"),
        ("PUT", f"{p.path}/{junk}{p.choice(['%FF', '%ED%A0%80', '%C0%AF', '%C3', '%F5%80%80%80'])}"),
        ("GET", f"{p.path}/%zz{junk}"),
        ("GET", f"/no-{junk}/k"),
        (p.choice(["PATCH", "TRACE", "LINK", "get", "\u0047ET2"]), f"{p.path}/k"),
        ("POST", f"{p.path}/k"),
        ("DELETE", "/"),
    ]))


def values(p):
    """Values of headers that are none."""
    junk = p.word()
    obj, number = p.path + "/k", p.choice(NUMBERS)
    source = {"x-amz-copy-source": f"/{p.bucket}/k"}
    upload = [("partNumber", "1"), ("uploadId", p.upload)]
    copy = lambda value: ("PUT", obj, [], {"x-amz-copy-source": value})  # noqa: E731
    method, path, query, headers = p.choice([
        copy(""), copy("/"), copy(junk), copy(f"/{p.bucket}"), copy(f"/{p.bucket}/"), copy(f"/{p.bucket}/%zz"), copy(f"/{p.bucket}/%FF"),
        copy(f"/{p.bucket}/k?{junk}=1"), copy(f"/{p.bucket}/k?versionId={junk}"), copy(f"/B/{junk}"), copy(f"/{p.bucket}/{'k' * 1025}"), copy(f"/no-{junk}/k"),
        copy(f"arn:aws:s3:::{p.bucket}/k"), copy("http://a/b/c"),
        ("PUT", obj, [], source | {"x-amz-metadata-directive": junk}),
        ("PUT", obj, [], source | {"x-amz-tagging-directive": junk}),
        ("PUT", obj, [], source),
        ("PUT", obj, [], source | {"x-amz-copy-source-if-match": f'"{junk}"', "x-amz-metadata-directive": "REPLACE"}),
        ("PUT", obj, upload, source | {"x-amz-copy-source-range": p.choice(["", "0-1", "bytes=1-0", "bytes=0-", "bytes=-1", "bytes=0-0,1-1", "bytes=x-y", "bytes=0-999999999"])}),
        ("PUT", obj, [], {"x-amz-write-offset-bytes": p.choice([number, "", "+1", "5000000"])}),
        ("PUT", obj, [], {"x-amz-tagging": p.choice(["a=1&a=2", "a=%zz", "a=%FF", "=b", "a=" + "v" * 257, "&".join(f"t{n}=1" for n in range(11)), "a=<"])}),
        ("PUT", obj, [], {"x-amz-acl": p.choice(["", junk, "Private", "public-read", "public-read-write", "authenticated-read"])}),
        ("PUT", obj, [], {"x-amz-grant-read": p.choice(["", junk, "id=x", "uri=http://x", "emailAddress=a@b"])}),
        ("PUT", obj, [], {"x-amz-storage-class": p.choice(["", junk, "standard"])}),
        ("PUT", obj, [], {"x-amz-expected-bucket-owner": p.choice(["", "1", "999999999999", junk])}),
        ("PUT", obj, [], {"x-amz-security-token": junk}),
        ("PUT", obj, [], {"if-none-match": "*"}),
        ("PUT", obj, [], {"if-match": f'"{junk}"'}),
        ("PUT", obj, [], {f"x-amz-meta-{junk}": "v" * p.randrange(2043, 5000)}),
        ("POST", obj, [("uploads", "")], {"x-amz-checksum-algorithm": junk}),
        ("POST", obj, [("uploads", "")], {"x-amz-checksum-type": junk}),
        ("GET", obj, [("attributes", "")], {}),
        ("GET", obj, [("attributes", "")], {"x-amz-object-attributes": p.choice(["", junk])}),
        ("GET", obj, [], {"range": "bytes=99999999-"}),
        ("PUT", f"/{junk}-new", [], {"x-amz-object-ownership": junk}),
        ("PUT", obj, [], {"content-length": p.choice(NUMBERS[:3])}),
    ])
    body = b"body" if method == "PUT" and "x-amz-copy-source" not in headers and path == obj else b""
    return p.request(method, path, query, headers, body, ends="content-length" in headers)


def doubled(p):
    name, value = p.choice([
        ("x-amz-acl", "private"), ("x-amz-storage-class", "STANDARD"), ("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="), ("if-match", "*"),
        ("x-amz-tagging", "a=1"), ("content-type", "a/b"), ("x-amz-date", amz_date()), ("host", p.host), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ("x-amz-checksum-crc32", "AAAAAA=="), ("authorization", "AWS4-HMAC-SHA256 x"), ("x-amz-decoded-content-length", "4"), ("x-amz-copy-source", "a/b"),
        ("x-amz-write-offset-bytes", "0"),
    ])
    given = {} if name in ("host", "x-amz-date", "authorization", "x-amz-content-sha256") else {name: value}
    return p.request("PUT", p.path + "/d", [], given, b"body", unsigned=[(name, p.choice([value, value + "2", ""]))])


def unsigned(p):
    return p.request("PUT", p.path + "/u", [], {}, b"body", unsigned=[(f"x-amz-{p.choice(['meta-' + p.word(), 'acl', 'tagging', 'storage-class'])}", "private")])


def traps(p):
    """Text that is read in two ways, or in none."""
    trap = p.choice(["\ud800".encode("utf-8", "surrogatepass"), b"\xff\xfe", "\u202ex".encode(), b"\xc0\xaf", "\ufeff".encode(), "a\u0301".encode()])
    name = p.choice(["x-amz-acl", "x-amz-tagging", "x-amz-copy-source", "x-amz-storage-class", "content-md5", "x-amz-write-offset-bytes", "authorization", "x-amz-date"])
    signed = p.sign("PUT", p.path + "/t").headers
    signed[name] = trap
    return p.written("PUT", p.path + "/t", (), [*signed.items(), ("content-length", "4")], b"body")


def forgeries(p):
    signed = p.sign("PUT", p.path + "/f", (), {"content-length": "4"}).headers
    good = signed["authorization"]
    at = good.index("Signature=") + 10 + p.randrange(64)
    signed["authorization"] = p.choice([
        lambda: good[:at] + ("0" if good[at] != "0" else "1") + good[at + 1 :],
        lambda: good[: p.randrange(20, len(good) - 1)],
        lambda: good.replace("AWS4-HMAC-SHA256", p.choice(["AWS4", "AWS4-HMAC-SHA512", "AWS", "Basic", "AWS4-ECDSA-P256-SHA256"]), 1),
        lambda: good.replace("aws4_request", p.word(), 1),
        lambda: good.replace("us-east-1", p.choice(["mars-1", "", "us-east-1/us-east-1"]), 1),
        lambda: good.replace("/s3/", "/ec2/", 1),
        lambda: good.replace(p.credentials.access_key, p.word(), 1),
        lambda: good.replace("host", p.choice(["", "Host;host", "x", "host;" * 3000]), 1),
        lambda: good.replace("Credential=", "Credential==", 1),
        lambda: good + ", " + good,
    ])()
    return p.written("PUT", p.path + "/f", (), signed.items(), b"body")


def stale(p):
    shift = p.choice([-86_400, -1000, 1000, 86_400, 10**9])
    date = amz_date(shift)
    import signed_http

    signed = signed_http.sign(p.credentials, "GET", p.path, p.host, date=date).headers
    signed["x-amz-date"] = p.choice([date, date[:-1], p.word(), "", date + "Z"])
    return p.written("GET", p.path, (), signed.items())


def links(p):
    """Presigned links that were tampered with."""
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{p.credentials.access_key}/{p.credentials.scope(amz_date()[:8])}",
        "X-Amz-Date": amz_date(), "X-Amz-Expires": "60", "X-Amz-SignedHeaders": "host", "X-Amz-Signature": "0" * 64,
    }
    name = p.choice(list(query))
    what = p.choice(["", p.word(), "-1", "604801", None])
    if what is None:
        del query[name]
    else:
        query[name] = what
    return p.written("GET", p.path + "/k", query.items(), [("host", p.host)])


def too_much(p):
    many = [(f"x-{n}", "1") for n in range(p.randrange(257, 600))]
    large = [(f"x-{n}", "v" * 1000) for n in range(p.randrange(66, 120))]
    huge = [("x-0", "v" * p.randrange(200_000, 1 << 20))]
    if p.random() < 0.3:
        return p.request("GET", p.path, [(f"{n:x}", "") for n in range(12_000)])
    return p.request("GET", p.path, [], {}, unsigned=p.choice([many, large, huge]))


def no_http(p):
    junk = p.randbytes(p.randrange(1, 200)).replace(b"\n", b"x")
    host = p.host.encode()
    return Wire(p.choice([
        lambda: b"\x01" + junk + b"\r\n\r\n",
        lambda: b"GET\r\n\r\n",
        lambda: b"GET / HTTP/9.9\r\n\r\n",
        lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + junk + b"\r\n\r\n",
        lambda: b"GET / HTTP/1.1\r\nhost: " + host + b"\r\nx y: 1\r\n\r\n",
        lambda: b"GET / HTTP/1.1\r\nhost: " + host + b"\r\nx: \x00\r\n\r\n",
        lambda: b"GET / HTTP/1.1\r\nhost: " + host + b"\r\n: 1\r\n\r\n",
        lambda: b"GET /\xff HTTP/1.1\r\nhost: " + host + b"\r\nauthorization: x\r\n\r\n",
        lambda: b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        lambda: b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        lambda: b"PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        lambda: b"PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        lambda: b"PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        lambda: b"PUT /b/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: " + p.choice([b"gzip", b"chunked, x", b"xchunked"]) + b"\r\n\r\n",
        lambda: b"GET /? HTTP/1.1\r\nhost: a\r\nauthorization: AWS4-HMAC-SHA256 Credential=\xff/\xfe\r\n\r\n",
        lambda: b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
        lambda: b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
        lambda: b"GET ftp://x HTTP/1.1\r\nhost: a\r\n\r\n",
    ])())


FAMILY = [parameters, parameters, addresses, values, values, values, doubled, unsigned, traps, forgeries, forgeries, stale, links, too_much, no_http, no_http]
