"""A sector of the index that the disk does not give: what still serves, and every command of the way back goes on past it."""

import glob
import os
import shutil
import struct
import subprocess
import time

import pytest

import cairn_server
import signed_http

KEYS = signed_http.Credentials(cairn_server.ACCESS_KEY, cairn_server.SECRET_KEY)
NAMES = [f"a-name-that-takes-some-room-in-its-row/{n:04}" for n in range(300)]
SOURCE = os.path.join(os.path.dirname(__file__), os.pardir, "unreadable.c")
PAGE = 4096
# The kind of a page of redb that leads to others.
BRANCH = 2


def body(name):
    """Longer than what is kept in the index itself."""
    return name.encode() * 20


@pytest.fixture
def directory():
    path = cairn_server.test_dir("unreadable")
    yield path + "/data"
    shutil.rmtree(path)


@pytest.fixture
def shim(directory):
    library = os.path.dirname(directory) + "/unreadable.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def spoiled(shim, path, page):
    """The environment of a process whose disk does not give this page."""
    return {
        "LD_PRELOAD": shim,
        "UNREADABLE_INODE": str(os.stat(path).st_ino),
        "UNREADABLE_FROM": str(page * PAGE),
        "UNREADABLE_TO": str((page + 1) * PAGE),
    }


def cairn(environment, *arguments):
    done = subprocess.run(
        [cairn_server.binary(), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ, **environment),
    )
    return done.returncode, done.stdout + done.stderr


def served(directory, ask, environment=None):
    server = cairn_server.Server(directory, environment=environment).start()
    client = signed_http.Client(server.port, KEYS)
    try:
        return ask(client)
    finally:
        client.close()
        server.stop()


def fill(client):
    assert client.request("PUT", "/bucket").status == 200
    for name in NAMES:
        assert client.request("PUT", f"/bucket/{name}", body=body(name)).status == 200
    # Its first bytes are garbage now.
    assert client.request("PUT", f"/bucket/{NAMES[0]}", body=body(NAMES[0])).status == 200


def there(client):
    """What is answered for each name."""
    answers = {name: client.request("GET", f"/bucket/{name}") for name in NAMES}
    assert all(answer.body == body(name) for name, answer in answers.items() if answer.status == 200)
    return {name: answer.status for name, answer in answers.items()}


def test_a_sector_that_cannot_be_read_costs_what_stood_on_it(directory, shim):
    def begin(client):
        cairn_server.hold_reclaim(directory)
        fill(client)

    served(directory, begin)
    index = f"{directory}/index/0000000000000010.redb"
    with open(index, "rb") as f:
        pages = f.read()
    work = os.path.dirname(directory)
    for page in range(6, len(pages) // PAGE):
        if NAMES[150].encode() not in pages[page * PAGE : (page + 1) * PAGE]:
            continue
        disk = spoiled(shim, index, page)
        code, told = cairn(disk, "backup", directory, f"{work}/refused")
        # Without its own row, or the root of all, a partition is not served.
        if code != 0 and "cannot be taken" not in told and "cannot be opened" not in told:
            break
    else:
        pytest.fail("no page had one of the names")
    place = f"the page at byte {page * PAGE} cannot be read"
    assert place in told, told

    def around(client):
        statuses = there(client)
        # Written around it, and written behind when the server ends.
        assert client.request("PUT", "/bucket/zzz-last", body=b"new").status == 200
        return statuses

    statuses = served(directory, around, disk)
    bad = {name for name, status in statuses.items() if status == 500}
    assert 0 < len(bad) < len(NAMES) and set(statuses.values()) == {200, 500}, statuses
    code, told = cairn(disk, "check", directory)
    assert code == 1 and place in told and ", 1 blobs of garbage, " in told, told
    code, told = cairn(disk, "check", "--rebuild-index", directory)
    assert code != 0 and place in told and "--even-if-it-serves" in told, told
    copies = f"{work}/copies"
    code, told = cairn(disk, "backup", "--past-damage", directory, copies)
    assert code == 1 and "LOST" in told and place in told, told
    (snapshot,) = glob.glob(copies + "/snapshots/*.snapshot")
    # The index that goes still has its sector.
    code, told = cairn(disk, "restore", "--index", snapshot, directory)
    assert code == 1 and "DAMAGE" in told and "lacks rows: in 1 places" in told, told
    statuses = served(directory, there)
    assert {name for name, status in statuses.items() if status == 404} == bad
    assert set(statuses.values()) == {200, 404}
    code, told = cairn({}, "check", directory)
    # Until an operator has looked: what is missing looks as if nobody needed it.
    assert code == 1 and "rows are missing in 1 places" in told and "do not release" in told, told
    # What was booked may be named, too, where rows are missing: it is looked for anew.
    assert ", 0 blobs of garbage, " in told, told


def test_one_head_that_cannot_be_read_is_told_and_costs_nothing(directory, shim):
    served(directory, fill)
    index = f"{directory}/index/0000000000000010.redb"
    for page in (0, 2):
        disk = spoiled(shim, index, page)
        assert set(served(directory, there, disk).values()) == {200}
        code, told = cairn(disk, "check", directory)
        assert code == 1 and f"the head at byte {page * PAGE}" in told, told
    code, told = cairn({}, "check", directory)
    assert code == 0, told


PARTITIONS = {"directory": 1, "control": 2, "objects": 10}
FEW = NAMES[:60]
LARGE = FEW[::2]


def few_body(name):
    """Every other one is kept in the index itself."""
    return body(name) if name in LARGE else name.encode()


def fill_few(client):
    assert client.request("PUT", "/bucket").status == 200
    for name in FEW:
        assert client.request("PUT", f"/bucket/{name}", body=few_body(name)).status == 200


def missing(client):
    """Names that are not there, or whose bytes the index had and lost; all others answer with their bytes."""
    answers = {name: client.request("GET", f"/bucket/{name}") for name in FEW}
    for name, answer in answers.items():
        assert answer.status in ({200, 404} if name in LARGE else {200, 404, 500}), (name, answer.status)
        assert answer.status != 200 or answer.body == few_body(name)
    return {name for name, answer in answers.items() if answer.status != 200}


def copied(directory, to):
    shutil.rmtree(to, ignore_errors=True)
    subprocess.run(["cp", "-a", "--sparse=always", directory, to], check=True)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_whichever_page_is_lost_each_way_back_says_what_it_keeps(directory, shim, partition):
    """No page is stepped around: check names each, a backup past it has every other row, and what a rebuilding would give up is not given up unsaid."""
    served(directory, fill_few)
    # In its second life nothing of what the first wrote is in the log any more.
    served(directory, lambda client: None)
    index = f"index/{PARTITIONS[partition]:016}.redb"
    trial, copies = os.path.dirname(directory) + "/trial", os.path.dirname(directory) + "/copies"
    with open(f"{directory}/{index}", "rb") as f:
        pages = f.read()
    met = []
    for number in range(len(pages) // PAGE):
        page = pages[number * PAGE : (number + 1) * PAGE]
        if not any(page):
            continue
        on_it = {name for name in FEW if name.encode() in page}
        copied(directory, trial)
        disk = spoiled(shim, f"{trial}/{index}", number)
        code, told = cairn(disk, "check", trial)
        if code == 0:
            # A page of before, that nothing leads to.
            continue
        # A head is two pages.
        place = f"at byte {(number // 2 * 2 if number < 4 else number) * PAGE} "
        assert code == 1 and "DAMAGE" in told and place in told, (number, told)
        assert " 30 needles" in told, (number, told)
        shutil.rmtree(copies, ignore_errors=True)
        code, told = cairn(disk, "backup", "--past-damage", trial, copies)
        assert code in (0, 1) and (code == 0 or place in told), (number, told)
        lacks = "LOST" in told
        all_of_it = "nothing of" in told or page[0] == BRANCH
        (snapshot,) = glob.glob(copies + "/snapshots/*.snapshot")
        code, told = cairn(disk, "restore", "--index", snapshot, trial)
        assert code == lacks and ("lacks rows" in told) == lacks, (number, told)
        lost = served(trial, missing)
        code, told = cairn({}, "check", trial)
        if lost == set(FEW):
            # That nothing is named contradicts no needle: a release would let them all go.
            without = {"objects": "the index names nothing of 30 needles", "directory": "the directory does not know it"}
            assert code == 1 and without[partition] in told and "do not release" in told, (number, told)
        else:
            # Also where most of it is named: what is not goes with a release.
            assert ("do not release" in told) == lacks and ("rows are missing in" in told) == lacks, (number, told)
        if partition == "control":
            assert not lost, (number, lost)
        elif partition == "directory":
            assert lost in (set(), set(FEW)), (number, lost)
        else:
            assert lost <= on_it or all_of_it, (number, lost)
        copied(directory, trial)
        disk = spoiled(shim, f"{trial}/{index}", number)
        code, told = cairn(disk, "check", "--rebuild-index", trial)
        met.append((number, len(lost), code))
        if code != 0:
            assert "there is nothing to rebuild" in told and not lost or "--past-damage" in told, (number, told)
            assert "there is nothing to rebuild" in told or partition != "control", (number, told)
            continue
        # What was given up is what no needle has, of a partition of which nothing could be read.
        if partition == "directory":
            names = [line.split()[1].rstrip(":") for line in told.splitlines() if "its name is not known" in line]
            assert len(names) == 1, (number, told)
        else:
            lost = served(trial, missing)
            assert lost == (set() if partition == "control" else set(FEW) - set(LARGE)), (number, lost, told)
    assert {code for _, _, code in met} == {0, 1}, met


LATE = [f"late/{n}" for n in range(8)]
HEADER = struct.Struct("<4sHBBIIQQQ")
MARK, BATCH, FROM_HEADER_TO_PAYLOAD = 2, 16, 80


def records(directory):
    """Kind, sequence, position and known sync of each record of the journal, in its order."""
    with open(f"{directory}/journal", "rb") as f:
        journal = f.read()
    found, at = [], journal.find(b"CJRN")
    while at >= 0:
        _, _, kind, _, _, _, sequence, position, synced = HEADER.unpack_from(journal, at)
        if position == at:
            found.append((sequence, kind, at, synced, journal[at + FROM_HEADER_TO_PAYLOAD : at + PAGE]))
        at = journal.find(b"CJRN", at + 1)
    return sorted(found)


def batch_of(directory, name):
    """The record with this object's row, and where it stands."""
    (found,) = [(r[0], r[2]) for r in records(directory) if r[1] == BATCH and name.encode() in r[4]]
    return found


@pytest.fixture(scope="module")
def killed():
    """Most of it is in the files; what came late is in the journal alone, and is known to be synced."""
    path = cairn_server.test_dir("refused")
    directory = path + "/killed"
    served(directory, fill_few)
    server = cairn_server.Server(directory).start()
    client = signed_http.Client(server.port, KEYS)
    for name in LATE:
        assert client.request("PUT", f"/bucket/{name}", body=name.encode()).status == 200
    client.close()
    last, _ = batch_of(directory, LATE[-1])
    deadline = time.monotonic() + 60
    while not any(kind == MARK and synced >= last for _, kind, _, synced, _ in records(directory)):
        assert time.monotonic() < deadline, "no mark"
    server.kill()
    yield directory
    shutil.rmtree(path)


def sevens(path, at=0, length=2 * PAGE):
    with open(path, "r+b" if os.path.exists(path) else "wb") as f:
        f.seek(at)
        f.write(b"\7" * length)


def lost_record(name):
    """What is behind it was acknowledged, and is there."""

    def harm(directory):
        _, at = batch_of(directory, name)
        sevens(f"{directory}/journal", at // PAGE * PAGE, PAGE)
        return ("journal records" if name == LATE[-1] else "are missing: what they wrote"), {name}

    return harm


def no_catalogue(directory):
    os.remove(f"{directory}/index-catalogue")
    return "index-catalogue: the file is missing", set()


def bad_catalogue(directory):
    sevens(f"{directory}/index-catalogue")
    return "index-catalogue: neither copy", set()


def bad_word_of_laid(directory):
    sevens(f"{directory}/index-laid")
    return "index-laid: neither copy", set()


def laid_and_not_in_its_place(directory):
    for file in glob.glob(f"{directory}/index/*.redb"):
        os.rename(file, file.replace(".redb", ".laid"))
    os.remove(f"{directory}/index-catalogue")
    return bad_word_of_laid(directory)


REFUSED = {
    "the last batch": lost_record(LATE[-1]),
    "a batch before others": lost_record(LATE[3]),
    "no catalogue": no_catalogue,
    "a bad catalogue": bad_catalogue,
    "a bad word of what was laid": bad_word_of_laid,
    "laid, and a bad word of it": laid_and_not_in_its_place,
}


def names_there(client):
    answers = {name: client.request("GET", f"/bucket/{name}") for name in FEW + LATE}
    assert {answer.status for answer in answers.values()} <= {200, 404}, answers
    there = {name for name, answer in answers.items() if answer.status == 200}
    for name in there:
        assert answers[name].body == (name.encode() if name in LATE else few_body(name))
    return there


@pytest.mark.parametrize("harm", REFUSED)
def test_what_a_start_refuses_keeps_the_rows_that_its_files_have(killed, harm):
    """Nothing of an index is thrown away, or left out of a backup past its damage, that can be read."""
    directory, copies = os.path.dirname(killed) + "/data", os.path.dirname(killed) + "/copies"
    copied(killed, directory)
    shutil.rmtree(copies, ignore_errors=True)
    place, lost = REFUSED[harm](directory)
    with pytest.raises(Exception, match="not ready"):
        served(directory, lambda client: None)
    code, told = cairn({}, "check", directory)
    # What there is, is compared.
    assert code == 1 and "DAMAGE" in told and place in told, told
    assert f" {len(FEW) + len(LATE) - len(lost)} objects" in told, told
    code, told = cairn({}, "check", "--rebuild-index", directory)
    assert code == 1 and place in told and "nothing was changed" in told and "--past-damage" in told, told
    code, told = cairn({}, "backup", "--past-damage", directory, copies)
    assert code == 1 and "LOST" in told and place in told and "nothing of" not in told, told
    (snapshot,) = glob.glob(copies + "/snapshots/*.snapshot")
    code, told = cairn({}, "restore", "--index", snapshot, directory)
    assert code == 1 and "lacks rows" in told, told
    assert served(directory, names_there) == set(FEW + LATE) - lost
