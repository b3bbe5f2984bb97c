"""The clients in Rust (clients/) against the real binary: `rust_clients.py PROGRAM`. Their table is what is printed; afterwards the directory must hold."""

import shutil
import subprocess
import sys

import cairn_server

SECONDS = 900


def main():
    directory = cairn_server.test_dir("rust-clients")
    server = cairn_server.Server(directory + "/data")
    server.start()
    try:
        done = subprocess.run(
            [sys.argv[1], server.endpoint, cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY], stdin=subprocess.DEVNULL, timeout=SECONDS
        )
        if not server.is_running() or server.stop() != 0:
            raise SystemExit(f"the server did not end as it should:\n{server.log_tail()}")
        code, output = cairn_server.check(directory + "/data")
        if code != 0:
            raise SystemExit(output)
    finally:
        server.kill()
    if done.returncode != 0:
        raise SystemExit(f"logs in {directory}")
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
