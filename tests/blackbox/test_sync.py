"""aws-cli and rclone sync a real tree up and down; each also brings down what the other sent up."""

import os
import shutil
import subprocess

import pytest

import cairn_server
import real_tree

SECONDS = 1200


@pytest.fixture(scope="module")
def tree():
    root = cairn_server.test_dir("tree")
    count, size = real_tree.make(root + "/up")
    assert count >= real_tree.FILES_MIN and size >= real_tree.BYTES_MIN
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def expected(tree):
    found = real_tree.digest(tree + "/up")
    assert len(found) >= real_tree.FILES_MIN
    return found


@pytest.fixture(scope="module")
def buckets(s3):
    names = {client: f"sync-{client}-{os.getpid()}" for client in ("aws", "rclone")}
    for name in names.values():
        s3.create_bucket(Bucket=name)
    return names


def run(server, *command):
    environment = dict(
        os.environ,
        AWS_ACCESS_KEY_ID=cairn_server.ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=cairn_server.SECRET_KEY,
        AWS_DEFAULT_REGION="us-east-1",
        AWS_MAX_ATTEMPTS="1",
        LC_ALL="C.UTF-8",
        RCLONE_CONFIG=os.devnull,
        RCLONE_CONFIG_CAIRN_TYPE="s3",
        RCLONE_CONFIG_CAIRN_PROVIDER="Other",
        RCLONE_CONFIG_CAIRN_ENDPOINT=server.endpoint,
        RCLONE_CONFIG_CAIRN_REGION="us-east-1",
        RCLONE_CONFIG_CAIRN_ACCESS_KEY_ID=cairn_server.ACCESS_KEY,
        RCLONE_CONFIG_CAIRN_SECRET_ACCESS_KEY=cairn_server.SECRET_KEY,
    )
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


def aws(server, *arguments):
    return run(server, "aws", "--endpoint-url", server.endpoint, "s3", *arguments)


def rclone(server, *arguments):
    return run(
        server, "rclone", "--retries", "1", "--low-level-retries", "1", "--transfers", "16", "--checkers", "16",
        "--s3-upload-cutoff", "16M", *arguments,
    )


def same(tree, name, expected):
    found = real_tree.digest(f"{tree}/{name}")
    differences = real_tree.differences(expected, found)
    assert not differences, "\n".join(differences)
    shutil.rmtree(f"{tree}/{name}")


def test_aws_up(server, tree, buckets):
    aws(server, "sync", "--only-show-errors", tree + "/up", f"s3://{buckets['aws']}/tree")
    again = aws(server, "sync", tree + "/up", f"s3://{buckets['aws']}/tree")
    assert again.strip() == "", f"a second sync found work to do: {again[:1000]}"


def test_rclone_up(server, tree, buckets):
    rclone(server, "sync", tree + "/up", f"cairn:{buckets['rclone']}/tree")
    again = rclone(server, "sync", "--dry-run", tree + "/up", f"cairn:{buckets['rclone']}/tree")
    assert "Skipped" not in again, f"a second sync found work to do: {again[:1000]}"


def test_aws_down_what_rclone_sent(server, tree, buckets, expected):
    aws(server, "sync", "--only-show-errors", f"s3://{buckets['rclone']}/tree", tree + "/aws-down")
    same(tree, "aws-down", expected)


def test_rclone_down_what_aws_sent(server, tree, buckets, expected):
    rclone(server, "sync", f"cairn:{buckets['aws']}/tree", tree + "/rclone-down")
    same(tree, "rclone-down", expected)


def test_listing_counts_every_file(s3, buckets, expected):
    for bucket in buckets.values():
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="tree/")
        keys = [o["Key"] for page in pages for o in page.get("Contents", [])]
        assert keys == sorted(keys, key=lambda k: k.encode())
        assert {k.removeprefix("tree/") for k in keys} == set(expected)


def test_rclone_deletes_what_is_gone_here(server, tree, buckets, s3):
    os.makedirs(tree + "/few/sub")
    for name in ("one", "sub/two"):
        with open(f"{tree}/few/{name}", "w", encoding="utf-8") as f:
            f.write(name)
    rclone(server, "sync", tree + "/few", f"cairn:{buckets['rclone']}/tree/odd")
    left = s3.list_objects_v2(Bucket=buckets["rclone"], Prefix="tree/odd/")
    assert [o["Key"] for o in left["Contents"]] == ["tree/odd/one", "tree/odd/sub/two"]


def test_aws_removes_a_tree(server, buckets, s3):
    aws(server, "rm", "--recursive", "--only-show-errors", f"s3://{buckets['aws']}/tree/odd")
    assert s3.list_objects_v2(Bucket=buckets["aws"], Prefix="tree/odd/")["KeyCount"] == 0
    assert s3.list_objects_v2(Bucket=buckets["aws"], Prefix="tree/large/")["KeyCount"] == 3
