"""The program itself: starting, keys, the lock, health, metrics, stopping, checking, TLS."""

import http.client
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import threading
import time

import boto3
import botocore.config
import pytest

import cairn_server
import signed_http

KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)


@pytest.fixture
def directory():
    path = cairn_server.test_dir("program")
    yield path + "/data"
    shutil.rmtree(path)


@pytest.fixture
def started(directory):
    running = cairn_server.Server(directory)
    running.start()
    yield running
    running.kill()


def client(server, credentials=KEYS):
    return signed_http.Client(server.port, credentials)


def test_version_says_the_format():
    done = subprocess.run([cairn_server.binary(), "--version"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and re.search(r"cairn \d+\.\d+\.\d+.*format.*\d", done.stdout), done


def test_one_line_when_ready_and_it_is(started):
    assert str(started.port) in started.ready_line
    assert client(started).request("PUT", "/bucket").status == 200
    assert client(started).request("PUT", "/bucket/k", body=b"x").status == 200
    assert started.stdout_lines == [started.ready_line]


def test_health_and_metrics(started):
    assert started.admin("/-/health/live")[0] == 200
    assert started.admin("/-/health/ready")[0] == 200
    client(started).request("PUT", "/bucket")
    status, text = started.admin("/-/metrics")
    assert status == 200 and re.search(r"^\w+(\{.*\})? [0-9.e+]+$", text, re.M), text[:500]
    assert started.admin("/-/nothing")[0] == 404


def test_a_second_process_is_refused_in_a_sentence(started, directory):
    other = cairn_server.Server(directory, log=directory + ".second.log")
    other.spawn()
    assert other.process.wait(30) != 0
    assert "in use" in other.log_tail() or "lock" in other.log_tail(), other.log_tail()
    other.kill()
    # The first does not mind.
    assert client(started).request("PUT", "/bucket").status == 200


def test_a_random_root_key_printed_once_and_kept_private(directory):
    first = cairn_server.Server(directory, root_keys=False)
    for name in ("CAIRN_ROOT_ACCESS_KEY", "CAIRN_ROOT_SECRET_KEY"):
        first.environment.pop(name, None)
    first.start()
    try:
        path = directory + "/root-key"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        kept = open(path, encoding="utf-8").read()
        said = "\n".join(first.stdout_lines) + first.log_tail(200)
        words = [w for w in re.split(r"[\s\"'=:,]+", kept) if len(w) >= 16]
        assert len(words) >= 2 and all(w in said for w in words), "the key was not told at the first start"
        access, secret = words[0], words[1]
        assert client(first, signed_http.Credentials(access, secret)).request("PUT", "/bucket").status == 200
        assert client(first).request("PUT", "/other").status == 403
        assert first.stop() == 0
        os.remove(first.log_path)
        first.start()
        said = "\n".join(first.stdout_lines) + first.log_tail(200)
        assert secret not in said, "the secret was told again"
        assert client(first, signed_http.Credentials(access, secret)).request("HEAD", "/bucket").status == 200
    finally:
        first.kill()


def test_the_root_key_is_told_by_the_start_that_makes_it(directory):
    """A first start that cannot listen has made the key all the same."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = cairn_server.Server(directory, root_keys=False, port=taken.getsockname()[1])
        for name in ("CAIRN_ROOT_ACCESS_KEY", "CAIRN_ROOT_SECRET_KEY"):
            first.environment.pop(name, None)
        first.spawn()
        assert first.process.wait(30) != 0
    said = first.log_tail(200)
    assert "listening on" in said, said
    kept = open(directory + "/root-key", encoding="utf-8").read()
    words = [w for w in re.split(r"[\s\"'=:,]+", kept) if len(w) >= 16]
    assert len(words) >= 2 and all(w in said for w in words), said
    first.kill()


def test_sigterm_drains(started):
    """A request under way is finished; what was answered is there after the next start."""
    c = client(started)
    assert c.request("PUT", "/bucket").status == 200
    path = "/bucket/slow"
    signed = signed_http.sign(KEYS, "PUT", path, f"127.0.0.1:{started.port}", (), {"content-length": 400_000})
    with signed_http.Raw(started.port) as bare:
        bare.send(signed_http.head_bytes("PUT", path, signed.headers) + b"x" * 200_000)
        stopped = []
        stopper = threading.Thread(target=lambda: stopped.append(started.stop()))
        time.sleep(0.2)  # lets the head arrive first; the assertions below hold either way
        stopper.start()
        time.sleep(0.3)
        bare.send(b"x" * 200_000)
        answer = bare.answer()
    stopper.join()
    assert stopped == [0], started.log_tail()
    assert answer is not None and answer.status == 200
    started.start()
    assert client(started).request("GET", path).body == b"x" * 400_000


def test_check_finds_a_flipped_bit(started):
    c = client(started)
    assert c.request("PUT", "/bucket").status == 200
    for n in range(20):
        assert c.request("PUT", f"/bucket/{n}", body=bytes([n]) * (1 + n * 50_000)).status == 200
    c.close()
    assert started.stop() == 0
    code, output = cairn_server.check(started.directory)
    assert code == 0, output
    needle = bytes([19]) * 4096
    flipped = 0
    for directory, _, names in os.walk(started.directory):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "r+b") as f:
                at = f.read().find(needle)
                if at >= 0:
                    f.seek(at + 100)
                    f.write(bytes([19 ^ 4]))
                    flipped += 1
    assert flipped > 0, "the bytes are nowhere to be found"
    code, output = cairn_server.check(started.directory)
    assert code != 0 and output.strip(), "the flipped bit was not found"
    # And nobody is given it: I5.
    started.start()
    answer = None
    try:
        answer = client(started).request("GET", "/bucket/19")
    except (OSError, http.client.HTTPException):
        pass  # cut off: right, too
    assert answer is None or answer.status >= 500
    assert client(started).request("GET", "/bucket/18").body == bytes([18]) * (1 + 18 * 50_000)


def test_unknown_configuration_is_refused(directory):
    config = os.path.dirname(directory) + "/bad.toml"
    with open(config, "w", encoding="utf-8") as f:
        f.write("regoin = 'us-east-1'\n")
    bad = cairn_server.Server(directory, ["--config", config])
    bad.spawn()
    assert bad.process.wait(30) != 0
    assert "regoin" in bad.log_tail()
    bad.kill()


def test_tls(directory):
    place = os.path.dirname(directory)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", place + "/key.pem", "-out", place + "/cert.pem"],
        check=True, capture_output=True, timeout=60,
    )
    running = cairn_server.Server(directory, ["--tls-cert", place + "/cert.pem", "--tls-key", place + "/key.pem"])
    running.start()
    try:
        s3 = boto3.client(
            "s3", endpoint_url=f"https://localhost:{running.port}", aws_access_key_id=cairn_server.ACCESS_KEY,
            aws_secret_access_key=cairn_server.SECRET_KEY, region_name="us-east-1", verify=place + "/cert.pem",
            config=botocore.config.Config(s3={"addressing_style": "path"}),
        )
        s3.create_bucket(Bucket="bucket")
        data = os.urandom(9_000_000)
        s3.put_object(Bucket="bucket", Key="k", Body=data)
        assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == data
        upload = s3.create_multipart_upload(Bucket="bucket", Key="m")["UploadId"]
        part = s3.upload_part(Bucket="bucket", Key="m", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
        done = s3.complete_multipart_upload(
            Bucket="bucket", Key="m", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]}
        )
        assert done["Location"].startswith("https://localhost:"), done["Location"]
        with pytest.raises(ssl.SSLError):
            bare = signed_http.Raw(running.port)
            ssl.create_default_context().wrap_socket(bare.socket, server_hostname="localhost")
    finally:
        running.kill()
