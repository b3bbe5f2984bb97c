"""Odd keys: never paths, never confused with each other."""

import pytest
from expecting import refused

KEYS = [
    "a", "a/", "a/b", "a//b", "/a", "//", "/", "../x", "a/../b", "./.", ".", "..", "...", " ", "  lead and trail  ", "a b", "a+b", "a%20b", "a%2Fb",
    "%", "%%", "%zz", "?", "a?b=c", "#", "a#b", "&", "a&b", "=", ";", ":", "@", ",", "'", '"', "<", ">", "<x>&amp;", "\\", "a\\b", "|", "^", "`", "~", "*", "{}", "[]",
    "ü", "u\u0308", "日本語", "🪨", "👩‍👩‍👧/🪨", "\u200b", "\ufeff", "\uffff", "\U0010ffff", "\x01", "a\x1fb", "\x7f", "a\tb", "a\nb", "a\r\nb", "\x85", "\u2028",
    "-/health", "null", "uploads", "soap", "k" * 1024, "é" * 512,
]


def test_odd_keys_are_each_their_own_object(s3, bucket):
    for n, key in enumerate(KEYS):
        s3.put_object(Bucket=bucket, Key=key, Body=f"{n}:{key}".encode())
    for n, key in enumerate(KEYS):
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == f"{n}:{key}".encode(), repr(key)
        assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(f"{n}:{key}".encode()), repr(key)
    listed = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(KEYS, key=lambda k: k.encode())
    # Removing one removes just that one.
    for key in KEYS[::2]:
        s3.delete_object(Bucket=bucket, Key=key)
    listed = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(KEYS[1::2], key=lambda k: k.encode())
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": k} for k in KEYS[1::2] if not has_control(k)]}
    )
    assert "Errors" not in answer
    left = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    assert sorted(left) == sorted(k for k in KEYS[1::2] if has_control(k))


def has_control(key):
    """What XML 1.0 cannot say or does not keep, so no batch delete can name it."""
    return any(ord(c) < 0x20 or c in "\x7f\x85\u2028\uffff" for c in key)


def test_keys_too_long_are_refused(s3, bucket):
    for key in ("k" * 1025, "é" * 513):
        with refused("KeyTooLongError", 400):
            s3.put_object(Bucket=bucket, Key=key, Body=b"")


def test_what_is_no_utf8_is_refused(raw, bucket):
    answer = raw.request("PUT", f"/{bucket}/%FF%FE", body=b"x")
    assert answer.status == 400 and answer.code is not None, answer


@pytest.mark.parametrize(
    "name", ["ab", "UPPER", "under_score", "-lead", "trail-", "two..dots", "192.168.1.1", "a" * 64, "xn--x", "x-s3alias"]
)
def test_bad_bucket_names_are_refused(raw, name):
    answer = raw.request("PUT", f"/{name}")
    assert (answer.status, answer.code) == (400, "InvalidBucketName"), answer
