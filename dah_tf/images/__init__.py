"""Image files: which files are images, and their pixels by Pillow, without TensorFlow.

TensorFlow's decoder, which exported models hold, reads JPEG, PNG, GIF, BMP and still WebP
(`dah_tf.data.pixels`). What else cameras, phones and scanners write is decoded here, by the same
rules, and handed over as pixels: TIFF, AVIF, animated WebP, JPEG 2000, PNM, the rarer BMP, and HEIC
where `pillow-heif` is installed.
"""

from dah_tf.images.decoding import MAX_PIXELS, ImageError, decode, luma, size_of, why_unreadable
from dah_tf.images.kinds import HEAD, by_pillow, is_image, kind_of, name_kind

__all__ = [
    "HEAD",
    "MAX_PIXELS",
    "ImageError",
    "by_pillow",
    "decode",
    "is_image",
    "kind_of",
    "luma",
    "name_kind",
    "size_of",
    "why_unreadable",
]
