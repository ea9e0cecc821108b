"""What a client is given, as the bytes of image files that the model reads. No TensorFlow.

What the model's decoder does not read, such as TIFF, AVIF or HEIC (`images.by_pillow`), is decoded
here by Pillow and travels as pixels of its original size; the model resizes them.

Pixels travel as PNG, without loss, so that every image goes through the one signature that takes
image bytes: a server that merges requests into batches would refuse pixels of different sizes
together, other clients' among them.
"""

import os
import struct
import zlib
from pathlib import Path

import numpy as np

from dah_tf import images
from dah_tf.errors import UserError

MAX_BYTES = 2**28 + 2**16
"""Largest file: the most pixels that the model decodes, 2**26, of 4 bytes, and a header."""


def name(image, index):
    """How an error names an image: its place in the call, and its path if it has one."""
    path = f" ({os.fspath(image)})" if isinstance(image, (str, os.PathLike)) else ""
    return f"image {index}{path}"


def contents(image, index):
    """The bytes of an image file.

    Args:
        image: path of a file; bytes of one; or uint8 array of shape `(h, w)`, `(h, w, 1)` or
            `(h, w, 3)`, 0..255.
        index: int, its place in the call, for errors.

    Returns:
        bytes; those of a damaged file as they are, for the model to mark.

    Raises:
        UserError: a file that cannot be read or is larger than `MAX_BYTES`; an array of another
            type or shape; anything else.
    """
    if isinstance(image, (str, os.PathLike)):
        return _readable(_file(Path(image), index))
    if isinstance(image, (bytes, bytearray, memoryview)):
        data = bytes(image)
        _check_size(len(data), image, index)
        return _readable(data)
    if isinstance(image, np.ndarray):
        return _png(image, index)
    raise UserError(
        f"image {index} is a {type(image).__name__}: pass a path, the bytes of an image file, or "
        "a uint8 array"
    )


def why(data):
    """What is known here of why the model could not decode `contents`: text that goes behind."""
    try:
        if images.by_pillow(data[: images.HEAD]):
            images.decode(data)
    except images.ImageError as error:
        return f": {error}"
    return ""


def _readable(data):
    """An image file as one that the model reads."""
    if not images.by_pillow(data[: images.HEAD]):
        return data
    try:
        return _as_png(images.decode(data))
    except images.ImageError:
        return data


def _file(path, index):
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name(path, index)} cannot be read: {reason}") from error
    _check_size(len(data), path, index)
    return data


def _check_size(size, image, index):
    if size > MAX_BYTES:
        raise UserError(f"{name(image, index)} is larger than {MAX_BYTES:,} bytes")


def _png(array, index):
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3) or not array.size:
        raise UserError(
            f"image {index} is an array of {array.dtype} and shape {shape}: pixels are uint8 of "
            "shape (h, w), (h, w, 1) or (h, w, 3)"
        )
    return _as_png(array)


def _as_png(array):
    """Pixels of shape `(h, w, 1 or 3)` as the bytes of a PNG file."""
    height, width, channels = array.shape
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with filter type 0
    rows[:, 1:] = array.reshape(height, -1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
