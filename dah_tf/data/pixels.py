"""Turns image bytes into pixels. Training, encoding and the exported model share this code.

The TensorFlow operations work eagerly and in `tf.data`. They also work in a SavedModel, except for
`decode_file`.
"""

import numpy as np
import tensorflow as tf

from dah_tf import images
from dah_tf.images.decoding import LUMA, MAX_PIXELS

PNG = b"\x89PNG\r\n\x1a\n"  # A PNG file begins with these bytes.

TAGGED = r"(\C{6}|\C{24})Exif\C*"
"""A pattern of the start of a JPEG with EXIF tags, which come first or after 18 bytes of JFIF."""

ORIENTATION = 0x0112  # This is the number of the tag in EXIF.
TAGS = 255  # At most this many tags are examined.

HEAD = 64  # bytes; every header except that of a JPEG gives the size of the image within them


def decode(contents, channels=3):
    """Decodes a JPEG, PNG, GIF, BMP or WebP image. The content tells which format it is.

    JPEG is decoded by the accurate integer transform, which is libjpeg's default. Samples of 16
    bits keep their high byte. Grey, palette and CMYK images become RGB. Alpha is dropped, and the
    colours under it stay. The first frame of an animation is taken, and the transparent pixels of
    a GIF become black. A JPEG is turned upright by the orientation in its EXIF tags if these tags
    come first, as cameras write them. The orientation in other formats is ignored. With one
    channel, a colour image becomes its luma, which is computed with `LUMA` and rounded to the
    nearest integer. Animated WebP, compressed BMP, and BMP with less than 8 bits per pixel are not
    read, and neither are other formats. `decode_file` and the client use Pillow for these.

    Args:
        contents: scalar string tensor.
        channels: int, 1 or 3.

    Returns:
        uint8 tensor of shape `(h, w, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: at run time, if the contents are not an image, if the image
            is damaged, or if its header gives more than `MAX_PIXELS` pixels.
    """
    return _decode(contents, channels, _decode_other)


def decode_file(contents, channels=3):
    """Decodes like `decode`, and uses Pillow for the formats that an exported model cannot read.

    It needs Python in the process. Pillow decodes the kinds of `images.by_pillow`, by the rules of
    `images.decode`. All other images are decoded in the same way as by `decode`.
    """
    return _decode(contents, channels, _decode_rest)


def _decode(contents, channels, other):
    contents = tf.convert_to_tensor(contents, tf.string)

    def jpeg():
        shape = tf.io.extract_jpeg_shape(contents, output_type=tf.int64)
        with tf.control_dependencies([_check((shape[0], shape[1]))]):
            image = tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")
        tagged = tf.strings.regex_full_match(tf.strings.substr(contents, 0, 30), TAGGED)
        return tf.cond(tagged, lambda: _upright(image, contents), lambda: image)

    def png():
        # The width and height follow the signature and the head of the first chunk. They are 0 if
        # the file is cut short.
        head = tf.strings.substr(contents, 0, 24) + b"\0" * 24
        shape = tf.io.decode_raw(tf.strings.substr(head, 16, 8), tf.int32, little_endian=False)
        shape = tf.cast(tf.ensure_shape(shape, [2]), tf.int64)
        with tf.control_dependencies([_check((shape[1], shape[0]))]):
            return tf.io.decode_png(contents, channels=3)

    def begins(magic):
        return tf.reshape(tf.strings.substr(contents, 0, len(magic)) == magic, ())

    # The two most common formats are handled first, by shorter code.
    image = tf.cond(
        begins(b"\xff\xd8\xff"),
        jpeg,
        lambda: tf.cond(begins(PNG), png, lambda: other(contents)),
    )
    image.set_shape((None, None, 3))
    return image if channels == 3 else luma(image)


def luma(image):
    """Converts RGB to one channel in exact integers: uint8 `(..., 3)` to `(..., 1)`."""
    total = tf.reduce_sum(tf.cast(image, tf.int32) * tf.constant(LUMA), axis=-1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(total + 32768, 16), tf.uint8)


def resize(pixels, size):
    """Resamples the central square of an image to `size` by an antialiased triangle filter.

    The side of the square is the shorter side of the image. If an odd number of pixels is cut off,
    the larger half is cut at the bottom or at the right. Values are rounded to the nearest
    integer, and halves are rounded up.

    Args:
        pixels: uint8 tensor of shape `(h, w, channels)` or `(n, h, w, channels)`.
        size: int, the side of the result in pixels.

    Returns:
        uint8 tensor of shape `(size, size, channels)` or `(n, size, size, channels)`. An image
        that has this size already is returned unchanged.
    """

    def resampled():
        shape = tf.shape(pixels)
        height, width = shape[-3], shape[-2]
        side = tf.minimum(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = pixels[..., top : top + side, left : left + side, :]
        # This is exact if the square has that size already, because every weight is then 0 or 1.
        floats = tf.image.resize(square, (size, size), method="bilinear", antialias=True)
        return tf.cast(tf.clip_by_value(tf.floor(floats + 0.5), 0.0, 255.0), tf.uint8)

    same = tf.reduce_all(tf.equal(tf.shape(pixels)[-3:-1], size))
    result = tf.cond(same, lambda: tf.identity(pixels), resampled)
    result.set_shape((*pixels.shape[:-3], size, size, pixels.shape[-1]))
    return result


@tf.function(
    input_signature=[tf.TensorSpec([], tf.string)],
    autograph=False,
    # This is kept out of the caller's graph, where its operations would cost time for every JPEG.
    experimental_attributes={"_noinline": True},
)
def _decode_other(contents):
    """Decodes, for `decode`, images that are neither JPEG nor PNG."""
    head = tf.strings.substr(contents, 0, HEAD) + b"\0" * HEAD
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(head, 0, HEAD), tf.uint8), tf.int64)

    def image(size, channels=3):
        with tf.control_dependencies([_check(size)]):
            return tf.io.decode_image(contents, channels, expand_animations=False)

    def palette_bmp():  # The decoder would take the palette's indices for grey levels.
        table = tf.strings.substr(contents, 14 + _number(head, 14, 4), 4 * 256)
        table = tf.reshape(tf.io.decode_raw(table, tf.uint8), (-1, 4))[:, 2::-1]
        return tf.gather(table, tf.cast(image(_bmp_size(head), channels=0)[..., 0], tf.int32))

    def bmp():  # The image has 24 bits per pixel, or 32 with alpha.
        return image(_bmp_size(head), channels=0)[..., :3]

    def webp():
        # With expand_animations=False, TensorFlow 2.21 writes past its buffer for an animation.
        moves = _at(head, 12, b"VP8X") & (_number(head, 20, 1) // 2 % 2 == 1)
        still = tf.debugging.assert_equal(moves, False, "an animated WebP is not read")
        with tf.control_dependencies([still]):
            return image(_webp_size(head), channels=0)[..., :3]

    def gif():  # It is cut short, because the decoder unpacks all frames.
        frame, size = _first_frame(contents)
        with tf.control_dependencies([_check(size)]):
            return tf.io.decode_image(frame, 3, expand_animations=False)

    def unknown():  # The decoder gives its error message.
        return image((tf.constant(0, tf.int64), tf.constant(0, tf.int64)))

    branches = [
        (_at(head, 0, b"BM") & (_number(head, 28, 2) == 8), palette_bmp),
        (_at(head, 0, b"BM"), bmp),
        (_at(head, 0, b"RIFF") & _at(head, 8, b"WEBP"), webp),
        (_at(head, 0, b"GIF8"), gif),
        (tf.constant(True), unknown),
    ]
    matches = tf.stack([condition for condition, _ in branches])
    first = tf.argmax(tf.cast(matches, tf.int32), output_type=tf.int32)
    return tf.switch_case(first, [branch for _, branch in branches])


@tf.function(
    input_signature=[tf.TensorSpec([], tf.string)],
    autograph=False,
    experimental_attributes={"_noinline": True},
)
def _decode_rest(contents):
    """Decodes, for `decode_file`, images that are neither JPEG nor PNG."""
    head = tf.strings.substr(contents, 0, images.HEAD)
    mine = tf.numpy_function(images.by_pillow, [head], tf.bool, stateful=False)

    def by_pillow():
        image = tf.numpy_function(_pillow, [contents], tf.uint8, stateful=False)
        there = tf.debugging.assert_greater(tf.size(image), 0, "not a readable image")
        with tf.control_dependencies([there]):
            return tf.ensure_shape(image, (None, None, 3))

    return tf.cond(tf.ensure_shape(mine, ()), by_pillow, lambda: _decode_other(contents))


def _pillow(contents):
    """Returns an image file's pixels, or none if it is unreadable: an error would fill the log."""
    try:
        return images.decode(contents)
    except images.ImageError:
        return np.zeros((0, 0, 3), np.uint8)


@tf.function(
    input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.string)],
    autograph=False,
    experimental_attributes={"_noinline": True},
)
def _upright(image, contents):
    """Turns an image upright. EXIF values 2, 4, 5 and 7 mirror it, and all but 2 turn it."""
    orientation = _orientation(contents)

    def among(*values):
        return tf.reduce_any(orientation == tf.constant(values, tf.int64))

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(among(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(among(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)


def _orientation(contents):
    """Returns the orientation in EXIF tags that begin at byte 6 or 24, as int64, or 1 without."""
    # Tags take at most 64 KiB. Zeros stand for the bytes beyond the end.
    data = tf.io.decode_raw(tf.strings.substr(contents, 0, 2**16 + 24), tf.uint8)
    room = 2 + 12 * TAGS
    end = tf.size(data, tf.int64)
    data = tf.cast(tf.concat([data, tf.zeros([30 + room], tf.uint8)], 0), tf.int64)

    def at(place, length):
        return tf.slice(data, [place], [length])

    first = tf.reduce_all(at(6, 4) == tf.constant(list(b"Exif"), tf.int64))
    start = tf.where(first, tf.constant(12, tf.int64), 30)
    little = tf.equal(data[start], ord("I"))

    def number(parts):  # The numbers are read along the last axis.
        low = tf.constant([256**place for place in range(parts.shape[-1])], tf.int64)
        return tf.reduce_sum(parts * tf.where(little, low, low[::-1]), axis=-1)

    table = tf.minimum(start + number(at(start + 4, 4)), end)
    entries = tf.reshape(at(table + 2, 12 * TAGS), (TAGS, 12))
    there = tf.range(TAGS, dtype=tf.int64) < number(at(table, 2))
    there &= tf.equal(number(at(start + 2, 2)), 42)
    mine = there & (number(entries[:, :2]) == ORIENTATION)
    value = tf.reduce_max(tf.where(mine, number(entries[:, 8:10]), 1))
    return tf.where(value <= 8, value, 1)


def _check(size):
    """Asserts that an image of size `(height, width)` is not too large."""
    return tf.debugging.assert_less_equal(
        size[0] * size[1],
        tf.constant(MAX_PIXELS, tf.int64),
        "the image has too many pixels",
    )


def _at(head, start, magic):
    return tf.reduce_all(head[start : start + len(magic)] == tf.constant(list(magic), tf.int64))


def _number(head, start, length):
    """Reads an unsigned little-endian number in a header, as int64."""
    weights = tf.constant([256**place for place in range(length)], tf.int64)
    return tf.reduce_sum(head[start : start + length] * weights)


def _bmp_size(head):
    height = _number(head, 22, 4)  # It is negative if the rows run from the top.
    return tf.minimum(height, 2**32 - height), _number(head, 18, 4)


def _first_frame(contents):
    """Returns a GIF cut off after its first frame, and the height and width of that frame."""
    data = tf.io.decode_raw(contents, tf.uint8)

    def byte(place):  # This fails beyond the end of a file that is cut short.
        return tf.cast(data[place], tf.int32)

    def table(flags):  # This is the length of a colour table.
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def skip_blocks(place):  # Each begins with its length, and length 0 ends them.
        return skip(lambda p: byte(p) > 0, lambda p: p + byte(p) + 1, place) + 1

    def skip(condition, step, place):
        return tf.while_loop(condition, lambda p: (step(p),), (place,))[0]

    extension, frame = 0x21, 0x2C
    start = 13 + table(byte(10))
    start = skip(lambda p: tf.equal(byte(p), extension), lambda p: skip_blocks(p + 2), start)
    with tf.control_dependencies(
        [tf.debugging.assert_equal(byte(start), frame, "the file has no frame")]
    ):
        width = byte(start + 5) + 256 * byte(start + 6)
        height = byte(start + 7) + 256 * byte(start + 8)
        end = skip_blocks(start + 11 + table(byte(start + 9)))
    size = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    return tf.strings.substr(contents, 0, end) + b";", size


def _webp_size(head):
    bits = _number(head, 21, 4)
    return tf.case(
        [
            (
                _at(head, 12, b"VP8X"),
                lambda: (_number(head, 27, 3) + 1, _number(head, 24, 3) + 1),
            ),
            (
                _at(head, 12, b"VP8L"),
                lambda: (bits // 2**14 % 2**14 + 1, bits % 2**14 + 1),
            ),
        ],
        default=lambda: (_number(head, 28, 2) % 2**14, _number(head, 26, 2) % 2**14),
    )
