"""A real directory tree: the sources in cargo's registry cache, and what they lack, made deterministically.

At least FILES_MIN files and BYTES_MIN bytes, with names that break naive clients and servers.
"""

import hashlib
import os
import random
import shutil
import time

FILES_MIN = 20_000
BYTES_MIN = 500_000_000
ODD_NAMES = [
    "with space.txt", " leading space", "trailing space ", "trailing dot.", "two..dots", "...", ".hidden",
    "plus+plus", "100%", "%2F", "%41%zz", "a&b=c", "q?x=1", "semi;colon", "comma,comma", "hash#tag", "at@colon:x",
    "quote'single", 'quote"double', "back\\slash", "star*", "[bracket]", "{brace}", "(paren)", "<tag>&amp;", "tilde~",
    "dollar$", "caret^", "pipe|", "back`tick", "!bang", "equals=", "ünïcödé", "e\u0301 decomposed", "é composed",
    "日本語.txt", "עברית", "العربية", "emoji 🪨 stone", "flag 🇮🇸", "family 👩‍👩‍👧", "zero\u200bwidth", "tab\there", "Case", "case",
    "k" * 200, "-dash", "--double-dash", "_", "0", "nul-like \\0", "CON", "~", "soap-xmlns:x", "aws-chunked", "null",
]


def registry_sources():
    home = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
    return os.path.join(home, "registry", "src")


def files_below(root):
    """Paths from `root` of the regular files below it, sorted."""
    found = []
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                found.append(os.path.relpath(path, root))
    return sorted(found)


def make(root):
    """Builds the tree under `root`; answers how many files and bytes it has."""
    count = size = 0

    def add(path, data):
        nonlocal count, size
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as f:
            f.write(data)
        count, size = count + 1, size + len(data)

    random_bytes = random.Random("cairn").randbytes
    for n, name in enumerate(ODD_NAMES):
        add(f"odd/{name}", random_bytes(1 + 97 * n))
        add(f"odd/in {name}/{name}", random_bytes(n))
    add("empty", b"")
    for n in range(3):
        add(f"large/{n}.bin", random_bytes(40_000_000 + 12_345 * n))
    source = registry_sources()
    if os.path.isdir(source):
        for path in files_below(source):
            full = os.path.join(root, "sources", path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            shutil.copyfile(os.path.join(source, path), full)
            count, size = count + 1, size + os.path.getsize(full)
    numbers = random.Random("cairn sizes")
    made = 0
    while count < FILES_MIN or size < BYTES_MIN:
        # Mostly small, as source trees are; the last ones bring the bytes up to the bar.
        left = max(1, FILES_MIN - count)
        want = max(0, BYTES_MIN - size) // left
        add(f"made/{made % 97}/d{made % 7}/file {made}.dat", random_bytes(min(8_000_000, numbers.randint(0, 2 * want + 200))))
        made += 1
    age(root)
    return count, size


def age(root):
    """Makes its files an hour old. S3 tells whole seconds: what changed in the second that it is sent in is sent again by the next sync."""
    hour_ago = time.time() - 3600
    for path in files_below(root):
        os.utime(os.path.join(root, path), (hour_ago, hour_ago))


def digest(root):
    """Path to hash of contents, for every file below `root`."""
    out = {}
    for path in files_below(root):
        with open(os.path.join(root, path), "rb") as f:
            out[path] = hashlib.blake2b(f.read()).hexdigest()
    return out


def differences(expected, found, limit=20):
    """In words; empty when the trees are the same."""
    lines = [f"missing: {p!r}" for p in sorted(expected.keys() - found.keys())]
    lines += [f"not asked for: {p!r}" for p in sorted(found.keys() - expected.keys())]
    lines += [f"other bytes: {p!r}" for p in sorted(expected.keys() & found.keys()) if expected[p] != found[p]]
    return lines[:limit] + ([f"... {len(lines)} differences"] if len(lines) > limit else [])
