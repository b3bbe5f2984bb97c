"""The five checksums, in the header and in the trailer, of whole objects and of parts."""

import base64
import hashlib
import random
import zlib

import crc
import pytest
import signed_http
from expecting import refused

COMPUTE = {
    "CRC32": lambda d: zlib.crc32(d).to_bytes(4, "big"),
    "CRC32C": lambda d: crc.crc32c(d).to_bytes(4, "big"),
    "CRC64NVME": lambda d: crc.crc64nvme(d).to_bytes(8, "big"),
    "SHA1": lambda d: hashlib.sha1(d).digest(),
    "SHA256": lambda d: hashlib.sha256(d).digest(),
}
DATA = random.Random(7).randbytes(200_001)


def value(algorithm, data):
    return base64.b64encode(COMPUTE[algorithm](data)).decode()


@pytest.mark.parametrize("algorithm", COMPUTE)
@pytest.mark.parametrize("size", [0, 100, len(DATA)])
def test_in_the_header(s3, bucket, algorithm, size):
    data, field = DATA[:size], f"Checksum{algorithm}"
    right = value(algorithm, data)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data, **{field: right})
    assert put[field] == right
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got[field] == right and got["Body"].read() == data
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")[field] == right
    with refused("BadDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=data, **{field: value(algorithm, data + b"!")})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == data


@pytest.mark.parametrize("algorithm", COMPUTE)
@pytest.mark.parametrize("form", ["signed", "signed with trailer signature", "unsigned"])
def test_in_the_trailer(raw, bucket, algorithm, form):
    header = f"x-amz-checksum-{algorithm.lower()}"
    path = f"/{bucket}/k"

    def put(trailer, data=DATA):
        payload = signed_http.STREAMING_UNSIGNED_TRAILER if form == "unsigned" else signed_http.STREAMING_TRAILER
        headers = {
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(len(data)),
            "x-amz-trailer": header,
        }
        signed = signed_http.sign(raw.credentials, "PUT", path, raw.host, (), headers, payload)
        pieces = [data[n : n + 65_536] for n in range(0, len(data), 65_536)]
        body = signed_http.chunked(
            raw.credentials, signed, pieces, [(header, trailer)], sign_chunks=form != "unsigned", sign_trailer=form != "unsigned"
        )
        return raw.send("PUT", path, (), body, signed.headers)

    answer = put(value(algorithm, DATA))
    assert answer.status == 200, answer
    assert answer.headers[header] == value(algorithm, DATA)
    got = raw.request("GET", path, headers={"x-amz-checksum-mode": "ENABLED"})
    assert got.body == DATA and got.headers[header] == value(algorithm, DATA)
    assert "aws-chunked" not in got.headers.get("content-encoding", "")
    answer = put(value(algorithm, b"something else"), DATA[:70_000])
    assert (answer.status, answer.code) == (400, "BadDigest"), answer
    assert raw.request("GET", path).body == DATA


def test_boto3_sends_and_checks_one_by_itself(s3, bucket):
    put = s3.put_object(Bucket=bucket, Key="k", Body=DATA)
    assert put["ChecksumCRC32"] == value("CRC32", DATA)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["ChecksumCRC32"] == value("CRC32", DATA) and got["Body"].read() == DATA


def test_an_object_without_one_gets_crc64nvme(raw, bucket):
    raw.request("PUT", f"/{bucket}/k", body=DATA)
    got = raw.request("HEAD", f"/{bucket}/k", headers={"x-amz-checksum-mode": "ENABLED"})
    assert got.headers["x-amz-checksum-crc64nvme"] == value("CRC64NVME", DATA)
    assert got.headers["x-amz-checksum-type"] == "FULL_OBJECT"


@pytest.mark.parametrize("algorithm", COMPUTE)
def test_of_parts(s3, bucket, algorithm):
    """CRC64NVME is of the whole object, SHA-1 and SHA-256 of the parts' checksums, the CRC32s either."""
    field = f"Checksum{algorithm}"
    parts = [random.Random(n).randbytes(5 << 20) for n in range(2)] + [b"tail"]
    kinds = {"CRC64NVME": ["FULL_OBJECT"], "SHA1": ["COMPOSITE"], "SHA256": ["COMPOSITE"]}.get(
        algorithm, ["FULL_OBJECT", "COMPOSITE"]
    )
    for kind in kinds:
        upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=kind)["UploadId"]
        named = []
        for n, part in enumerate(parts, 1):
            sum_ = value(algorithm, part)
            done = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=n, Body=part, **{field: sum_})
            assert done[field] == sum_
            named.append({"PartNumber": n, "ETag": done["ETag"], field: sum_})
        if kind == "COMPOSITE":
            joined = b"".join(COMPUTE[algorithm](p) for p in parts)
            want = f"{value(algorithm, joined)}-3"
        else:
            want = value(algorithm, b"".join(parts))
        wrong = [dict(p) for p in named]
        wrong[1][field] = value(algorithm, b"wrong")
        with refused("InvalidPart", 400):
            s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": wrong})
        done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": named})
        assert (done[field], done["ChecksumType"]) == (want, kind)
        head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert (head[field], head["ChecksumType"]) == (want, kind)


def test_what_is_no_checksum_is_refused(raw, bucket):
    for headers, code in [
        ({"x-amz-checksum-crc32": "nonsense"}, "BadDigest"),
        ({"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-sha1": "A" * 27 + "="}, "InvalidRequest"),
        ({"x-amz-sdk-checksum-algorithm": "CRC17"}, "InvalidRequest"),
        ({"x-amz-checksum-type": "FULL_OBJECT"}, "NotImplemented"),
        ({"x-amz-mp-object-size": "1"}, "NotImplemented"),
    ]:
        answer = raw.request("PUT", f"/{bucket}/k", body=b"x", headers=headers)
        status = 501 if code == "NotImplemented" else 400
        assert (answer.status, answer.code) == (status, code), (headers, answer)
    assert raw.request("GET", f"/{bucket}/k").status == 404


def test_a_part_has_its_uploads_algorithm_or_none(s3, bucket, raw):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
    query = [("partNumber", "1"), ("uploadId", upload)]
    answer = raw.request("PUT", f"/{bucket}/k", query=query, body=b"x", headers={"x-amz-checksum-crc32": "jNyxgw=="})
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert b"expected checksum Type: sha256, actual checksum Type: crc32" in answer.body
    for headers in ({}, {"x-amz-checksum-sha256": "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE="}):
        answer = raw.request("PUT", f"/{bucket}/k", query=query, body=b"x", headers=headers)
        assert answer.status == 200 and "x-amz-checksum-sha256" in answer.headers, answer
