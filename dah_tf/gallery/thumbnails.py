"""Turns image files of any kind, even damaged ones, into small pictures. Needs Pillow."""

import contextlib
import os
import warnings

from PIL import Image, ImageOps

from dah_tf.images import FAULTS, MAX_PIXELS

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # Other formats are never parsed.


class Unreadable(Exception):
    """Raised if there is no picture. The message says why, in a few words."""


def thumbnail(path, enlarged, reduced):
    """Returns an image as the network sees it: the first frame, upright if JPEG, without alpha.

    Args:
        path: str, the path of a file, or None.
        enlarged: int. Small images are enlarged by a whole factor, so that the longer side is at
            most this many pixels.
        reduced: int, the longer side in pixels of all other images.

    Returns:
        Pillow image in RGB, and whether it was enlarged. The pixels of an enlarged image should
        stay sharp.

    Raises:
        Unreadable: there is no file, it is not an image, it is damaged, or it has more than
            `MAX_PIXELS` pixels.
    """
    if path is None:
        raise Unreadable("the file is not known")
    if not os.path.exists(path):
        raise Unreadable("file not found")
    if not os.path.isfile(path):  # Reading a pipe could block for ever.
        raise Unreadable("not a file")
    return of_file(path, enlarged, reduced)


def of_file(file, enlarged, reduced):
    """Does the same as `thumbnail` for the path of an existing file, or for a binary file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The tile gives the reason.
            with Image.open(file, formats=FORMATS) as image:
                return _small(image, enlarged, reduced)
    except Unreadable:
        raise
    except Image.DecompressionBombError:
        raise Unreadable("too many pixels") from None
    except PermissionError:
        raise Unreadable("reading is not allowed") from None
    except FAULTS:
        raise Unreadable("not a readable image") from None


def of_pixels(pixels, enlarged, reduced):
    """Does the same as `thumbnail` for an array, uint8 `(height, width, 1 or 3)`."""
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return _small(Image.fromarray(pixels), enlarged, reduced)


def _small(image, enlarged, reduced):
    longer = max(image.size)
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable("too many pixels")
    tagged = image.format == "JPEG"  # The decoder also ignores other formats' tags.
    crisp = 2 * longer <= enlarged
    if crisp:
        image = _plain(image)
        factor = enlarged // longer
        image = image.resize(
            (image.width * factor, image.height * factor), Image.Resampling.NEAREST
        )
    else:
        size = [max(1, round(side * reduced / longer)) for side in image.size]
        image.draft(None, [2 * side for side in size])  # A JPEG need not be decoded in full.
        image = _plain(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    image = image.convert("RGB")
    if tagged:
        with contextlib.suppress(*FAULTS):  # Damaged tags may belong to an intact image.
            image = ImageOps.exif_transpose(image)
    image.info.clear()  # Profiles, comments and transparency would be saved with it.
    return image, crisp


def _plain(image):
    """Returns the first frame as the decoder gives it, in RGB or in 8-bit grey."""
    if image.mode == "I;16":  # The high byte is taken, because Pillow would clip.
        return Image.frombytes("L", image.size, image.tobytes()[1::2])
    if image.format == "GIF":  # Transparent pixels become black.
        black = Image.new("RGBA", image.size, "black")
        black.alpha_composite(image.convert("RGBA"))
        image = black
    return image if image.mode in ("RGB", "L") else image.convert("RGB")
