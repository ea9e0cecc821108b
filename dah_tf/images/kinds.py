"""Tells image files from others by their first bytes and their names. Standard library only."""

import os
import re

HEAD = 128
"""Bytes of a file's beginning that `kind_of` looks at."""

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
"""Endings of image files' names, in lower case."""

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
"""Endings of cameras' raw files, many of which begin as a TIFF does but hold no finished image."""

OTHERS = (
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"P[1-6]\s"), "PNM"),
)

AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

TENSORFLOW = frozenset({"JPEG", "PNG", "GIF", "BMP", "WebP"})
"""The kinds that TensorFlow's decoder reads, and with it every exported model."""


def kind_of(head: bytes) -> str | None:
    """The kind of image that a file's first bytes begin.

    Args:
        head: at least `HEAD` bytes of the file, or all of it.

    Returns:
        One of `TENSORFLOW`; "TIFF", "AVIF", "HEIC", "JPEG 2000", "PNM", "animated WebP" or
        "rare BMP", of other colours than 256 or 24 or 32 bits, or compressed; None where it is no
        image.

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
    """Whether Pillow decodes a file that begins so, since TensorFlow's decoder does not.

    The kind decides, not whether the one or the other fails: so training, commands and clients
    agree without asking each other, and a damaged JPEG is a broken image to all of them.
    """
    return kind_of(head) not in TENSORFLOW | {None}


def is_image(path) -> bool:
    """Whether a file was meant as an image, readable or not.

    A name that ends like an image's counts, whatever is in the file; a camera's raw file does not;
    of others the content decides. What cannot be opened counts, so that whoever reads it tells of
    it, unless its name tells of another kind.

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
    """What a file that is no image is counted as: its ending, or "no ending" without one."""
    return os.path.splitext(os.fsdecode(path))[1].lower() or "no ending"


def _number(data, order="little"):
    return int.from_bytes(data, order)
