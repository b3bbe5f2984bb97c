"""One server for all client tests, and a fresh bucket for each.

`CAIRN_TEST_ENDPOINT` names another S3 server to run the tests against instead, to see that a test tests S3 and not Cairn.
It is for runs of pytest by hand: `cargo xtask` takes it away, so that a leftover of it lets nothing pass.
"""

import itertools
import os
import shutil
from urllib.parse import urlsplit

import boto3
import botocore.config
import pytest

import cairn_server
import signed_http

OTHER = os.environ.get("CAIRN_TEST_ENDPOINT")
SECOND_ACCESS_KEY, SECOND_SECRET_KEY = "second-key", "second/secret+with=signs"
STRANGER_ACCESS_KEY, STRANGER_SECRET_KEY = "stranger-key", "a stranger's secret"
DOMAIN = "s3.cairn.test"
CONFIG = f"""
domain = "{DOMAIN}"

[[access_keys]]
access_key = "{SECOND_ACCESS_KEY}"
secret_key = "{SECOND_SECRET_KEY}"
account = 1

[[access_keys]]
access_key = "{STRANGER_ACCESS_KEY}"
secret_key = "{STRANGER_SECRET_KEY}"
account = 2
"""

_serial = itertools.count(1)
CELLS = {}
"""Column → client → sentence: what test_matrix.py tells at the end of the run."""


class OtherServer:
    """Stands where the real server would."""

    def __init__(self, endpoint):
        self.endpoint = endpoint.rstrip("/")
        self.port = urlsplit(endpoint).port


@pytest.fixture(scope="session")
def server():
    if OTHER:
        yield OtherServer(OTHER)
        return
    directory = cairn_server.test_dir("clients")
    config = directory + "/cairn.toml"
    with open(config, "w", encoding="utf-8") as f:
        f.write(CONFIG)
    running = cairn_server.Server(directory + "/data", ["--config", config])
    running.start()
    try:
        yield running
        assert running.is_running(), f"the server died:\n{running.log_tail()}"
        assert running.stop() == 0, running.log_tail()
        code, output = cairn_server.check(running.directory)
        assert code == 0, output
    finally:
        running.kill()
    # Kept when anything above failed, to be looked at.
    shutil.rmtree(directory)


def make_client(server, access_key=cairn_server.ACCESS_KEY, secret_key=cairn_server.SECRET_KEY, region="us-east-1", **config):
    config.setdefault("retries", {"max_attempts": 1})
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        config=botocore.config.Config(**config),
    )


@pytest.fixture(scope="session")
def s3(server):
    """boto3 as it comes, but for the retries: an answer is an answer."""
    return make_client(server)


@pytest.fixture
def bucket(s3):
    """A bucket of the test's own."""
    name = f"t{os.getpid()}-{next(_serial)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def raw(server):
    """A signing client that can be made to say anything."""
    client = signed_http.Client(
        server.port, signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
    )
    yield client
    client.close()


@pytest.fixture(scope="session", autouse=True)
def nothing_from_outside():
    """No profile, proxy or key of whoever runs this."""
    for name in [n for n in os.environ if n.startswith(("AWS_", "RCLONE_")) or n.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def pytest_terminal_summary(terminalreporter):
    """The matrix: a table, and what each cell says."""
    if not CELLS:
        return
    terminalreporter.section("matrix")
    names = sorted({name for row in CELLS.values() for name in row})
    write = terminalreporter.write_line
    write(" " * 20 + "".join(f"{name:>9}" for name in names))
    for column, row in CELLS.items():
        write(f"{column:20}" + "".join(f"{row.get(name, 'FAILED').split(':')[0]:>9}" for name in names))
    for column, row in CELLS.items():
        write(column)
        for name, sentence in row.items():
            write(f"  {name:8} {sentence}")
