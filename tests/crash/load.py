"""Mixed load by many workers, every answer recorded; and the reading back of everything.

A worker owns most of its keys alone, so its listings are exact; a few keys are everybody's.
"""

import base64
import hashlib
import http.client
import random
import threading
import urllib.parse
import xml.etree.ElementTree as ElementTree

import signed_http
from history import Key, Upload, Value, Violation, Write, contents, new_op, tick

WORKERS = 16
KEYS_EACH = 20
BUCKET = "crash"
PART = 5 << 20
SPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
LOST = (OSError, http.client.HTTPException)


def path(key):
    return signed_http.object_path(BUCKET, key)


class Refused(Exception):
    """An answer that nothing explains while the server and its disk are well."""


class Record:
    """Everything the client was told."""

    def __init__(self):
        self.own = [[Key(f"w{w:02}/{name(w, n)}") for n in range(KEYS_EACH)] for w in range(WORKERS)]
        self.shared = [Key(f"shared/{n}") for n in range(8)]
        self.keys = {k.name: k for k in [k for own in self.own for k in own] + self.shared}
        self.uploads = {}
        self.unanswered_uploads = 0
        self.answers = 0
        self.lock = threading.Lock()

    def pending_uploads(self):
        with self.lock:
            return list(self.uploads.values())


def name(worker, n):
    odd = ["plain", "a", "a/", "a/b", "sp ace", "plus+", "per%cent", "emoji 🪨", "../up", "//"]
    return f"{odd[n % len(odd)]}{'' if n < len(odd) else n}"


class Worker:
    """One connection doing one thing after another until told to stop."""

    def __init__(self, record, number, port, credentials, seed):
        self.record, self.number = record, number
        self.random = random.Random(seed)
        self.client = signed_http.Client(port, credentials, timeout=20)
        self.problems = []
        self.cut = threading.Event()  # from here on, failures are explained
        self.stop = threading.Event()

    def run(self):
        acts = [
            (self.put_small, 38), (self.put_medium, 14), (self.put_large, 2), (self.put_if_absent, 4), (self.delete, 12), (self.delete_batch, 3),
            (self.get, 18), (self.list_own, 4), (self.multipart, 3), (self.part_of_open_upload, 2),
        ]
        functions, weights = zip(*acts)
        while not self.stop.is_set():
            try:
                self.random.choices(functions, weights)[0]()
            except Violation as e:
                self.problems.append(str(e))
                return
            except LOST as e:
                if not self.cut.is_set():
                    self.problems.append(f"the connection was lost with nothing wrong: {e!r}")
                return
            except Refused as e:
                if not self.cut.is_set():
                    self.problems.append(f"refused with nothing wrong: {e}")
                    return
        self.client.close()

    def ask(self, method, key, ok, query=(), body=b"", headers=None):
        answer = self.client.request(method, key if key.startswith("/") else path(key), query, body, headers)
        with self.record.lock:
            self.record.answers += 1
        if answer.status not in ok:
            raise Refused(f"{method} {key!r} {list(query)}: {answer}")
        return answer

    def own_key(self):
        return self.random.choice(self.record.own[self.number])

    def any_key(self):
        return self.random.choice(self.record.shared) if self.random.random() < 0.12 else self.own_key()

    def put(self, key, size, **headers):
        op = new_op()
        write = key.begin(Value([(op, size)]))
        answer = self.ask("PUT", path(key.name), (200,), body=contents(op, size), headers=headers)
        key.answered(write)
        if answer.headers.get("etag") != f'"{write.value.etag}"':
            raise Violation(f"{key.name!r}: put {write.value}, answered ETag {answer.headers.get('etag')}")

    def put_small(self):
        self.put(self.any_key(), self.random.choice([0, 1, 100, 511, 512, 513, self.random.randint(1, 5000)]))

    def put_medium(self):
        self.put(self.any_key(), self.random.choice([65_536, 131_072, 131_073, self.random.randint(5000, 300_000)]))

    def put_large(self):
        self.put(self.own_key(), self.random.randint(300_000, 4_000_000))

    def put_if_absent(self):
        """On a key of our own, what it must answer is mostly known."""
        key, op, size = self.own_key(), new_op(), self.random.randint(1, 3000)
        before = key.allowed(tick(), tick())
        write = key.begin(Value([(op, size)]))
        answer = self.ask("PUT", path(key.name), (200, 412), body=contents(op, size), headers={"if-none-match": "*"})
        if answer.status == 412:
            key.refused(write)
            if all(w.value is None for w in before):
                raise Violation(f"{key.name!r}: nothing was there, yet If-None-Match: * was refused")
        else:
            key.answered(write)
            if all(w.value is not None for w in before):
                raise Violation(f"{key.name!r}: If-None-Match: * was granted over {before}")

    def delete(self):
        key = self.any_key()
        write = key.begin(None)
        self.ask("DELETE", path(key.name), (204,))
        key.answered(write)

    def delete_batch(self):
        keys = self.random.sample(self.record.own[self.number], 3)
        writes = [key.begin(None) for key in keys]
        listed = "".join(f"<Object><Key>{escape(k.name)}</Key></Object>" for k in keys)
        body = f"<Delete>{listed}</Delete>".encode()
        digest = hashlib.md5(body).digest()
        headers = {"content-md5": base64.b64encode(digest).decode()}
        answer = self.ask("POST", f"/{BUCKET}", (200,), [("delete", "")], body, headers)
        failed = answer.body.count(b"<Error>")
        if failed:
            raise Refused(f"batch delete: {answer}")
        for key, write in zip(keys, writes):
            key.answered(write)

    def get(self):
        read_one(self, self.any_key())

    def list_own(self):
        """Nobody else writes below our prefix, so the page must be what we know."""
        start = tick()
        found = list_page(self, f"w{self.number:02}/")
        for key in self.record.own[self.number]:
            key.read(start, etag=found.pop(key.name, (None, 0))[0])
        if found:
            raise Violation(f"listed, though nobody put it: {sorted(found)}")

    def begin_upload(self, key):
        with self.record.lock:
            self.record.unanswered_uploads += 1
        answer = self.ask("POST", path(key.name), (200,), [("uploads", "")])
        upload = Upload(key, ElementTree.fromstring(answer.body).findtext(f"{SPACE}UploadId"))
        with self.record.lock:
            self.record.unanswered_uploads -= 1
            self.record.uploads[upload.upload_id] = upload
        return upload

    def put_part(self, upload, number, size):
        op = new_op()
        upload.unanswered_parts.add(number)
        query = [("partNumber", str(number)), ("uploadId", upload.upload_id)]
        self.ask("PUT", path(upload.key.name), (200,), query, contents(op, size))
        upload.unanswered_parts.discard(number)
        upload.parts[number] = (op, size)

    def multipart(self):
        upload = self.begin_upload(self.own_key())
        self.put_part(upload, 1, PART)
        self.put_part(upload, 3, self.random.randint(1, 200_000))
        if self.random.random() < 0.7:
            complete(self, upload)

    def part_of_open_upload(self):
        """Begins an upload that stays open over the crash."""
        upload = self.begin_upload(self.own_key())
        for number in range(1, self.random.randint(2, 4)):
            self.put_part(upload, number, self.random.randint(1, 100_000))
        if self.random.random() < 0.3:
            abort(self, upload)


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def complete(worker, upload):
    numbers = sorted(upload.parts)
    pieces = [upload.parts[n] for n in numbers]
    value = Value.of_parts(pieces)
    etags = [hashlib.md5(contents(op, size)).hexdigest() for op, size in pieces]
    listed = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in zip(numbers, etags))
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    upload.ending = True
    write = upload.key.begin(value)
    answer = worker.ask("POST", path(upload.key.name), (200,), [("uploadId", upload.upload_id)], body)
    if b"CompleteMultipartUploadResult" not in answer.body:
        raise Refused(f"completion: {answer}")
    upload.key.answered(write)
    with worker.record.lock:
        del worker.record.uploads[upload.upload_id]


def abort(worker, upload):
    upload.ending = True
    worker.ask("DELETE", path(upload.key.name), (204,), [("uploadId", upload.upload_id)])
    with worker.record.lock:
        del worker.record.uploads[upload.upload_id]


def read_one(worker, key):
    start = tick()
    answer = worker.ask("GET", path(key.name), (200, 404))
    if answer.status == 404:
        if answer.code != "NoSuchKey":
            raise Refused(f"GET {key.name!r}: {answer}")
        key.read(start)
        return None
    value = key.read(start, md5=hashlib.md5(answer.body).hexdigest(), etag=answer.headers["etag"].strip('"'))
    return value


def list_page(worker, prefix=""):
    """Key to (ETag, size), all pages."""
    found, after = {}, None
    while True:
        query = [("list-type", "2"), ("prefix", prefix), ("encoding-type", "url")]
        if after:
            query.append(("continuation-token", after))
        root = ElementTree.fromstring(worker.ask("GET", f"/{BUCKET}", (200,), query).body)
        for entry in root.iter(f"{SPACE}Contents"):
            key = urllib.parse.unquote_plus(entry.findtext(f"{SPACE}Key"))
            if key in found:
                raise Violation(f"listed twice: {key!r}")
            found[key] = (entry.findtext(f"{SPACE}ETag").strip('"'), int(entry.findtext(f"{SPACE}Size")))
        after = root.findtext(f"{SPACE}NextContinuationToken")
        if not after:
            return found


def run_load(record, port, credentials, seed):
    """Starts the workers; answers them with their threads."""
    workers = [Worker(record, n, port, credentials, f"{seed}-{n}") for n in range(WORKERS)]
    threads = [threading.Thread(target=w.run, name=f"worker {w.number}", daemon=True) for w in workers]
    for t in threads:
        t.start()
    return workers, threads


def verify(record, port, credentials):
    """Reads everything back; answers what is wrong. What was found is settled: there is nothing left to be unsure of."""
    problems = []
    todo = list(record.keys.values())
    lister = Worker(record, 0, port, credentials, "verify")
    try:
        listing = list_page(lister)
    except (Violation, Refused, *LOST) as e:
        return [f"listing: {e}"]
    problems += [f"listed, though nobody put it: {k!r}" for k in listing.keys() - record.keys.keys()]
    lock = threading.Lock()

    def read_back():
        worker = Worker(record, 0, port, credentials, "verify")
        while True:
            with lock:
                if not todo:
                    worker.client.close()
                    return
                key = todo.pop()
            try:
                value = read_one(worker, key)
                want = None if value is None else (value.etag, value.size)
                if listing.get(key.name) != want:
                    raise Violation(f"{key.name!r}: reads {want}, the listing says {listing.get(key.name)}")
                key.settle(value)
            except (Violation, Refused, *LOST) as e:
                with lock:
                    problems.append(str(e))

    threads = [threading.Thread(target=read_back, daemon=True) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    try:
        problems += verify_uploads(record, lister)
    except (Violation, Refused, *LOST) as e:
        problems.append(f"uploads: {e}")
    lister.client.close()
    return problems


def verify_uploads(record, worker):
    """Open uploads are open with their parts; then each is completed or given up."""
    problems = []
    answer = worker.ask("GET", f"/{BUCKET}", (200,), [("uploads", ""), ("encoding-type", "url")])
    listed = {}
    for entry in ElementTree.fromstring(answer.body).iter(f"{SPACE}Upload"):
        listed[entry.findtext(f"{SPACE}UploadId")] = urllib.parse.unquote_plus(entry.findtext(f"{SPACE}Key"))
    for upload in record.pending_uploads():
        if upload.upload_id not in listed:
            if not upload.ending:
                problems.append(f"an open upload of {upload.key.name!r} is gone")
            with record.lock:
                del record.uploads[upload.upload_id]
            continue
        del listed[upload.upload_id]
        query = [("uploadId", upload.upload_id)]
        parts = ElementTree.fromstring(worker.ask("GET", path(upload.key.name), (200,), query).body)
        found = {
            int(p.findtext(f"{SPACE}PartNumber")): p.findtext(f"{SPACE}ETag").strip('"') for p in parts.iter(f"{SPACE}Part")
        }
        for number, (op, size) in upload.parts.items():
            want = hashlib.md5(contents(op, size)).hexdigest()
            if found.pop(number, None) != want and number not in upload.unanswered_parts:
                problems.append(f"part {number} of an upload of {upload.key.name!r} is gone or another")
        problems += [f"a part {n} of {upload.key.name!r} that nobody put" for n in found.keys() - upload.unanswered_parts]
        sound = all(size >= PART for _, size in [upload.parts[n] for n in sorted(upload.parts)][:-1])
        if upload.parts and sound and not upload.unanswered_parts:
            complete(worker, upload)
            upload.key.settle(read_one(worker, upload.key))
        else:
            abort(worker, upload)
    if len(listed) > record.unanswered_uploads:
        problems.append(f"uploads that nobody began: {listed}")
    for upload_id, key in listed.items():
        worker.ask("DELETE", path(key), (204,), [("uploadId", upload_id)])
    record.unanswered_uploads = 0
    return problems
