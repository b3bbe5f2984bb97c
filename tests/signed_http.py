"""A small S3 client of our own: Signature Version 4 over plain HTTP, and raw sockets for what no decent client sends.

Written from the specification, not from the server, so that a mistake in one is seen by the other. It is quick (no XML, no retries), so that
load comes from it, and it lets every piece of a request be falsified.
"""

import datetime
import hashlib
import hmac
import http.client
import socket
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def uri(text):
    return quote(text, safe="-_.~")


def object_path(bucket, key=None):
    return f"/{bucket}" if key is None else f"/{bucket}/{quote(key, safe='-_.~/')}"


def canonical_query(query):
    return "&".join(f"{k}={v}" for k, v in sorted((uri(k), uri(v)) for k, v in query))


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Credentials:
    def __init__(self, access_key, secret_key, region="us-east-1"):
        self.access_key, self.secret_key, self.region = access_key, secret_key, region
        self._day = None
        self._key = None

    def signing_key(self, day):
        if self._day != day:
            key = _hmac(("AWS4" + self.secret_key).encode(), day)
            for piece in (self.region, "s3", "aws4_request"):
                key = _hmac(key, piece)
            self._day, self._key = day, key
        return self._key

    def scope(self, day):
        return f"{day}/{self.region}/s3/aws4_request"

    def sign(self, day, text):
        return hmac.new(self.signing_key(day), text.encode(), hashlib.sha256).hexdigest()


def amz_date(shift_seconds=0):
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=shift_seconds)
    return now.strftime("%Y%m%dT%H%M%SZ")


class Signed:
    """What signing gives: the headers to send and what chunk signatures build on."""

    def __init__(self, headers, date, signature):
        self.headers, self.date, self.signature = headers, date, signature


def sign(credentials, method, path, host, query=(), headers=None, payload=UNSIGNED, date=None):
    """Headers (lower-case names) of a request signed in its headers. `path` is already encoded."""
    date = date or amz_date()
    day = date[:8]
    sent = {k.lower(): str(v).strip() for k, v in (headers or {}).items()}
    sent.update({"host": host, "x-amz-date": date, "x-amz-content-sha256": payload})
    names = sorted(n for n in sent if n in ("host", "content-md5", "content-type") or n.startswith("x-amz-"))
    canonical = "\n".join(
        [method, path, canonical_query(query)] + [f"{n}:{sent[n]}" for n in names] + ["", ";".join(names), payload]
    )
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    scope = credentials.scope(day)
    signature = credentials.sign(day, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}")
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return Signed(sent, date, signature)


def chunked(credentials, signed, pieces, trailers=(), sign_chunks=True, sign_trailer=False):
    """An aws-chunked body: signed frames or bare ones, with or without trailers."""
    day, scope = signed.date[:8], credentials.scope(signed.date[:8])
    previous, out = signed.signature, bytearray()
    for piece in [*pieces, b""]:
        head = f"{len(piece):x}"
        if sign_chunks:
            text = "\n".join(
                ["AWS4-HMAC-SHA256-PAYLOAD", signed.date, scope, previous, EMPTY_SHA256, hashlib.sha256(piece).hexdigest()]
            )
            previous = credentials.sign(day, text)
            head += f";chunk-signature={previous}"
        out += head.encode() + b"\r\n" + piece
        if piece:
            out += b"\r\n"
    for name, value in trailers:
        out += f"{name}:{value}\r\n".encode()
    if sign_trailer:
        listed = "".join(f"{n}:{v}\n" for n, v in trailers)
        text = "\n".join(
            ["AWS4-HMAC-SHA256-TRAILER", signed.date, scope, previous, hashlib.sha256(listed.encode()).hexdigest()]
        )
        out += f"x-amz-trailer-signature:{credentials.sign(day, text)}\r\n".encode()
    return bytes(out + b"\r\n")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"

    @property
    def code(self):
        """The S3 error's code, or None."""
        text = self.body.decode("utf-8", "replace")
        return text.split("<Code>")[1].split("</Code>")[0] if "<Code>" in text else None


class Client:
    """One keep-alive connection. Not for several threads."""

    def __init__(self, port, credentials, timeout=30, host=None):
        self.port, self.credentials, self.timeout = port, credentials, timeout
        self.host = host or f"127.0.0.1:{port}"
        self.connection = None

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def request(self, method, path, query=(), body=b"", headers=None, payload=UNSIGNED, date=None):
        """Sends and reads one whole answer; raises OSError or HTTPException when there is none."""
        signed = sign(self.credentials, method, path, self.host, query, headers, payload, date)
        return self.send(method, path, query, body, signed.headers)

    def send(self, method, path, query, body, headers):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            self.connection.connect()
            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = path + ("?" + canonical_query(query) if query else "")
        try:
            self.connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                self.connection.putheader(name, value)
            if "content-length" not in headers and (body or method in ("PUT", "POST")):
                self.connection.putheader("content-length", str(len(body)))
            self.connection.endheaders(body or None)
            answer = self.connection.getresponse()
            data = answer.read()
        except BaseException:
            self.close()
            raise
        if answer.will_close:
            self.close()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, data)


def head_bytes(method, target, headers):
    """A request's head as bytes."""
    lines = [f"{method} {target} HTTP/1.1"] + [f"{k}: {v}" for k, v in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Raw:
    """A bare connection: sends exactly these bytes, reads exactly what comes."""

    def __init__(self, port, timeout=30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        """The next answer, or None when the connection was closed without one."""
        response = http.client.HTTPResponse(self.socket)
        try:
            response.begin()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except (http.client.HTTPException, ConnectionError):
            return None
