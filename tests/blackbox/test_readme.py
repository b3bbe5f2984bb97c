"""The tour in README.md, pasted line by line: the code blocks are taken from the page, only the address and the way to the binary are put in."""

import os
import re
import shutil
import subprocess

import cairn_server

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUN = "cargo run --release -- "
REFUSED = "aws s3api put-object --bucket stones --key lock --body stone.txt --if-none-match '*'"


def blocks():
    with open(ROOT + "/README.md", encoding="utf-8") as f:
        return re.findall(r"```sh\n(.*?)```", f.read(), re.S)


def test_the_tour():
    start, *tour, check = blocks()
    assert len(tour) >= 4
    keys = dict(re.findall(r"(CAIRN_\w+)=(\S+)", start))
    assert set(keys) == {"CAIRN_ROOT_ACCESS_KEY", "CAIRN_ROOT_SECRET_KEY"} and f"{RUN}server ./data\n" in start
    assert check == f"{RUN}check ./data\n"
    place = cairn_server.test_dir("tour")
    shutil.copytree(ROOT + "/docs", place + "/docs")
    server = cairn_server.Server(place + "/data", environment=keys, root_keys=False)
    server.start()
    try:
        said = []
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "CAIRN_"))}
        seen = 0
        # One shell for the whole tour, told after each line how it went.
        script = ["set -u"]
        for line in "".join(tour).replace("127.0.0.1:9000", f"127.0.0.1:{server.port}").splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            seen += line == REFUSED
            script += [line, f"printf '\\nline {len(said)}: %d\\n' $?"]
            said.append(1 if line == REFUSED and seen == 2 else 0)
        done = subprocess.run(
            ["bash"], input="\n".join(script), cwd=place, env=environment, capture_output=True, text=True, timeout=300
        )
        codes = [int(c) for c in re.findall(r"^line \d+: (\d+)$", done.stdout, re.M)]
        assert [c != 0 for c in codes] == [c != 0 for c in said], f"{script}\n{done.stdout}\n{done.stderr}"
        assert seen == 2 and "PreconditionFailed" in done.stderr
        assert "one stone on another" in done.stdout and "docs/glossary.md" in done.stdout
        server.kill()
        server.start()
        again = subprocess.run(
            ["bash"], input="\n".join([*tour[0].replace("127.0.0.1:9000", f"127.0.0.1:{server.port}").splitlines()[:2], "aws s3 ls s3://stones/docs/"]),
            cwd=place, env=environment, capture_output=True, text=True, timeout=60,
        )
        assert "glossary.md" in again.stdout, again
        assert server.stop() == 0
        code, output = cairn_server.check(server.directory)
        assert code == 0, output
    finally:
        server.kill()
    shutil.rmtree(place)
