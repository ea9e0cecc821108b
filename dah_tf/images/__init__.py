"""Image files: which files are images, and how Pillow decodes them, without TensorFlow.

TensorFlow's decoder is part of exported models, and reads JPEG, PNG, GIF, BMP and still WebP
(`dah_tf.data.pixels`). This room decodes the other formats of cameras, phones and scanners by the
same rules: TIFF, AVIF, animated WebP, JPEG 2000, PNM and the rarer kinds of BMP. It also decodes
HEIC if `pillow-heif` is installed.
"""

from dah_tf.images.decoding import (
    FAULTS,
    MAX_PIXELS,
    ImageError,
    decode,
    luma,
    size_in,
    size_of,
    why_unreadable,
)
from dah_tf.images.kinds import HEAD, by_pillow, is_image, kind_of, name_kind

__all__ = [
    "FAULTS",
    "HEAD",
    "MAX_PIXELS",
    "ImageError",
    "by_pillow",
    "decode",
    "is_image",
    "kind_of",
    "luma",
    "name_kind",
    "size_in",
    "size_of",
    "why_unreadable",
]
