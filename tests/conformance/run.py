"""Runs the public conformance suite, from a checkout of it, against the real binary; writes docs/conformance.md.

`run.py SUITE PAGE [PYTEST ARGUMENTS]`. The server is its own, on a free port of 127.0.0.1, with an account for each of the suite's users; the
suite's configuration is its own sample with this server, its keys and what it says of its accounts filled in. With arguments
for pytest only some tests run, and no page is written. Exit code 0 means that at least SHARE_MIN of what is ours passes.
"""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import cairn_server
import page
import signed_http

# Data path: the other modules are about IAM, STS, SNS and S3 Select alone.
MODULES = ["test_s3.py", "test_headers.py"]
SHARE_MIN = 0.98
TEST_SECONDS = 120
ALL_SECONDS = 3 * 3600
PREFIX = "cairn-suite-"
USERS = ["s3 main", "s3 alt", "s3 tenant", "iam", "iam root", "iam alt root"]


def accounts(sample):
    """Cairn's configuration: the sample's keys, an account of its own for each."""
    lines = []
    for number, user in enumerate(USERS, start=11):
        keys = {name: sample.get(user, name) for name in ("access_key", "secret_key")}
        lines += ["[[access_keys]]", *(f"{name} = {json.dumps(key)}" for name, key in keys.items()), f"account = {number}"]
    return "\n".join(lines) + "\n"


def who(server, access_key, secret_key):
    """The id and name that the server gives a key's account."""
    client = signed_http.Client(server.port, signed_http.Credentials(access_key, secret_key))
    text = client.request("GET", "/").body.decode()
    client.close()
    return [re.search(f"<{tag}>(.*?)</{tag}>", text)[1] for tag in ("ID", "DisplayName")]


def fill(sample, server):
    """The suite's configuration for `server`."""
    sample.set("DEFAULT", "host", "127.0.0.1")
    sample.set("DEFAULT", "port", str(server.port))
    sample.set("DEFAULT", "is_secure", "False")
    sample.set("fixtures", "bucket prefix", PREFIX + "{random}-")
    for user in USERS:
        user_id, name = who(server, sample.get(user, "access_key"), sample.get(user, "secret_key"))
        sample.set(user, "user_id", user_id)
        sample.set(user, "display_name", name)


def commit_of(suite):
    """The suite's commit, and whether somebody changed something in it."""
    def git(*arguments):
        return subprocess.run(["git", "-C", suite, *arguments], capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + (", with local changes" if changed else "")


class Record:
    """What the recorder tells, as it comes."""

    def __init__(self):
        self.order, self.unused, self.results = [], [], {}

    def follow(self, lines):
        for line in lines:
            told = json.loads(line)
            self.order += told.get("order", [])
            self.unused += told.get("unused", [])
            if "test" in told:
                self.results[told["test"]] = told
                if told["result"] != "not ours":
                    print(f"{told['result']:4} {told['test']}  {told['reason']}", flush=True)

    def in_order(self):
        """Of every test chosen: one that was never told of has not passed."""
        return [
            self.results.get(name) or {"test": name, "result": "fail", "reason": "the run ended before it"}
            for name in self.order
        ]


def run_suite(suite, directory, config, arguments):
    """The record of one run."""
    here = os.path.dirname(os.path.abspath(__file__))
    environment = dict(os.environ, S3TEST_CONF=config, AWS_EC2_METADATA_DISABLED="true")
    chosen = [a for a in arguments if a.split("::")[0].endswith(".py")]
    others = [a for a in arguments if a not in chosen]
    command = [sys.executable, here + "/recorder.py", str(TEST_SECONDS), PREFIX]
    command += chosen or [f"s3tests/functional/{m}" for m in MODULES]
    with open(directory + "/pytest.log", "wb") as log:
        process = subprocess.Popen(
            command + others, cwd=suite, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
    record = Record()
    reader = threading.Thread(target=record.follow, args=(process.stdout,))
    reader.start()
    try:
        process.wait(ALL_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
        reader.join()
    return record


def main():
    suite, page_path, *arguments = sys.argv[1:]
    sample_path = suite + "/s3tests.conf.SAMPLE"
    sample = configparser.RawConfigParser()
    sample.read(sample_path)
    directory = cairn_server.test_dir("conformance")
    with open(directory + "/cairn.toml", "w", encoding="utf-8") as f:
        f.write(accounts(sample))
    server = cairn_server.Server(directory + "/data", ["--config", directory + "/cairn.toml"])
    server.start()
    try:
        fill(sample, server)
        config = directory + "/s3tests.conf"
        with open(config, "w", encoding="utf-8") as f:
            sample.write(f)
        record = run_suite(suite, directory, config, arguments)
        alive = server.is_running()
    finally:
        server.kill()
    if not alive:
        raise SystemExit(f"the server died:\n{server.log_tail()}")
    results = record.in_order()
    if not results:
        raise SystemExit(f"no test ran: {open(directory + '/pytest.log', encoding='utf-8').read()[-2000:]}")
    stale = [] if arguments else record.unused
    totals = page.Totals(results)
    if not arguments:
        with open(page_path, "w", encoding="utf-8") as f:
            f.write(page.text(results, totals, commit_of(suite)))
        for word in stale:
            print(f"not_ours.toml: {word} fits no test")
    print(f"{totals.sentence()}; logs in {directory}" if totals.failed else totals.sentence())
    if not totals.failed:
        shutil.rmtree(directory)
    if stale or totals.share() < SHARE_MIN:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
