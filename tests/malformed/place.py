"""Where malformed requests are made: chance, credentials, and what they aim at."""

import base64
import hashlib
import random

import signed_http


class Wire:
    """Bytes for one connection."""

    def __init__(self, data, ends=False):
        self.data = data
        self.ends = ends
        """Whether the client says that no more will come."""


class Place(random.Random):
    """Choices, and how to sign."""

    def __init__(self, seed, port, credentials, bucket, upload):
        super().__init__(seed)
        self.port, self.credentials, self.bucket, self.upload = port, credentials, bucket, upload
        self.host = f"127.0.0.1:{port}"
        self.path = f"/{bucket}"

    def word(self, length=6):
        return "".join(self.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))

    def sign(self, method, path, query=(), headers=None, payload=signed_http.UNSIGNED):
        return signed_http.sign(self.credentials, method, path, self.host, query, headers, payload)

    def request(self, method, path, query=(), headers=None, body=b"", payload=signed_http.UNSIGNED, unsigned=None, ends=False):
        """A request well signed but for the headers in `unsigned`, which are added behind."""
        headers = {"content-length": len(body), **(headers or {})}
        signed = self.sign(method, path, query, {k: v for k, v in headers.items() if v is not None}, payload)
        return self.written(method, path, query, list(signed.headers.items()) + list(unsigned or []), body, ends)

    def written(self, method, path, query, headers, body=b"", ends=False):
        target = path + ("?" + signed_http.canonical_query(query) if query else "")
        lines = [f"{method} {target} HTTP/1.1".encode()]
        lines += [f"{k}: ".encode() + (v if isinstance(v, bytes) else str(v).encode()) for k, v in headers]
        return Wire(b"\r\n".join(lines) + b"\r\n\r\n" + body, ends)

    def document(self, method, path, sub, body):
        """A document that is vouched for."""
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        query = [(sub, "")] if isinstance(sub, str) else sub
        return self.request(method, path, query, {"content-md5": md5}, body)
