"""The operator's socket, and the commands that use it: of a running server, of a stopped directory, of one that was killed."""

import os
import re
import shutil
import socket
import stat
import subprocess
import time

import pytest

import cairn_server
import signed_http

KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)


def cairn(*arguments, code=0):
    """What a command of the program said; it ends with `code`."""
    done = subprocess.run([cairn_server.binary(), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, (arguments, done)
    return done.stdout + done.stderr


@pytest.fixture
def directory():
    path = cairn_server.test_dir("operator")
    yield path + "/data"
    shutil.rmtree(path)


@pytest.fixture
def started(directory):
    running = cairn_server.Server(directory)
    running.start()
    yield running
    running.kill()


def held(directory):
    said = cairn("reclaim", "status", directory)
    return re.search(r"held since \S+ by operator: (.*)", said).group(1) if "not held" not in said else None


def test_a_hold_survives_whatever_becomes_of_the_server(started, directory):
    assert held(directory) is None
    assert "held since" in cairn("reclaim", "hold", directory, "--reason", "the auditors are here")
    started.kill()
    # The name of its socket is there and nobody listens: the directory itself is asked.
    assert stat.S_ISSOCK(os.lstat(directory + "/admin.sock").st_mode)
    assert held(directory) == "the auditors are here"
    started.start()
    assert held(directory) == "the auditors are here"
    assert started.admin("/-/metrics")[0] == 200
    assert started.stop() == 0
    assert not os.path.exists(directory + "/admin.sock")
    assert "not held" in cairn("reclaim", "release", directory)
    started.start()
    assert held(directory) is None


def test_only_the_owner_may_connect(started, directory):
    assert stat.S_IMODE(os.stat(directory + "/admin.sock").st_mode) == 0o600


def test_a_path_longer_than_an_address(directory):
    long = directory + "/" + "d" * 100 + "/" + "e" * 100
    running = cairn_server.Server(long, log=directory + ".log")
    running.start()
    try:
        cairn("reclaim", "hold", long)
        assert held(long) == "an operator held it"
    finally:
        running.kill()


def test_a_second_server_leaves_the_socket_alone(started, directory):
    other = cairn_server.Server(directory, log=directory + ".second.log")
    other.spawn()
    assert other.process.wait(30) != 0
    other.kill()
    assert held(directory) is None
    assert started.is_running()


def test_what_is_no_store_is_refused_and_not_made_one(directory):
    os.makedirs(directory)
    assert "not a store" in cairn("reclaim", "status", directory, code=1)
    assert os.listdir(directory) == []


def test_a_reason_has_bounds(started, directory):
    assert "a reason of" in cairn("reclaim", "hold", directory, "--reason", " ", code=1)
    assert "a reason of" in cairn("reclaim", "hold", directory, "--reason", "x" * 2000, code=1)
    assert held(directory) is None


def test_clients_that_stay_silent_are_let_go(started, directory):
    """All places taken by silent clients: the next is served once they are cut off."""
    silent = []
    for begun in (b"", b"GET /recl", b"POST /reclaim/hold HTTP/1.1\r\ncontent-length: 9\r\n\r\n{") * 6:
        s = socket.socket(socket.AF_UNIX)
        # Through a descriptor: the directory's path may be longer than an address.
        fd = os.open(directory, os.O_PATH)
        s.connect(f"/proc/self/fd/{fd}/admin.sock")
        os.close(fd)
        s.sendall(begun)
        silent.append(s)
    assert held(directory) is None
    for s in silent:
        s.close()
    assert signed_http.Client(started.port, KEYS).request("PUT", "/bucket").status == 200
