"""TFRecord files: records with their length and checksums. Standard library only."""

import struct


class DamagedRecord(ValueError):
    """The file ends within a record, or a checksum is wrong."""


def encode(records):
    """Returns the bytes of a TFRecord file.

    Args:
        records: iterable of bytes.
    """
    parts = []
    for record in records:
        length = struct.pack("<Q", len(record))
        parts += [length, _masked(length), record, _masked(record)]
    return b"".join(parts)


def decode(contents):
    """Yields the records of a TFRecord file.

    Args:
        contents: bytes.

    Yields:
        bytes.

    Raises:
        DamagedRecord: the file is not a TFRecord file, or it is cut short or damaged.
    """
    at = number = 0
    while at < len(contents):
        number += 1
        length, check = contents[at : at + 8], contents[at + 8 : at + 12]
        if len(check) < 4 or check != _masked(length):
            raise DamagedRecord(f"record {number} has a damaged length")
        end = at + 12 + struct.unpack("<Q", length)[0]
        record, check = contents[at + 12 : end], contents[end : end + 4]
        if len(check) < 4 or check != _masked(record):
            raise DamagedRecord(f"record {number} is cut short or damaged")
        yield record
        at = end + 4


def _table():
    """CRC-32C of each byte, by the reflected Castagnoli polynomial."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def _masked(data):
    """CRC-32C as TFRecord stores it: rotated, with a constant added; 4 bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    rotated = crc >> 15 | crc << 17
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)
