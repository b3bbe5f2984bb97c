"""The clients of the matrix, each behind the same verbs. Nothing here knows what is asserted.

Every client gets an environment of its own with nothing of whoever runs this, one try a request, and the witness as its endpoint.
"""

import json
import os
import subprocess

import boto3
import botocore.config
import botocore.exceptions
from boto3.s3.transfer import TransferConfig
from concurrent.futures import ThreadPoolExecutor

import cairn_server
import real_tree

MIB = 1 << 20
SECONDS = 300
AT_ONCE = 8


class Refused(Exception):
    """The client ended with an error; the text is what it said."""


def run(command, environment, input=None):
    done = subprocess.run(
        command, env=environment, input=input, stdin=None if input is not None else subprocess.DEVNULL, capture_output=True, timeout=SECONDS
    )
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    if done.returncode != 0:
        raise Refused(f"{command}: {done.returncode}\n{out[-1500:]}\n{err[-3000:]}")
    return out, err


class CommandLine:
    """What the programs have in common. `home` is a directory of its own."""

    program = None

    def __init__(self, witness, home):
        self.endpoint = witness.endpoint
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "LC_ALL": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": cairn_server.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": cairn_server.SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_CA_BUNDLE": witness.certificate,
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.configure(witness)

    def configure(self, witness):
        pass

    def call(self, *arguments, input=None):
        return run([self.program, *self.always(), *arguments], self.environment, input)[0]

    def always(self):
        return []

    def help(self):
        return self.call("--help")


class Aws(CommandLine):
    program = "aws"

    def configure(self, witness):
        self.environment["AWS_ENDPOINT_URL"] = witness.endpoint
        self.environment["AWS_CONFIG_FILE"] = self.home + "/aws.conf"
        with open(self.environment["AWS_CONFIG_FILE"], "w", encoding="utf-8") as f:
            f.write("[default]\ns3 =\n  multipart_threshold = 6MB\n  multipart_chunksize = 5MB\n  max_concurrent_requests = 4\n")

    def api(self, operation, bucket, **options):
        """`aws s3api`; answers its JSON."""
        arguments = ["s3api", operation, "--bucket", bucket]
        for name, value in options.items():
            arguments += ["--" + name.replace("_", "-"), value]
        return json.loads(self.call(*arguments) or "{}")

    def put(self, path, bucket, key):
        self.call("s3", "cp", "--only-show-errors", path, f"s3://{bucket}/{key}")

    def get(self, bucket, key, path):
        self.call("s3", "cp", "--only-show-errors", f"s3://{bucket}/{key}", path)

    put_parts, get_ranges = put, get

    def sync_up(self, directory, bucket):
        return self.call("s3", "sync", "--no-progress", directory, f"s3://{bucket}/tree")

    def sync_down(self, bucket, directory):
        return self.call("s3", "sync", "--no-progress", f"s3://{bucket}/tree", directory)

    def keys(self, bucket):
        return [o["Key"] for o in self.api("list-objects-v2", bucket)["Contents"]]

    def delete_all(self, bucket):
        keys = self.keys(bucket)
        for begin in range(0, len(keys), 1000):
            objects = [{"Key": k} for k in keys[begin : begin + 1000]]
            file = self.home + "/delete.json"
            with open(file, "w", encoding="utf-8") as f:
                json.dump({"Objects": objects}, f)
            answer = self.api("delete-objects", bucket, delete="file://" + file)
            assert "Errors" not in answer and len(answer["Deleted"]) == len(objects), answer

    def presign(self, bucket, key):
        return self.call("s3", "presign", "--expires-in", "300", f"s3://{bucket}/{key}").strip()

    def keep_versions(self, bucket):
        self.api("put-bucket-versioning", bucket, versioning_configuration="Status=Enabled")

    def version_ids(self, bucket, key):
        """Newest first."""
        return [v["VersionId"] for v in self.api("list-object-versions", bucket, prefix=key)["Versions"]]

    def get_version(self, bucket, key, version, path):
        run(
            ["aws", "s3api", "get-object", "--bucket", bucket, "--key", key, "--version-id", version, path], self.environment
        )

    def delete(self, bucket, key):
        self.call("s3", "rm", f"s3://{bucket}/{key}")

    def delete_version(self, bucket, key, version):
        self.api("delete-object", bucket, key=key, version_id=version)

    def put_new(self, path, bucket, key):
        self.api("put-object", bucket, key=key, body=path, if_none_match="*")


class Boto:
    """A library, not a program: boto3 as it comes."""

    def __init__(self, witness, home):
        self.transfer = TransferConfig(multipart_threshold=6 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
        self.s3 = boto3.client(
            "s3",
            endpoint_url=witness.endpoint,
            aws_access_key_id=cairn_server.ACCESS_KEY,
            aws_secret_access_key=cairn_server.SECRET_KEY,
            region_name="us-east-1",
            verify=witness.certificate,
            config=botocore.config.Config(retries={"max_attempts": 1}, max_pool_connections=AT_ONCE * 4),
        )

    def put(self, path, bucket, key):
        with open(path, "rb") as f:
            self.s3.put_object(Bucket=bucket, Key=key, Body=f)

    def get(self, bucket, key, path):
        with open(path, "wb") as f:
            f.write(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def put_parts(self, path, bucket, key):
        self.s3.upload_file(path, bucket, key, Config=self.transfer)

    def get_ranges(self, bucket, key, path):
        self.s3.download_file(bucket, key, path, Config=self.transfer)

    def each(self, work, items):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(work, items))

    def sync_up(self, directory, bucket):
        self.each(lambda p: self.put_parts(f"{directory}/{p}", bucket, "tree/" + p), real_tree.files_below(directory))

    def sync_down(self, bucket, directory):
        def fetch(key):
            path = f"{directory}/{key.removeprefix('tree/')}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self.get_ranges(bucket, key, path)

        self.each(fetch, self.keys(bucket))

    def keys(self, bucket):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [o["Key"] for page in pages for o in page.get("Contents", [])]

    def delete_all(self, bucket):
        keys = self.keys(bucket)
        for begin in range(0, len(keys), 1000):
            answer = self.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in keys[begin : begin + 1000]]})
            assert "Errors" not in answer, answer

    def presign(self, bucket, key):
        return self.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=300)

    def keep_versions(self, bucket):
        self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def version_ids(self, bucket, key):
        return [v["VersionId"] for v in self.s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]]

    def get_version(self, bucket, key, version, path):
        with open(path, "wb") as f:
            f.write(self.s3.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read())

    def delete(self, bucket, key):
        self.s3.delete_object(Bucket=bucket, Key=key)

    def delete_version(self, bucket, key, version):
        self.s3.delete_object(Bucket=bucket, Key=key, VersionId=version)

    def put_new(self, path, bucket, key):
        try:
            with open(path, "rb") as f:
                self.s3.put_object(Bucket=bucket, Key=key, Body=f, IfNoneMatch="*")
        except botocore.exceptions.ClientError as e:
            raise Refused(str(e)) from e


class Rclone(CommandLine):
    program = "rclone"

    def configure(self, witness):
        for name, value in {
            "TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": witness.endpoint, "REGION": "us-east-1", "CHUNK_SIZE": "5M", "UPLOAD_CUTOFF": "6M",
            "ACCESS_KEY_ID": cairn_server.ACCESS_KEY, "SECRET_ACCESS_KEY": cairn_server.SECRET_KEY,
        }.items():
            self.environment["RCLONE_CONFIG_CAIRN_" + name] = value
        self.environment["RCLONE_CONFIG"] = os.devnull
        self.environment["RCLONE_CA_CERT"] = witness.certificate

    def always(self):
        return ["--retries", "1", "--low-level-retries", "1", "--multi-thread-cutoff", "6M", "--multi-thread-chunk-size", "5M"]

    def put(self, path, bucket, key, *more):
        self.call("copyto", *more, path, f"cairn:{bucket}/{key}")

    def get(self, bucket, key, path):
        self.call("copyto", f"cairn:{bucket}/{key}", path)

    put_parts, get_ranges = put, get

    def sync_up(self, directory, bucket):
        self.call("sync", directory, f"cairn:{bucket}/tree")
        return self.compare(directory, bucket)

    def sync_down(self, bucket, directory):
        self.call("sync", f"cairn:{bucket}/tree", directory)
        return self.compare(directory, bucket)

    def compare(self, directory, bucket):
        """Reads all of both; answers nothing, or ends with an error that says what differs."""
        run(["rclone", *self.always(), "check", "--download", directory, f"cairn:{bucket}/tree"], self.environment)
        return ""

    def keys(self, bucket):
        return self.call("lsf", "-R", "--files-only", f"cairn:{bucket}").splitlines()

    def delete_all(self, bucket):
        self.call("delete", f"cairn:{bucket}")

    def presign(self, bucket, key):
        return self.call("link", "--expire", "5m", f"cairn:{bucket}/{key}").strip()

    def keep_versions(self, bucket):
        said = self.call("backend", "versioning", f"cairn:{bucket}", "Enabled")
        assert "Enabled" in said, said

    def version_ids(self, bucket, key):
        """Rclone shows old versions as names with their time: `name-v2006-01-02-150405-000.ext`."""
        names = self.call("lsf", "--s3-versions", f"cairn:{bucket}").splitlines()
        stem, extension = os.path.splitext(key)
        old = sorted((n for n in names if n.startswith(stem + "-v") and n.endswith(extension)), reverse=True)
        return [n for n in names if n == key] + old

    def get_version(self, bucket, key, version, path):
        self.call("copyto", "--s3-versions", f"cairn:{bucket}/{version}", path)

    def delete(self, bucket, key):
        self.call("deletefile", f"cairn:{bucket}/{key}")

    def put_new(self, path, bucket, key):
        # Without --ignore-times it would not even try: the same bytes are there.
        self.put(path, bucket, key, "--ignore-times", "--header-upload", "If-None-Match: *")


class S5cmd(CommandLine):
    program = "s5cmd"

    def always(self):
        return ["--endpoint-url", self.endpoint, "--retry-count", "0", "--numworkers", "16"]

    def put(self, path, bucket, key, *more):
        self.call("cp", *more, path, f"s3://{bucket}/{key}")

    def get(self, bucket, key, path, *more):
        self.call("cp", "--raw", *more, f"s3://{bucket}/{key}", path)

    def put_parts(self, path, bucket, key):
        self.put(path, bucket, key, "--part-size", "5", "--concurrency", "4")

    def get_ranges(self, bucket, key, path):
        self.get(bucket, key, path, "--part-size", "5", "--concurrency", "4")

    def sync_up(self, directory, bucket):
        return self.call("sync", directory + "/", f"s3://{bucket}/tree/")

    def sync_down(self, bucket, directory):
        return self.call("sync", f"s3://{bucket}/tree/*", directory + "/")

    def keys(self, bucket):
        lines = self.call("--json", "ls", "--show-fullpath", f"s3://{bucket}/*").splitlines()
        return [json.loads(line)["key"].removeprefix(f"s3://{bucket}/") for line in lines]

    def delete_all(self, bucket):
        self.call("rm", f"s3://{bucket}/*")

    def presign(self, bucket, key):
        return self.call("presign", "--expire", "5m", f"s3://{bucket}/{key}").strip()

    def keep_versions(self, bucket):
        self.call("bucket-version", "--set", "Enabled", f"s3://{bucket}")

    def version_ids(self, bucket, key):
        # Its JSON leaves the id out; its lines end in it.
        lines = self.call("ls", "--all-versions", f"s3://{bucket}/{key}").splitlines()
        return [line.split()[-1] for line in lines]

    def get_version(self, bucket, key, version, path):
        self.get(bucket, key, path, "--version-id", version)

    def delete(self, bucket, key):
        self.call("rm", f"s3://{bucket}/{key}")

    def delete_version(self, bucket, key, version):
        self.call("rm", "--version-id", version, f"s3://{bucket}/{key}")

    def put_if_absent_here(self, path, bucket, key):
        """What it has in place of a conditional put: it looks first."""
        self.put(path, bucket, key, "--no-clobber")


class S3cmd(CommandLine):
    program = "s3cmd"

    def configure(self, witness):
        self.config = self.home + "/s3cfg"
        host = witness.endpoint.removeprefix("https://")
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(
                f"[default]\naccess_key = {cairn_server.ACCESS_KEY}\nsecret_key = {cairn_server.SECRET_KEY}\nhost_base = {host}\n"
                f"host_bucket = {host}\nuse_https = True\nca_certs_file = {witness.certificate}\nmultipart_chunk_size_mb = 5\n"
                "max_retries = 1\n"
            )

    def always(self):
        return ["--config", self.config, "--no-progress"]

    def put(self, path, bucket, key, *more):
        self.call("put", *more, path, f"s3://{bucket}/{key}")

    def get(self, bucket, key, path, *more):
        self.call("get", *more, f"s3://{bucket}/{key}", path)

    put_parts = put

    def get_rest(self, bucket, key, path):
        """The end of what is there in part."""
        self.get(bucket, key, path, "--continue")

    def sync_up(self, directory, bucket):
        return self.call("sync", "--no-preserve", directory + "/", f"s3://{bucket}/tree/")

    def sync_down(self, bucket, directory):
        return self.call("sync", "--no-preserve", f"s3://{bucket}/tree/", directory + "/")

    def keys(self, bucket):
        lines = self.call("ls", "--recursive", f"s3://{bucket}").splitlines()
        return [line.split(f"s3://{bucket}/", 1)[1] for line in lines]

    def delete_all(self, bucket):
        self.call("del", "--recursive", "--force", f"s3://{bucket}")

    def presign(self, bucket, key):
        return self.call("signurl", f"s3://{bucket}/{key}", "+300").strip()

    def keep_versions(self, bucket):
        self.call("setversioning", f"s3://{bucket}", "enable")

    def delete(self, bucket, key):
        self.call("del", f"s3://{bucket}/{key}")

    def put_new(self, path, bucket, key):
        self.put(path, bucket, key, "--add-header", "If-None-Match:*")


ALL = {"aws-cli": Aws, "boto3": Boto, "rclone": Rclone, "s5cmd": S5cmd, "s3cmd": S3cmd}
