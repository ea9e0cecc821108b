"""Image files to pixels by Pillow, by the same rules as `dah_tf.data.pixels` has in TensorFlow."""

import io
import re
import struct

import numpy as np

from dah_tf.errors import UserError
from dah_tf.images import kinds

MAX_PIXELS = 64 * 1024 * 1024
"""Largest image that is decoded, in pixels; a larger one counts as unreadable."""

LUMA = (19595, 38470, 7471)
"""Weights of R, G and B in 65,536ths: 0.299, 0.587 and 0.114 of ITU-R 601."""

TAGGED = rb"(?s)(.{6}|.{24})Exif"
"""How a JPEG with EXIF tags begins: they come first, or after the 18 bytes of JFIF's own."""

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
"""Pillow's readers of each kind; no other reader sees a file."""

TURNED = {"TIFF", "AVIF", "HEIC"}
"""Kinds beside JPEG whose orientation is followed: it is part of their formats."""

# What Pillow's readers raise on damaged files, as two hundred thousand of them showed.
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
    """A file is no image that can be read; the message says why in a few words."""


def decode(contents: bytes, channels: int = 3) -> np.ndarray:
    """Decodes an image file, whichever of the kinds of `kinds.kind_of` it is.

    16-bit samples keep their high byte; grey, palettes and CMYK become RGB; alpha is dropped, the
    colours under it stay; of an animation or of several pages the first is taken, black where a
    GIF's is transparent. The orientation is followed in a JPEG whose EXIF tags come first, in TIFF,
    AVIF and HEIC; other formats' tags are not. With one channel a colour image becomes its luma.

    Args:
        contents: the file's bytes.
        channels: 1 or 3.

    Returns:
        uint8 array of shape `(h, w, channels)`.

    Raises:
        ImageError: no image; a damaged one; a header that tells of more than `MAX_PIXELS`; samples
            of 32 bits, which have no agreed range; or HEIC without `pillow-heif`.

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
    """RGB to one channel in exact integer arithmetic: uint8 `(..., 3)` to `(..., 1)`."""
    total = image @ np.array(LUMA, np.int32)[:, None]
    return ((total + 32768) >> 16).astype(np.uint8)


def size_of(path) -> tuple[int, int] | None:
    """Height and width that an image file's header tells of, None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(kinds.HEAD)
            if kinds.kind_of(head) in ("WebP", "animated WebP"):
                return _webp_size(head)
            image, _ = _open(file, checked=False)
            return image.size[::-1]
    except FAULTS:
        return None


def why_unreadable(path) -> str:
    """Why an image file that could not be decoded could not, from its header alone: a few words."""
    try:
        with open(path, "rb") as file:
            head = file.read(kinds.HEAD)
            kind = kinds.kind_of(head)
            if not head:
                return "the file is empty"
            if kind is None:
                return "its content is no image"
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
    """Pillow's image of a file or its bytes, nothing decoded yet, and its kind.

    Raises:
        ImageError: no image, more than `MAX_PIXELS` where that is checked, or a package is missing.
    """
    from PIL import Image

    file = io.BytesIO(source) if isinstance(source, bytes) else source
    file.seek(0)
    head = file.read(kinds.HEAD)
    file.seek(0)
    kind = kinds.kind_of(head)
    if kind is None:
        raise ImageError("its content is no image")
    if checked and kind in ("WebP", "animated WebP"):
        # Pillow takes memory for the whole picture as soon as it opens one.
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
    """Height and width in the header of a WebP file, whichever of its three forms it has."""

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
    """An image turned as its format's own orientation says, decoded."""
    from PIL import ImageOps

    if kind == "HEIC":
        return image.to_pillow()  # turned by its decoder
    image.load()
    tagged = kind == "JPEG" and re.match(TAGGED, contents[:30])
    return ImageOps.exif_transpose(image) if kind in TURNED or tagged else image


def _rgb(image, kind):
    """A decoded image as uint8 array of shape `(h, w, 3)`."""
    if image.mode == "CMYK":
        # As TensorFlow has it; Pillow's own rounds otherwise. Products of two bytes take two.
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
        raise ImageError("its samples have 32 bits, and no agreed range")
    if kind == "GIF" and "transparency" in image.info:
        pixels = np.array(image.convert("RGBA"))
        return np.where(pixels[..., 3:] > 0, pixels[..., :3], 0)
    if image.mode == "P" and "transparency" in image.info:
        image.info.pop("transparency")  # or the conversion would look for a colour to mark
    return np.asarray(image.convert("RGB"))
