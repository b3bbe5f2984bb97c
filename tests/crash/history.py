"""What a client was told, and what it may therefore find: linearizability, key by key.

A write has the tick before it was sent and the tick after its answer came (none: no answer). A read may give any write that began before the read
ended, unless some other answered write lies wholly between that write and the read. What a read has given, has happened: the write it gave counts as
answered by then, so a value once seen may not be lost either.
"""

import hashlib
import itertools
import random
import threading

NEVER = float("inf")
_tick = itertools.count(1)
_op = itertools.count(1)


def tick():
    return next(_tick)


def contents(op, size):
    """Bytes of operation `op`: unique, self-describing, made again at will."""
    head = b"cairn crash test, operation %d, %d bytes\n" % (op, size)
    return (head + random.Random(op).randbytes(max(0, size - len(head))))[:size]


class Value:
    """What a put wrote: enough to make the bytes again, and the ETag it must have."""

    def __init__(self, pieces):
        """`pieces`: (operation, size) of each part, or of the one body."""
        self.pieces = pieces
        bodies = [contents(op, size) for op, size in pieces]
        self.size = sum(size for _, size in pieces)
        self.md5 = hashlib.md5(b"".join(bodies)).hexdigest()
        self.etag = self.md5

    @classmethod
    def of_parts(cls, pieces):
        value = cls(pieces)
        digests = b"".join(hashlib.md5(contents(op, size)).digest() for op, size in pieces)
        value.etag = f"{hashlib.md5(digests).hexdigest()}-{len(pieces)}"
        return value

    def body(self):
        return b"".join(contents(op, size) for op, size in self.pieces)

    def __repr__(self):
        return f"<operations {[op for op, _ in self.pieces]}, {self.size} bytes, {self.etag}>"


class Write:
    """A put (`value`) or a delete (None)."""

    def __init__(self, value, start=None):
        self.value = value
        self.start = tick() if start is None else start
        self.end = NEVER

    def __repr__(self):
        what = "deleted" if self.value is None else repr(self.value)
        return f"{what} [{self.start}, {'no answer' if self.end == NEVER else self.end}]"


class Violation(Exception):
    """What was found may not be."""


class Key:
    """The history of one key, since it was last settled."""

    def __init__(self, name):
        self.name = name
        self.lock = threading.Lock()
        self.settle(None)

    def settle(self, value):
        """Nothing else is possible any more: what was found is what is."""
        self.writes = [Write(value, 0)]
        self.writes[0].end = 0

    def begin(self, value):
        write = Write(value)
        with self.lock:
            self.writes.append(write)
        return write

    def answered(self, write):
        with self.lock:
            write.end = min(write.end, tick())

    def refused(self, write):
        """The answer was that it did not happen."""
        with self.lock:
            self.writes.remove(write)

    def allowed(self, start, end):
        """Writes that a read of [start, end] may give."""
        settled = max((w.start for w in self.writes if w.end < start), default=0)
        return [w for w in self.writes if w.start < end and w.end >= settled]

    def read(self, start, md5=None, etag=None):
        """A read begun at `start` gave this (neither: absent). Raises Violation when it may not."""
        end = tick()
        with self.lock:
            allowed = self.allowed(start, end)
            fits = [w for w in allowed if self._fits(w.value, md5, etag)]
            if not fits:
                raise Violation(self._explain(md5 or etag, allowed))
            if len(fits) == 1:
                fits[0].end = min(fits[0].end, end)
            return fits[-1].value

    @staticmethod
    def _fits(value, md5, etag):
        if value is None or (md5 is None and etag is None):
            return value is None and md5 is None and etag is None
        return (md5 is None or value.md5 == md5) and (etag is None or value.etag == etag)

    def _explain(self, found, allowed):
        known = [w for w in self.writes if w.value is not None and found in (w.value.md5, w.value.etag)]
        if found is None:
            what = "nothing is there"
        elif known:
            what = f"an older state came back: {known}"
        else:
            what = f"bytes that nobody wrote there: {found}"
        return f"{self.name!r}: {what}; allowed: {allowed}; history: {self.writes[-6:]}"


class Upload:
    """A multipart upload that was begun: parts acknowledged, and parts that may be there."""

    def __init__(self, key, upload_id):
        self.key, self.upload_id = key, upload_id
        self.parts = {}  # number -> (operation, size)
        self.unanswered_parts = set()
        self.ending = False  # a completion or abort was sent and got no answer


def new_op():
    return next(_op)
