"""A store's files from outside: where some bytes stand, and what rot would make of them."""

import os


def find_bytes(directory, needle):
    """The first file of a directory that holds `needle`, and where."""
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        with open(path, "rb") as f:
            at = f.read().find(needle)
        if at >= 0:
            return path, at
    raise AssertionError(f"nowhere in {directory}")


def bytes_at(path, offset, length):
    with open(path, "rb") as f:
        f.seek(offset)
        return f.read(length)


def flip(path, offset):
    """Turns one bit."""
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 0x10]))
