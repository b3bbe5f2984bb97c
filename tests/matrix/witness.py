"""What a client really sends: a TLS front before the server that passes every byte on and keeps the head of each request.

So a cell of the matrix can say "sent in parts" or "has no batch delete" because it was seen, not because the client's manual says so. TLS,
because clients send checksums as trailers only there. One thread a connection and direction; all end with the connection.
"""

import select
import socket
import ssl
import subprocess
import threading
from urllib.parse import parse_qsl, urlsplit

PIECE = 256 * 1024
HEAD_MAX = 64 * 1024


class Request:
    """The head of one."""

    def __init__(self, head):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        self.headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        url = urlsplit(self.target)
        self.path, self.query = url.path, dict(parse_qsl(url.query, keep_blank_values=True))

    def __repr__(self):
        return f"{self.method} {self.target}"


class Secure:
    """A TLS connection that one thread reads and another writes. OpenSSL's is one thread's at a time, and Python 3.11 does not see to that."""

    def __init__(self, tls):
        self.tls, self.lock = tls, threading.Lock()
        tls.setblocking(False)

    def turn(self, act):
        while True:
            with self.lock:
                try:
                    return act()
                except ssl.SSLWantReadError:
                    wanted = ([self.tls], [])
                except ssl.SSLWantWriteError:
                    wanted = ([], [self.tls])
            # What this one waits for, the other may take.
            select.select(*wanted, [], 0.05)

    def recv(self, count):
        return self.turn(lambda: self.tls.recv(count))

    def sendall(self, data):
        data = memoryview(data)
        while data:
            data = data[self.turn(lambda: self.tls.send(data)) :]

    def shutdown(self, how):
        with self.lock:
            self.tls.shutdown(how)


class Reader:
    """Bytes of a socket by line and by count, passed on as they are read."""

    def __init__(self, source, sink):
        self.source, self.sink, self.buffer = source, sink, b""

    def more(self):
        piece = self.source.recv(PIECE)
        self.buffer += piece
        return bool(piece)

    def until(self, mark):
        """Up to and with `mark`; nothing when the connection ends before."""
        while mark not in self.buffer:
            assert len(self.buffer) <= HEAD_MAX, "a head without an end"
            if not self.more():
                return b""
        end = self.buffer.index(mark) + len(mark)
        data, self.buffer = self.buffer[:end], self.buffer[end:]
        return data

    def pass_on(self, count):
        while count:
            if not self.buffer and not self.more():
                return
            data, self.buffer = self.buffer[:count], self.buffer[count:]
            self.sink.sendall(data)
            count -= len(data)


class Witness:
    """Listens on a port of its own until it is closed. `since()` forgets; `seen` are the requests after that."""

    def __init__(self, port, directory):
        self.to = port
        self.certificate, key = directory + "/witness.pem", directory + "/witness.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", self.certificate],
            check=True, capture_output=True,
        )
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.certificate, key)
        self.lock = threading.Lock()
        self.seen = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.endpoint = f"https://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def forget(self):
        with self.lock:
            self.seen = []

    def requests(self, method=None, *queries, key=None):
        """Those with this method that have all these query parameters."""
        with self.lock:
            return [
                r for r in self.seen
                if method in (None, r.method) and all(q in r.query for q in queries) and (key is None or r.path.endswith("/" + key))
            ]

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, plain):
        try:
            with self.tls.wrap_socket(plain, server_side=True) as tls, socket.create_connection(("127.0.0.1", self.to)) as server:
                for s in (tls, server):
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client = Secure(tls)
                back = threading.Thread(target=self._answers, args=(server, client), daemon=True)
                back.start()
                self._requests(Reader(client, server))
                server.shutdown(socket.SHUT_WR)
                back.join()
        except OSError:
            pass  # either side went away: the other sees just that

    def _requests(self, reader):
        while head := reader.until(b"\r\n\r\n"):
            request = Request(head[:-4])
            with self.lock:
                self.seen.append(request)
            reader.sink.sendall(head)
            if "chunked" in request.headers.get("transfer-encoding", ""):
                self._chunks(reader)
            else:
                reader.pass_on(int(request.headers.get("content-length", 0)))

    def _chunks(self, reader):
        while line := reader.until(b"\r\n"):
            reader.sink.sendall(line)
            count = int(line.split(b";")[0], 16)
            reader.pass_on(count + 2)
            if count == 0:
                return

    def _answers(self, server, client):
        try:
            while piece := server.recv(PIECE):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
