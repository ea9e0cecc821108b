"""Converts the images of a client to the bytes of image files that the model can decode.

No TensorFlow is needed. Pillow decodes the formats that the model's decoder does not read, such as
TIFF, AVIF or HEIC (`images.by_pillow`). Their pixels are sent in the original size, and the model
resizes them.

Pixels are sent as PNG, which loses nothing. All images therefore use the signature that takes image
bytes. With the signature for pixels, a server that combines requests of several clients into a
batch would refuse images of different sizes.
"""

import os
import struct
import zlib
from pathlib import Path

import numpy as np

from dah_tf import images
from dah_tf.errors import UserError

MAX_BYTES = 2**28 + 2**16
"""The size of the largest file: 4 bytes for each of the 2**26 pixels of the largest image, and a
header."""


def name(image, index):
    """Names an image in errors, by its place in the call, and by its path if it has one."""
    path = f" ({os.fspath(image)})" if isinstance(image, (str, os.PathLike)) else ""
    return f"image {index}{path}"


def contents(image, index):
    """Returns the bytes of an image file.

    Args:
        image: path of a file; bytes of a file; or uint8 array of shape `(h, w)`, `(h, w, 1)` or
            `(h, w, 3)`, 0..255.
        index: int, the place of the image in the call, for errors.

    Returns:
        bytes. Those of a damaged file do not change, so that the model marks the image.

    Raises:
        UserError: a file cannot be read or is larger than `MAX_BYTES`, an array has another type
            or shape, or the object is not an image.
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
        f"image {index} is a {type(image).__name__}; pass a path, the bytes of an image file, or "
        "a uint8 array"
    )


def why(data):
    """Returns the end of a message that says why the model could not decode `contents`."""
    try:
        if images.by_pillow(data[: images.HEAD]):
            images.decode(data)
    except images.ImageError as error:
        return f": {error}"
    return ""


def _readable(data):
    """Converts an image file to one that the model can decode, if necessary."""
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
    except (OSError, ValueError) as error:  # a path with a zero byte raises ValueError
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
            f"image {index} is an array of {array.dtype} and shape {shape}; pixels must be uint8 "
            "of shape (h, w), (h, w, 1) or (h, w, 3)"
        )
    return _as_png(array)


def _as_png(array):
    """Writes pixels of shape `(h, w, 1 or 3)` as the bytes of a PNG file."""
    height, width, channels = array.shape
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row starts with filter type 0
    rows[:, 1:] = array.reshape(height, -1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
