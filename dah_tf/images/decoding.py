"""Decodes image files with Pillow, by the same rules as `dah_tf.data.pixels` with TensorFlow."""

import io
import re
import struct

import numpy as np

from dah_tf.errors import UserError
from dah_tf.images import kinds

MAX_PIXELS = 64 * 1024 * 1024
"""The largest number of pixels of an image. A larger image counts as unreadable."""

LUMA = (19595, 38470, 7471)
"""The weights of R, G and B of ITU-R 601 (0.299, 0.587 and 0.114), multiplied by 65,536."""

TAGGED = rb"(?s)(.{6}|.{24})Exif"
"""The start of a JPEG with EXIF tags. They come first, or after the 18 bytes of a JFIF segment."""

FORMATS = {
    "JPEG": ("JPEG",),
    "PNG": ("PNG",),
    "GIF": ("GIF",),
    "BMP": ("BMP",),
    "rare BMP": ("BMP",),
    "WebP": ("WEBP",),
    "animated WebP": ("WEBP",),
    "TIFF": ("TIFF",),
    "AVIF": ("AVIF",),
    "JPEG 2000": ("JPEG2000",),
    "PNM": ("PPM",),
}
"""Pillow's readers for each kind. No other reader is tried."""

TURNED = {"TIFF", "AVIF", "HEIC"}
"""The kinds besides JPEG whose orientation is applied, because it is part of their formats."""

# Pillow's readers raise these errors on damaged files; 200,000 damaged files were tried.
FAULTS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    struct.error,
)


class ImageError(UserError):
    """A file cannot be read as an image. The message says why in a few words."""


def decode(contents: bytes, channels: int = 3) -> np.ndarray:
    """Decodes an image file of any kind in `kinds.kind_of`.

    - Samples of 16 bits keep their high byte.
    - Grey images, palettes and CMYK become RGB. With one channel, colours become their luma.
    - The alpha channel is dropped, and the colours under it stay. Transparent pixels of a GIF
      become black.
    - The first picture of an animation and the first of several pages are taken.
    - The orientation is applied in TIFF, AVIF and HEIC, and in a JPEG whose EXIF tags come first.
      It is ignored in other formats.

    Args:
        contents: bytes of the file.
        channels: 1 or 3.

    Returns:
        uint8 array of shape `(h, w, channels)`.

    Raises:
        ImageError: the file is not an image or is damaged; its header names more than
            `MAX_PIXELS`; its samples have 32 bits, for which there is no common range; or it is
            HEIC and `pillow-heif` is missing.

    Example:
        >>> decode(b"P6 2 1 255 " + bytes([255, 0, 0, 0, 0, 255])).tolist()
        [[[255, 0, 0], [0, 0, 255]]]
    """
    try:
        image, kind = _open(contents)
        rgb = _rgb(_upright(image, kind, contents), kind)
    except ImageError:
        raise
    except FAULTS as error:
        raise ImageError(f"a damaged {kinds.kind_of(contents[: kinds.HEAD])} file") from error
    return rgb if channels == 3 else luma(rgb)


def luma(image: np.ndarray) -> np.ndarray:
    """Converts RGB to one channel in exact integer arithmetic: uint8 `(..., 3)` to `(..., 1)`."""
    total = image @ np.array(LUMA, np.int32)[:, None]
    return ((total + 32768) >> 16).astype(np.uint8)


def size_of(path) -> tuple[int, int] | None:
    """Returns the height and the width in the header of an image file; None if unreadable."""
    try:
        with open(path, "rb") as file:
            return _size(file)
    except FAULTS:
        return None


def size_in(contents: bytes) -> tuple[int, int] | None:
    """Does the same as `size_of` for the bytes of a file."""
    try:
        return _size(io.BytesIO(contents))
    except FAULTS:
        return None


def _size(file):
    head = file.read(kinds.HEAD)
    if kinds.kind_of(head) in ("WebP", "animated WebP"):
        return _webp_size(head)
    image, _ = _open(file, checked=False)
    return image.size[::-1]


def why_unreadable(path) -> str:
    """Says in a few words why an image file could not be decoded, by its header alone."""
    try:
        with open(path, "rb") as file:
            head = file.read(kinds.HEAD)
            kind = kinds.kind_of(head)
            if not head:
                return "the file is empty"
            if kind is None:
                return "its content is not an image"
            _open(file)
    except FileNotFoundError:
        return "no such file"
    except ImageError as error:
        return str(error)
    except OSError as error:
        if error.strerror:
            return error.strerror
    except FAULTS:
        pass
    return f"a damaged {kind} file"


def _open(source, checked=True):
    """Returns Pillow's image of a file or of its bytes, not decoded yet, and its kind.

    Raises:
        ImageError: the content is not an image, has more than `MAX_PIXELS` (if `checked`), or a
            package is missing.
    """
    from PIL import Image

    file = io.BytesIO(source) if isinstance(source, bytes) else source
    file.seek(0)
    head = file.read(kinds.HEAD)
    file.seek(0)
    kind = kinds.kind_of(head)
    if kind is None:
        raise ImageError("its content is not an image")
    if checked and kind in ("WebP", "animated WebP"):
        # Pillow reserves memory for the whole picture as soon as it opens the file.
        _check(*_webp_size(head))
    if kind == "HEIC":
        image = _heif(file)
    else:
        try:
            image = Image.open(file, formats=FORMATS[kind])
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise ImageError("the image has too many pixels") from None
    if checked:
        _check(*image.size)
    return image, kind


def _check(width, height):
    if width * height > MAX_PIXELS:
        raise ImageError("the image has too many pixels")


def _webp_size(head):
    """Returns the height and the width in the header of a WebP file, in any of its three forms."""

    def number(start, length):
        return int.from_bytes(head[start : start + length], "little")

    if head[12:16] == b"VP8X":
        return number(27, 3) + 1, number(24, 3) + 1
    if head[12:16] == b"VP8L":
        return (number(21, 4) >> 14) % 2**14 + 1, number(21, 4) % 2**14 + 1
    return number(28, 2) % 2**14, number(26, 2) % 2**14


def _heif(file):
    try:
        import pillow_heif
    except ModuleNotFoundError:
        raise ImageError(
            "HEIC needs pillow-heif, which is not installed: pip install 'dah_tf[heif]'"
        ) from None
    return pillow_heif.open_heif(file)


def _upright(image, kind, contents):
    """Decodes an image and turns it as the orientation of its format says."""
    from PIL import ImageOps

    if kind == "HEIC":
        return image.to_pillow()  # its decoder has turned it
    image.load()
    tagged = kind == "JPEG" and re.match(TAGGED, contents[:30])
    return ImageOps.exif_transpose(image) if kind in TURNED or tagged else image


def _rgb(image, kind):
    """Converts a decoded image to a uint8 array of shape `(h, w, 3)`."""
    if image.mode == "CMYK":
        # This rounds as TensorFlow does, and Pillow's conversion does not. The product of two
        # bytes needs two bytes.
        ink = np.asarray(image)
        rgb = np.empty((*ink.shape[:2], 3), np.uint8)
        for row, inks in zip(rgb, ink, strict=True):
            left = (255 - inks).astype(np.uint16)
            row[...] = left[:, :3] * left[:, 3:] // 255
        return rgb
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PNM")):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ImageError("its samples have 32 bits, for which there is no common range")
    if kind == "GIF" and "transparency" in image.info:
        pixels = np.array(image.convert("RGBA"))
        return np.where(pixels[..., 3:] > 0, pixels[..., :3], 0)
    if image.mode == "P" and "transparency" in image.info:
        image.info.pop("transparency")  # otherwise the conversion looks for a colour to mark
    return np.asarray(image.convert("RGB"))
