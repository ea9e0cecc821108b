"""Recognises image files by their first bytes and their names. Standard library only."""

import os
import re

HEAD = 128
"""The number of bytes at the start of a file that `kind_of` looks at."""

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".gif",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".avif",
        ".avifs",
        ".heic",
        ".heif",
        ".hif",
        ".jp2",
        ".j2k",
        ".jpx",
        ".jpc",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)
"""The endings of the names of image files, in lower case."""

RAW = frozenset(
    [
        ".3fr",
        ".arw",
        ".cr2",
        ".cr3",
        ".dcr",
        ".dng",
        ".erf",
        ".fff",
        ".iiq",
        ".kdc",
        ".mef",
        ".mos",
        ".mrw",
        ".nef",
        ".nrw",
        ".orf",
        ".pef",
        ".raf",
        ".raw",
        ".rw2",
        ".rwl",
        ".sr2",
        ".srf",
        ".srw",
        ".x3f",
    ]
)
"""The endings of raw files of cameras. Many start like a TIFF but contain no finished image."""

OTHERS = (
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"P[1-6]\s"), "PNM"),
)

AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

TENSORFLOW = frozenset({"JPEG", "PNG", "GIF", "BMP", "WebP"})
"""The kinds that TensorFlow's decoder reads, and therefore every exported model."""


def kind_of(head: bytes) -> str | None:
    """Returns the kind of an image file by its first bytes.

    Args:
        head: at least the first `HEAD` bytes of the file, or all of it.

    Returns:
        One of `TENSORFLOW`, or "TIFF", "AVIF", "HEIC", "JPEG 2000", "PNM", "animated WebP" or
        "rare BMP". A rare BMP is compressed, or does not have 8, 24 or 32 bits for each pixel.
        None is returned if the file is not an image.

    Example:
        >>> kind_of(b"GIF89a"), kind_of(b"%PDF-1.7")
        ('GIF', None)
    """
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[:4] == b"GIF8":
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        moves = head[12:16] == b"VP8X" and head[20:21] and head[20] & 2
        return "animated WebP" if moves else "WebP"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        plain = _number(head[14:18]) >= 40 and _number(head[28:30]) in (8, 24, 32)
        return "BMP" if plain and _number(head[30:34]) not in (1, 2) else "rare BMP"
    if head[4:8] == b"ftyp":
        box = head[8 : max(12, _number(head[:4], "big"))]
        brands = {box[place : place + 4] for place in range(0, len(box), 4)}
        if brands & AVIF_BRANDS:
            return "AVIF"
        return "HEIC" if brands & HEIC_BRANDS else None
    return next((name for pattern, name in OTHERS if pattern.match(head)), None)


def by_pillow(head: bytes) -> bool:
    """Says whether Pillow decodes a file, because TensorFlow's decoder does not read its kind.

    Only the kind decides, and not whether a decoder fails. Training, commands and clients
    therefore agree, and a damaged JPEG is a broken image for all of them.
    """
    return kind_of(head) not in TENSORFLOW | {None}


def is_image(path) -> bool:
    """Says whether a file is meant to be an image, whether or not it can be read.

    A file whose name ends like an image's is one, with any content. A raw file of a camera is not.
    For other names the content decides. A file without an ending that cannot be opened counts as
    an image, so that its reader reports the error.

    Args:
        path: str or bytes.
    """
    suffix = os.path.splitext(os.fsdecode(path))[1].lower()
    if suffix in SUFFIXES or suffix in RAW:
        return suffix in SUFFIXES
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(HEAD)) is not None
    except OSError:
        return not suffix or os.path.isdir(path)


def name_kind(path) -> str:
    """Returns the ending under which a file that is not an image is counted, or "no ending"."""
    return os.path.splitext(os.fsdecode(path))[1].lower() or "no ending"


def _number(data, order="little"):
    return int.from_bytes(data, order)
