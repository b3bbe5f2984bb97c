"""Bodies: frames that are none, lengths and checksums that lie, trailers that are wrong."""

import base64
import hashlib
import zlib

from signed_http import STREAMING, STREAMING_TRAILER, STREAMING_UNSIGNED_TRAILER, chunked

FORMS = [STREAMING, STREAMING_TRAILER, STREAMING_UNSIGNED_TRAILER]


def crc32(data):
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def address(p):
    return p.choice([(p.path + "/b", []), (p.path + "/k", [("partNumber", "1"), ("uploadId", p.upload)])])


def framed(p, alter, form=None, data=None, trailers=None, headers=None):
    """A put in frames whose bytes are altered behind the signature."""
    form = form or p.choice(FORMS)
    data = p.randbytes(p.randrange(1, 3000)) if data is None else data
    has_trailer = form.endswith("TRAILER")
    trailers = [("x-amz-checksum-crc32", crc32(data))] if trailers is None and has_trailer else trailers or []
    sent = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": len(data)}
    if has_trailer:
        sent["x-amz-trailer"] = "x-amz-checksum-crc32"
    sent |= headers or {}
    path, query = address(p)
    signed = p.sign("PUT", path, query, sent, form)
    how = {"sign_chunks": form.startswith("STREAMING-AWS4"), "sign_trailer": form == STREAMING_TRAILER}
    body = alter(chunked(p.credentials, signed, [data], trailers, **how))
    return p.written("PUT", path, query, [*signed.headers.items(), ("content-length", len(body))], body)


def frames(p):
    def swap(old, new, body):
        return body.replace(old, new, 1)

    size = lambda body: body.split(b"\r\n", 1)[0].split(b";")[0]  # noqa: E731
    filler = b"x" * 200
    return framed(p, p.choice([
        lambda b: swap(size(b), b"zz", b),
        lambda b: swap(size(b), b"-" + size(b), b),
        lambda b: swap(size(b), b"+" + size(b), b),
        lambda b: swap(size(b), b"0x" + size(b), b),
        lambda b: swap(size(b), "\u0661".encode(), b),
        lambda b: swap(size(b), b"f" * p.randrange(9, 40), b),
        lambda b: swap(size(b), b"7" * p.randrange(1000, 9000), b),
        lambda b: swap(size(b), b"%x" % (int(size(b), 16) + 1), b) + filler,
        lambda b: swap(b"\r\n", b"\n", b) + filler,
        lambda b: swap(b"\r\n", b"", b) + filler,
        lambda b: swap(b"\r\n", b";x=" + b"y" * 9000 + b"\r\n", b),
        lambda b: b[: -p.randrange(4, 60)] + filler,
        lambda b: b"\r\n" + b,
        lambda b: p.randbytes(len(b)),
        lambda b: b"0\r\n\r\n" + filler,
        lambda b: b + b,
    ]))


def signatures_of_frames(p):
    def alter(body):
        at = body.index(b"chunk-signature=") + 16 + p.randrange(64)
        return body[:at] + (b"0" if body[at : at + 1] != b"0" else b"1") + body[at + 1 :]

    return framed(p, alter, p.choice(FORMS[:2]))


def trailers(p):
    form = p.choice(FORMS[1:])
    name = "x-amz-checksum-crc32"
    wrong = [
        [], [(name, "")], [(name, "AAAAAA==")], [(name, "!!!")], [("x-amz-checksum-sha1", "AAAA")], [(name, "AAAAAA==")] * 2, [(name, "A" * 9000)],
        [("x-amz-meta-a", "b")], [(f"x-{n}", "y") for n in range(2000)], [(name, "\u00e9")], [("\u00e9", "x")],
    ]
    return framed(p, lambda b: b, form, data=b"hello", trailers=p.choice(wrong))


def announced_trailers(p):
    name = p.choice(["x-amz-checksum-md4", "content-length", "", "x-amz-checksum-crc32,x-amz-checksum-sha1", p.word()])
    if not name:
        return framed(p, lambda b: b, STREAMING, headers={"x-amz-trailer": "x-amz-checksum-crc32"})
    return framed(p, lambda b: b, p.choice(FORMS[1:]), headers={"x-amz-trailer": name})


def lengths_of_frames(p):
    said = p.choice(["-1", "", "x", "1.5", "0", "99999999999999999999999", "\u0661", "1 1", str(6 << 30), "3001"])
    return framed(p, lambda b: b, headers={"x-amz-decoded-content-length": said})


def checksums(p):
    body = p.randbytes(p.randrange(1, 2000))
    other = body + b"x"
    headers = p.choice([
        {"content-md5": base64.b64encode(hashlib.md5(other).digest()).decode()},
        {"content-md5": p.choice(["", "?", "AAAA", p.word(24), "=" * 24])},
        {"x-amz-checksum-crc32": crc32(other)},
        {"x-amz-checksum-crc32": p.choice(["", "?", "AAAA", "AAAAAAA=", p.word(8)])},
        {"x-amz-checksum-crc32": crc32(body), "x-amz-checksum-sha1": "AAAA"},
        {"x-amz-checksum-sha256": "AAAAAA=="},
        {"x-amz-sdk-checksum-algorithm": "MD4"},
        {"x-amz-sdk-checksum-algorithm": "CRC32"},
        {"x-amz-checksum-crc32": crc32(body), "x-amz-sdk-checksum-algorithm": "SHA256"},
    ])
    path, query = address(p)
    return p.request("PUT", path, query, headers, body)


def hashes(p):
    path, query = address(p)
    wrong = p.choice([hashlib.sha256(b"other").hexdigest(), "0" * 64, "STREAMING-" + p.word(), p.word(64), "", "UNSIGNED"])
    return p.request("PUT", path, query, {}, b"body", payload=wrong)


def short_bodies(p):
    """The client promises more than it brings, and says goodbye."""
    path, query = address(p)
    said = p.choice([10, 3000, 70_000, 5 << 30])
    return p.request("PUT", path, query, {"content-length": said}, p.randbytes(p.randrange(0, 10)), ends=True)


def no_length(p):
    path, query = address(p)
    signed = p.sign("PUT", path, query)
    return p.written("PUT", path, query, [*signed.headers.items(), ("transfer-encoding", "chunked")], b"1\r\nx\r\n0\r\n\r\n")


def too_long(p):
    path, query = address(p)
    return p.request("PUT", path, query, {"content-length": p.choice([(5 << 30) + 1, 1 << 62])}, b"x", ends=True)


FAMILY = [frames, frames, frames, signatures_of_frames, trailers, trailers, announced_trailers, lengths_of_frames, checksums, hashes, short_bodies, no_length, too_long]
