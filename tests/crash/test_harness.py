"""The harness itself: it must see each kind of loss, allow what may be, and its power cut must lose what was not synced."""

import mmap
import os
import shutil

import cairn_server
import power
import pytest
from history import Key, Value, Violation, new_op, tick


def value():
    return Value([(new_op(), 100)])


def put(key, v, answered=True):
    write = key.begin(v)
    if answered:
        key.answered(write)
    return v


def read(key, v):
    return key.read(tick(), md5=v and v.md5, etag=v and v.etag)


def test_an_answered_put_must_be_there():
    key, v = Key("k"), value()
    put(key, v)
    read(key, v)
    with pytest.raises(Violation, match="nothing is there"):
        read(key, None)


def test_an_overwritten_value_must_not_come_back():
    key, old, new = Key("k"), value(), value()
    put(key, old)
    put(key, new)
    read(key, new)
    with pytest.raises(Violation, match="an older state came back"):
        read(key, old)


def test_a_delete_stays_deleted():
    key, v = Key("k"), value()
    put(key, v)
    put(key, None)
    read(key, None)
    with pytest.raises(Violation):
        read(key, v)


def test_an_unanswered_write_may_have_happened_or_not():
    for happened in (True, False):
        key, old, new = Key("k"), value(), value()
        put(key, old)
        put(key, new, answered=False)
        read(key, new if happened else old)
        with pytest.raises(Violation):
            read(key, None)


def test_what_was_once_read_is_not_lost_either():
    key, old, new = Key("k"), value(), value()
    put(key, old)
    put(key, new, answered=False)
    read(key, new)
    with pytest.raises(Violation, match="an older state came back"):
        read(key, old)


def test_of_two_at_once_either_may_be_last():
    for last in (0, 1):
        key, values = Key("k"), [value(), value()]
        writes = [key.begin(v) for v in values]
        for w in writes:
            key.answered(w)
        read(key, values[last])


def test_bytes_that_nobody_wrote_are_found():
    key = Key("k")
    put(key, value())
    with pytest.raises(Violation, match="nobody wrote"):
        read(key, value())


def test_a_torn_body_is_found():
    key, v = Key("k"), value()
    put(key, v)
    with pytest.raises(Violation, match="nobody wrote"):
        key.read(tick(), md5="0" * 32, etag=v.etag)


def test_bodies_can_be_made_again():
    v = Value([(7, 100), (8, 5)])
    assert v.body() == v.body() and len(v.body()) == v.size == 105
    assert Value.of_parts([(7, 100), (8, 5)]).etag.endswith("-2")


def test_a_power_cut_keeps_what_was_synced_and_nothing_more():
    place = cairn_server.test_dir("power")
    with power.Disk(place) as disk:
        def write(name, sync):
            handle = os.open(f"{disk.mount_point}/{name}", os.O_CREAT | os.O_WRONLY)
            os.write(handle, name.encode() * 1000)
            if sync:
                os.fsync(handle)
            os.close(handle)

        write("synced", True)
        directory = os.open(disk.mount_point, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        write("not", False)
        disk.cut()
        with pytest.raises(OSError):
            write("late", True)
        disk.come_back()
        with open(f"{disk.mount_point}/synced", "rb") as f:
            assert f.read() == b"synced" * 1000
        lost = f"{disk.mount_point}/not"
        assert not os.path.exists(lost) or os.path.getsize(lost) == 0
    shutil.rmtree(place)


def test_a_cut_below_the_devices_cache_loses_direct_writes_that_were_not_synced():
    """Over bytes whose place in the file is durable already, so that nothing but the bytes themselves can be lost."""
    place = cairn_server.test_dir("power-cached")
    length = 1 << 20
    with power.CachedDisk(place, 1 << 30) as disk, mmap.mmap(-1, length) as pages:
        def write(byte, sync):
            handle = os.open(f"{disk.mount_point}/file", os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
            pages[:] = byte * length
            assert os.pwrite(handle, pages, 0) == length
            if sync:
                os.fsync(handle)
            os.close(handle)

        write(b"1", True)
        directory = os.open(disk.mount_point, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        write(b"2", False)
        disk.cut()
        disk.come_back()
        with open(f"{disk.mount_point}/file", "rb") as f:
            assert f.read() == b"1" * length
    shutil.rmtree(place)
