"""Many connections at once from one thread: each carries requests one after the other, checks every byte it is given, and takes SlowDown for what it
is: it comes again.

A body is one pattern over and over, so that neither side of it needs memory: what is sent is a slice of it, what comes is compared with one.
"""

import collections
import random
import select
import socket
import time

import signed_http

PATTERN = random.Random(4).randbytes(1 << 20)
_DOUBLE = memoryview(PATTERN + PATTERN)
HEAD_BYTES_MAX = 1 << 16
SEND_BYTES = 256 << 10


class Failed(Exception):
    """An answer that no request of ours should get."""


class Request:
    """One request; `bytes_out` of the pattern as its body, `bytes_in` of it as what must come back, or any document where that is None."""

    def __init__(self, method, path, query=(), bytes_out=0, bytes_in=None, headers=None, then=None):
        self.method, self.path, self.query = method, path, query
        self.bytes_out, self.bytes_in, self.headers, self.then = bytes_out, bytes_in, headers, then


class Connection:
    """Carries `requests`, an iterator, one after the other."""

    def __init__(self, fleet, requests):
        self.fleet, self.requests = fleet, requests
        self.socket = None
        self.request = None

    def next(self):
        self.request = next(self.requests, None)
        if self.request is None:
            self.close()
            self.fleet.gone(self)
        else:
            self.begin()

    def begin(self):
        """The request from its start, on the connection there is or a new one."""
        r, f = self.request, self.fleet
        signed = signed_http.sign(f.credentials, r.method, r.path, f.host, r.query, r.headers)
        headers = dict(signed.headers)
        if r.bytes_out or r.method in ("PUT", "POST"):
            headers["content-length"] = str(r.bytes_out)
        target = r.path + ("?" + signed_http.canonical_query(r.query) if r.query else "")
        self.head_out = signed_http.head_bytes(r.method, target, headers)
        self.sent = 0
        self.head_in = bytearray()
        self.status = None
        self.left = None
        self.got = 0
        self.document = bytearray()
        if self.socket is None:
            self.socket = socket.socket()
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.connect_ex(("127.0.0.1", f.port))
            f.add(self)
        self.interest(select.EPOLLIN | select.EPOLLOUT)

    def interest(self, events):
        self.fleet.poll.modify(self.socket.fileno(), events)

    def close(self):
        if self.socket is not None:
            self.fleet.drop(self)
            self.socket.close()
            self.socket = None

    def ready(self, events):
        try:
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self.receive()
            if self.socket is not None and events & select.EPOLLOUT and self.status is None:
                self.send()
        except (ConnectionError, BlockingIOError) as e:
            if not isinstance(e, BlockingIOError):
                self.broken(repr(e))

    def send(self):
        total = len(self.head_out) + self.request.bytes_out
        while self.sent < total:
            body = self.sent - len(self.head_out)
            if body < 0:
                piece = self.head_out[self.sent :]
            else:
                at = body % len(PATTERN)
                piece = _DOUBLE[at : at + min(SEND_BYTES, self.request.bytes_out - body)]
            count = self.socket.send(piece)
            self.sent += count
            self.fleet.bytes_out += count
        self.interest(select.EPOLLIN)

    def receive(self):
        while self.socket is not None:
            count = self.socket.recv_into(self.fleet.scratch)
            if count == 0:
                self.broken("closed")
                return
            self.take(memoryview(self.fleet.scratch)[:count])

    def take(self, data):
        if self.left is None:
            self.head_in += data
            end = self.head_in.find(b"\r\n\r\n")
            if end < 0:
                if len(self.head_in) > HEAD_BYTES_MAX:
                    raise Failed("an answer's head does not end")
                return
            lines = bytes(self.head_in[:end]).decode("latin-1").split("\r\n")
            rest = bytes(self.head_in[end + 4 :])
            self.status = int(lines[0].split(" ")[1])
            self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
            # A copy that takes long is answered before it is done, and nobody says then how much comes.
            self.is_late = self.headers.get("transfer-encoding") == "chunked"
            self.left = HEAD_BYTES_MAX if self.is_late else int(self.headers.get("content-length", 0))
            self.matches = self.status in (200, 206) and self.request.bytes_in is not None
            data = memoryview(rest)
        if len(data) > self.left:
            raise Failed(f"{self.request.path}: more bytes than were said")
        if self.matches:
            at = self.got % len(PATTERN)
            done = 0
            while done < len(data):
                piece = data[done : done + len(PATTERN)]
                at = (self.got + done) % len(PATTERN)
                if piece != _DOUBLE[at : at + len(piece)]:
                    raise Failed(f"{self.request.path}: other bytes than were put, near {self.got + done}")
                done += len(piece)
        else:
            self.document += data
        self.got += len(data)
        self.left -= len(data)
        if self.is_late and self.document.endswith(b"\r\n0\r\n\r\n"):
            self.left = 0
        self.fleet.bytes_in += len(data)
        if self.left == 0:
            self.answered()

    def answered(self):
        f, r = self.fleet, self.request
        if self.is_late and b"<Error>" in self.document:
            self.status = 503
        if self.status == 503:
            if b"<Code>SlowDown</Code>" not in self.document and r.method != "HEAD":
                raise Failed(f"503 with {bytes(self.document[:300])!r}")
            f.counts["slow down"] += 1
            self.later(float(self.headers.get("retry-after", 1)))
            return
        if self.status == 400 and b"<Code>RequestTimeout</Code>" in self.document:
            # As an SDK takes it. One process that sends for hundreds may be the slow one.
            f.counts["timed out"] += 1
            self.later(1.0)
            return
        if self.status >= 300:
            raise Failed(f"{r.method} {r.path}: {self.status} {bytes(self.document[:500])!r}")
        if r.bytes_in is not None and self.got != r.bytes_in:
            raise Failed(f"{r.path}: {self.got} bytes where {r.bytes_in} were put")
        if self.sent < len(self.head_out) + r.bytes_out:
            raise Failed(f"{r.method} {r.path}: {self.status} before its body was sent")
        f.counts["done"] += 1
        if self.headers.get("connection") == "close":
            self.close()
        if r.then:
            r.then(self)
        self.next()

    def broken(self, why):
        self.fleet.counts["broken"] += 1
        self.fleet.broken[why] += 1
        self.later(1.0)

    def later(self, seconds):
        self.close()
        self.fleet.later(self, seconds * random.uniform(0.5, 1.5))


class Fleet:
    """All connections, and how they fare."""

    def __init__(self, port, credentials):
        self.port, self.credentials, self.host = port, credentials, f"127.0.0.1:{port}"
        self.poll = select.epoll()
        self.by_descriptor = {}
        self.waiting = []
        self.alive = set()
        self.counts = collections.Counter()
        self.broken = collections.Counter()
        self.bytes_in = self.bytes_out = 0
        self.scratch = bytearray(256 << 10)

    def launch(self, requests):
        self.alive.add(connection := Connection(self, requests))
        connection.next()

    def add(self, connection):
        self.by_descriptor[connection.socket.fileno()] = connection
        self.poll.register(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def drop(self, connection):
        self.poll.unregister(connection.socket.fileno())
        del self.by_descriptor[connection.socket.fileno()]

    def later(self, connection, seconds):
        self.waiting.append((time.monotonic() + seconds, connection))

    def gone(self, connection):
        self.alive.discard(connection)

    def run(self, until=lambda: False, patience=60.0):
        """Until all requests are answered, or `until` says so. Fails where nothing moves for `patience` seconds."""
        moved, last = time.monotonic(), None
        while self.alive and not until():
            for descriptor, events in self.poll.poll(0.05):
                connection = self.by_descriptor.get(descriptor)
                if connection is not None:
                    connection.ready(events)
            now = time.monotonic()
            due = [c for at, c in self.waiting if at <= now]
            self.waiting = [(at, c) for at, c in self.waiting if at > now]
            for connection in due:
                connection.begin()
            state = (self.bytes_in, self.bytes_out, self.counts["done"])
            if state != last:
                moved, last = now, state
            elif now - moved > patience:
                raise Failed(f"nothing has moved for {patience} s: {dict(self.counts)}, {len(self.alive)} not done")
