"""What no decent client sends: lying lengths, stalls, vanishing, malformed heads and frames. And keep-alive and 100-continue, which decent ones do."""

import base64
import concurrent.futures
import hashlib
import socket
import time

import cairn_server
import pytest
import signed_http

KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)


def host(server):
    return f"127.0.0.1:{server.port}"


def put_head(server, path, headers, payload=signed_http.UNSIGNED):
    signed = signed_http.sign(KEYS, "PUT", path, host(server), (), headers, payload)
    return signed, signed_http.head_bytes("PUT", path, signed.headers)


def is_absent(raw, path):
    answer = raw.request("GET", path)
    return (answer.status, answer.code) == (404, "NoSuchKey")


@pytest.mark.parametrize("size, sent", [(1000, 10), (100_000, 99_999), (3_000_000, 2_000_000), (100_000, 0)])
def test_a_body_that_ends_early_names_nothing(server, raw, bucket, size, sent):
    path = f"/{bucket}/short"
    with signed_http.Raw(server.port) as bare:
        _, head = put_head(server, path, {"content-length": size})
        bare.send(head + b"x" * sent)
        bare.socket.shutdown(socket.SHUT_WR)
        answer = bare.answer()
        assert answer is None or (answer.status, answer.code) == (400, "IncompleteBody"), answer
    assert is_absent(raw, path)


def test_a_client_that_vanishes_names_nothing(server, raw, bucket):
    path = f"/{bucket}/gone"
    for sent in (0, 1, 70_000, 1_500_000):
        with signed_http.Raw(server.port) as bare:
            _, head = put_head(server, path, {"content-length": 2_000_000})
            bare.send(head + b"x" * sent)
            # A reset, not a goodbye.
            bare.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert is_absent(raw, path)
    # And the store is as good as before.
    assert raw.request("PUT", path, body=b"whole").status == 200
    assert raw.request("GET", path).body == b"whole"


def test_a_body_longer_than_said_is_the_next_request(server, raw, bucket):
    path = f"/{bucket}/long"
    with signed_http.Raw(server.port) as bare:
        _, head = put_head(server, path, {"content-length": 5})
        bare.send(head + b"12345and what follows is no request\r\n\r\n")
        assert bare.answer().status == 200
        second = bare.answer()
        assert second is None or second.status == 400
    assert raw.request("GET", path).body == b"12345"


@pytest.mark.parametrize("said, given", [(200_000, 199_999), (199_999, 200_000), (0, 1)])
def test_a_decoded_length_that_lies(server, raw, bucket, said, given):
    path = f"/{bucket}/decoded"
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": said}
    signed = signed_http.sign(KEYS, "PUT", path, host(server), (), headers, signed_http.STREAMING)
    body = signed_http.chunked(KEYS, signed, [b"x" * given])
    answer = raw.send("PUT", path, (), body, signed.headers)
    assert answer.status == 400 and answer.code is not None, answer
    assert is_absent(raw, path)


def test_a_frame_whose_signature_is_wrong(server, raw, bucket):
    path = f"/{bucket}/frames"
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": 150_000}
    for at in (100, 70_000, 140_000):
        signed = signed_http.sign(KEYS, "PUT", path, host(server), (), headers, signed_http.STREAMING)
        body = bytearray(signed_http.chunked(KEYS, signed, [b"x" * 65_536, b"x" * 65_536, b"x" * 18_928]))
        body[at] ^= 1
        answer = raw.send("PUT", path, (), bytes(body), signed.headers)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), (at, answer)
        assert is_absent(raw, path)


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nx\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"5" * 5000,
        b"5\r\nhello\r\n",
        b"5;chunk-signature=" + b"0" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_frames_that_are_none(server, raw, bucket, body):
    path = f"/{bucket}/noframes"
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": 5, "x-amz-trailer": "x-amz-checksum-crc32"}
    signed = signed_http.sign(KEYS, "PUT", path, host(server), (), headers, signed_http.STREAMING_UNSIGNED_TRAILER)
    answer = raw.send("PUT", path, (), body, signed.headers)
    assert answer.status == 400 and answer.code is not None, answer
    assert is_absent(raw, path)


def test_no_length_is_refused(server, bucket):
    path = f"/{bucket}/nolength"
    with signed_http.Raw(server.port) as bare:
        signed = signed_http.sign(KEYS, "PUT", path, host(server))
        bare.send(signed_http.head_bytes("PUT", path, signed.headers | {"transfer-encoding": "chunked"}) + b"1\r\nx\r\n0\r\n\r\n")
        answer = bare.answer()
        assert (answer.status, answer.code) == (411, "MissingContentLength"), answer


def test_too_large_is_refused_before_the_body(server, bucket):
    path = f"/{bucket}/large"
    with signed_http.Raw(server.port) as bare:
        _, head = put_head(server, path, {"content-length": (5 << 30) + 1})
        bare.send(head)
        answer = bare.answer()
        assert (answer.status, answer.code) == (400, "EntityTooLarge"), answer


def test_continue_is_said_only_to_whom_may(server, raw, bucket):
    path = f"/{bucket}/continue"
    with signed_http.Raw(server.port) as bare:
        _, head = put_head(server, path, {"content-length": 5, "expect": "100-continue"})
        bare.send(head)
        assert bare.socket.recv(100).startswith(b"HTTP/1.1 100")
        bare.send(b"hello")
        assert bare.answer().status == 200
    assert raw.request("GET", path).body == b"hello"
    with signed_http.Raw(server.port) as bare:
        liar = signed_http.Credentials(cairn_server.ACCESS_KEY, "not the secret")
        signed = signed_http.sign(liar, "PUT", path, host(server), (), {"content-length": 5, "expect": "100-continue"})
        bare.send(signed_http.head_bytes("PUT", path, signed.headers))
        answer = bare.answer()
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), answer


@pytest.mark.parametrize("size", [0, 5])
def test_an_answer_without_continue_ends_the_connection(server, bucket, size):
    """botocore keeps the status of an answer that came before `100 Continue` and takes it for the next answer's on the same connection."""
    path = f"/{bucket}/early"
    with signed_http.Raw(server.port) as bare:
        refused = {"x-amz-server-side-encryption": "AES256"} if size else {}
        _, head = put_head(server, path, {"content-length": size, "expect": "100-continue"} | refused)
        bare.send(head)
        answer = bare.answer()
        assert answer.status == (501 if size else 200), answer
        assert answer.headers.get("connection") == "close"
        assert bare.socket.recv(1) == b""


def test_keep_alive_serves_many_requests(server, bucket):
    with signed_http.Raw(server.port) as bare:
        for n in range(50):
            path = f"/{bucket}/{n}"
            _, head = put_head(server, path, {"content-length": 3})
            bare.send(head + b"%03d" % n)
            assert bare.answer().status == 200
            signed = signed_http.sign(KEYS, "GET", path, host(server))
            bare.send(signed_http.head_bytes("GET", path, signed.headers))
            assert bare.answer().body == b"%03d" % n


@pytest.mark.parametrize(
    "head",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 300_000 + b"\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: AWS4-HMAC-SHA256 nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: AWS4-HMAC-SHA256 Credential=\xff/\xfe\r\n\r\n",
        b"GET /?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=x HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
)
def test_malformed_heads(server, raw, bucket, head):
    with signed_http.Raw(server.port) as bare:
        try:
            bare.send(head)
            bare.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # already hung up on
        answer = bare.answer()
        assert answer is None or 400 <= answer.status < 500, answer
    assert raw.request("PUT", f"/{bucket}/after", body=b"x").status == 200


@pytest.mark.parametrize("body", [b"", b"not xml", b"<Delete>", b"<Delete><Object><Key>k</Key></Object>", b"<a>" * 10_000,
                                  b'<!DOCTYPE x [<!ENTITY e "eee">]><Delete><Object><Key>&e;</Key></Object></Delete>', b"\xff\xfe<Delete/>"])
def test_malformed_documents(raw, s3, bucket, body):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    answer = raw.request("POST", f"/{bucket}", query=[("delete", "")], body=body, headers={"content-md5": md5})
    assert (answer.status, answer.code) == (400, "MalformedXML" if body else "MissingRequestBodyError"), answer
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_readers_that_vanish_or_dawdle_block_nobody(server, raw, bucket):
    path = f"/{bucket}/big"
    assert raw.request("PUT", path, body=b"0123456789abcdef" * (2 << 20)).status == 200
    slow = []
    try:
        for _ in range(20):
            bare = signed_http.Raw(server.port)
            slow.append(bare)
            signed = signed_http.sign(KEYS, "GET", path, host(server))
            bare.send(signed_http.head_bytes("GET", path, signed.headers))
            bare.socket.recv(1000)
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            def one(n):
                client = signed_http.Client(server.port, KEYS)
                try:
                    return client.request("PUT", f"/{bucket}/{n}", body=b"x" * 1000).status
                finally:
                    client.close()

            assert list(pool.map(one, range(100))) == [200] * 100
        assert time.monotonic() - begun < 20
    finally:
        for bare in slow:
            bare.socket.close()


def test_every_answer_has_a_request_id(raw, bucket):
    answers = [raw.request("GET", f"/{bucket}", query=[("list-type", "2")]), raw.request("GET", f"/{bucket}/none"), raw.request("GET", "/no-such-bucket-here/k")]
    ids = [a.headers["x-amz-request-id"] for a in answers]
    assert len(set(ids)) == 3 and all(ids)
    assert f"<RequestId>{ids[1]}</RequestId>".encode() in answers[1].body


def test_a_batch_names_every_key_that_a_listing_tells(raw, bucket):
    # No XML has a NUL; listings of S3's write it as a reference all the same.
    for key in ("%00", "a%00b", "c"):
        assert raw.request("PUT", f"/{bucket}/{key}", body=b"x").status == 200
    ask = ("GET", f"/{bucket}")
    listed = raw.request(*ask, query=[("list-type", "2")]).body
    keys = [piece.split(b"</Key>")[0] for piece in listed.split(b"<Key>")[1:]]
    assert keys == [b"&#x0;", b"a&#x0;b", b"c"]
    body = b"<Delete>" + b"".join(b"<Object><Key>" + key + b"</Key></Object>" for key in keys) + b"</Delete>"
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    answer = raw.request("POST", f"/{bucket}", query=[("delete", "")], body=body, headers={"content-md5": md5})
    assert answer.status == 200 and b"<Error>" not in answer.body, answer
    assert b"<Key>" not in raw.request(*ask, query=[("list-type", "2")]).body
