"""Image files of any kind and state to small pictures. Needs Pillow."""

import contextlib
import os
import struct
import warnings

from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # what is encoded; others are never parsed
MAX_PIXELS = 64 * 1024 * 1024  # as the decoder's: what it refuses has no picture here either

# What Pillow raises on damaged files.
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


class Unreadable(Exception):
    """There is no picture; the message says why, in a few words."""


def thumbnail(path, enlarged, reduced):
    """An image as the network sees it: its first frame, a JPEG upright, without alpha.

    Args:
        path: str of a file, or None.
        enlarged: int; the longer side of small images is multiplied, by a whole number, to at most
            this.
        reduced: int, longer side of all others.

    Returns:
        Pillow image, RGB, and whether it is an enlarged one, whose pixels are to stay sharp.

    Raises:
        Unreadable: no file, no image, a damaged one, or one of more than `MAX_PIXELS`.
    """
    if path is None:
        raise Unreadable("no file known")
    if not os.path.exists(path):
        raise Unreadable("file not found")
    if not os.path.isfile(path):  # reading a pipe could wait for ever
        raise Unreadable("not a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tile says all that there is to say
            with Image.open(path, formats=FORMATS) as image:
                return _small(image, enlarged, reduced)
    except Unreadable:
        raise
    except Image.DecompressionBombError:
        raise Unreadable("too many pixels") from None
    except PermissionError:
        raise Unreadable("may not be read") from None
    except FAULTS:
        raise Unreadable("no readable image") from None


def of_pixels(pixels, enlarged, reduced):
    """As `thumbnail`, of an array: uint8 `(height, width, 1 or 3)`."""
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return _small(Image.fromarray(pixels), enlarged, reduced)


def _small(image, enlarged, reduced):
    longer = max(image.size)
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable("too many pixels")
    tagged = image.format == "JPEG"  # only its tags count, as for the decoder
    crisp = 2 * longer <= enlarged
    if crisp:
        image = _plain(image)
        factor = enlarged // longer
        image = image.resize(
            (image.width * factor, image.height * factor), Image.Resampling.NEAREST
        )
    else:
        size = [max(1, round(side * reduced / longer)) for side in image.size]
        image.draft(None, [2 * side for side in size])  # a JPEG need not be decoded in full
        image = _plain(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    image = image.convert("RGB")
    if tagged:
        with contextlib.suppress(*FAULTS):  # damaged tags, of an image that may be whole
            image = ImageOps.exif_transpose(image)
    image.info.clear()  # profiles, comments and transparent colours would be saved with it
    return image, crisp


def _plain(image):
    """The first frame as the decoder gives it, RGB or grey of 8 bits."""
    if image.mode == "I;16":  # the high byte; Pillow would clip
        return Image.frombytes("L", image.size, image.tobytes()[1::2])
    if image.format == "GIF":  # black where transparent
        black = Image.new("RGBA", image.size, "black")
        black.alpha_composite(image.convert("RGBA"))
        image = black
    return image if image.mode in ("RGB", "L") else image.convert("RGB")
