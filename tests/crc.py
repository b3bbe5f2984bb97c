"""CRC-32C and CRC-64/NVME, byte by byte: nobody's library, so that a mistake in one is seen by the other."""

import functools


def _table(polynomial):
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (polynomial if byte & 1 else 0)
        table.append(byte)
    return table


_CRC32C = _table(0x82F63B78)
_CRC64NVME = _table(0x9A6C9329AC4BC9B5)


def _run(table, ones, data):
    crc = ones
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ ones


@functools.lru_cache(maxsize=32)
def crc32c(data):
    return _run(_CRC32C, 0xFFFF_FFFF, data)


@functools.lru_cache(maxsize=32)
def crc64nvme(data):
    return _run(_CRC64NVME, 0xFFFF_FFFF_FFFF_FFFF, data)


# The check values of the CRC catalogue.
assert crc32c(b"123456789") == 0xE3069283
assert crc64nvme(b"123456789") == 0xAE8B14860A799888
