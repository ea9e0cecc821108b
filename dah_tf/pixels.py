"""The one rule from image bytes to pixels: training, encoding and the exported model share it.

TensorFlow operations that work eagerly, in `tf.data` and in a SavedModel.
"""

import tensorflow as tf

MAX_PIXELS = 64 * 1024 * 1024
"""Largest image that is decoded, in pixels; a larger one counts as unreadable."""


def decode(contents, channels=3):
    """Decodes a JPEG, PNG, GIF (first frame), BMP or WebP image.

    JPEG is decoded by the accurate integer transform, as libjpeg's default. 16-bit samples keep
    their high byte, alpha is dropped, palettes and CMYK become RGB. With one channel a colour image
    becomes its luma, `0.299 R + 0.587 G + 0.114 B` rounded to the nearest.

    Args:
        contents: scalar string tensor.
        channels: int, 1 or 3.

    Returns:
        uint8 tensor of shape `(h, w, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: no image, a damaged one, or more than `MAX_PIXELS` in a
            JPEG, PNG, GIF or BMP header (at run time).
    """
    contents = tf.convert_to_tensor(contents, tf.string)
    with tf.control_dependencies([_check_size(contents)]):
        contents = tf.identity(contents)
    is_jpeg = tf.strings.substr(contents, 0, 3) == b"\xff\xd8\xff"

    def jpeg():
        return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")

    def other():
        return tf.io.decode_image(contents, channels=3, expand_animations=False)

    image = tf.cond(tf.reshape(is_jpeg, ()), jpeg, other)
    image.set_shape((None, None, 3))
    return image if channels == 3 else luma(image)


def luma(image):
    """RGB to one channel in exact integer arithmetic: uint8 `(..., 3)` to `(..., 1)`."""
    weights = tf.constant([19595, 38470, 7471], tf.int32)  # of 65,536, as ITU-R 601-2
    total = tf.reduce_sum(tf.cast(image, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(total + 32768, 16), tf.uint8)


def resize(pixels, size):
    """The central square of an image, resampled to `size` by an antialiased triangle filter.

    Args:
        pixels: uint8 tensor of shape `(h, w, channels)` or `(n, h, w, channels)`.
        size: int.

    Returns:
        uint8 tensor of shape `(size, size, channels)` or `(n, size, size, channels)`; an image of
        that size comes back as it is.
    """
    shape = tf.shape(pixels)
    height, width = shape[-3], shape[-2]
    side = tf.minimum(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[..., top : top + side, left : left + side, :]

    def resampled():
        floats = tf.image.resize(square, (size, size), method="bilinear", antialias=True)
        return tf.cast(tf.clip_by_value(tf.floor(floats + 0.5), 0.0, 255.0), tf.uint8)

    result = tf.cond(tf.equal(side, size), lambda: square, resampled)
    result.set_shape((*pixels.shape[:-3], size, size, pixels.shape[-1]))
    return result


def _check_size(contents):
    """Asserts on the header's size where it stands at a fixed place (PNG, GIF, BMP), and for
    JPEG on what the decoder's own header reader says."""

    def number(start, length, little):
        raw = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, start, length), tf.uint8), tf.int64)
        power = tf.range(length, dtype=tf.int64)
        power = power if little else power[::-1]
        return tf.reduce_sum(raw * tf.bitwise.left_shift(tf.ones_like(power), 8 * power))

    def area(start, length, little):
        enough = tf.strings.length(contents) >= start + 2 * length
        zero = tf.constant(0, tf.int64)
        return tf.cond(
            enough,
            lambda: number(start, length, little) * number(start + length, length, little),
            lambda: zero,
        )

    def begins(magic):
        return tf.reshape(tf.strings.substr(contents, 0, len(magic)) == magic, ())

    def jpeg():
        shape = tf.io.extract_jpeg_shape(contents, output_type=tf.int32)
        return tf.cast(shape[0], tf.int64) * tf.cast(shape[1], tf.int64)

    pixels = tf.case(
        [
            (begins(b"\xff\xd8\xff"), jpeg),
            (begins(b"\x89PNG"), lambda: area(16, 4, False)),
            (begins(b"GIF8"), lambda: area(6, 2, True)),
            (begins(b"BM"), lambda: area(18, 4, True)),
        ],
        default=lambda: tf.constant(0, tf.int64),
    )
    return tf.debugging.assert_less_equal(
        pixels, tf.constant(MAX_PIXELS, tf.int64), "the image has too many pixels"
    )
