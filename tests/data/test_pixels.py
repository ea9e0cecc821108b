"""Decoding and resizing, compared to PIL and to a resampling in NumPy."""

import io
import pathlib
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from image_files import ODD, PHOTO, PHOTOGRAPHS, crops, encoded, tagged
from PIL import Image, ImageOps
from sklearn.datasets import load_digits

from dah_tf.data import pixels


def by_pil(contents, mode="RGB"):
    return np.asarray(Image.open(io.BytesIO(contents)).convert(mode)).reshape(
        *Image.open(io.BytesIO(contents)).size[::-1], -1
    )


DIGIT = np.round(load_digits().images[5] * (255 / 16)).astype(np.uint8)


def through_tf_data(files, channels=3):
    """Decodes files inside `tf.data`, as training does."""
    dataset = tf.data.Dataset.from_tensor_slices(files)
    return list(dataset.map(lambda data: pixels.decode(data, channels)).as_numpy_iterator())


def test_jpeg_is_pils_bit_for_bit():
    files = []
    for i, crop in enumerate(crops(300)):
        files.append(
            encoded(
                crop,
                "JPEG",
                quality=(75, 90, 30, 100)[i % 4],
                subsampling=("4:2:0", "4:4:4", "4:2:2")[i % 3],
                progressive=i % 5 == 0,
            )
        )
    for digit in load_digits().images[:50]:
        files.append(encoded((digit * 15).astype(np.uint8), "JPEG"))
    for contents, decoded in zip(files, through_tf_data(files), strict=True):
        assert decoded.dtype == np.uint8
        assert np.array_equal(decoded, by_pil(contents))
    # The default transform of the decoder would give other pixels.
    fast = [tf.io.decode_jpeg(contents, channels=3).numpy() for contents in files[:100]]
    assert any(not np.array_equal(a, by_pil(b)) for a, b in zip(fast, files, strict=False))


@pytest.mark.parametrize("kind", ODD)
def test_other_formats_are_pils_bit_for_bit(kind):
    contents = ODD[kind](Image.fromarray(PHOTO))
    assert np.array_equal(pixels.decode(contents), by_pil(contents))
    (traced,) = through_tf_data([contents])
    assert np.array_equal(traced, by_pil(contents))


@pytest.mark.parametrize("kind", ODD)
def test_one_channel_is_pils_luma(kind):
    contents = ODD[kind](Image.fromarray(PHOTO))
    colour = Image.fromarray(by_pil(contents))
    (grey,) = through_tf_data([contents], channels=1)
    assert grey.shape == (*PHOTO.shape[:2], 1)
    assert np.array_equal(grey[..., 0], np.asarray(colour.convert("L")))


def test_grey_levels_survive():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    contents = encoded(levels, "PNG")
    assert np.array_equal(pixels.decode(contents, 1)[..., 0], levels)
    assert np.array_equal(pixels.luma(np.stack([levels] * 3, axis=-1))[..., 0], levels)


def test_sixteen_bits_keep_their_high_byte():
    values = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64 + 63
    contents = encoded(Image.fromarray(values), "PNG")
    assert np.array_equal(pixels.decode(contents)[..., 0], values >> 8)


def test_cmyk_jpeg_becomes_rgb():
    contents = encoded(PHOTO, "JPEG", mode="CMYK", quality=95)
    decoded = pixels.decode(contents).numpy().astype(int)
    assert decoded.shape == PHOTO.shape
    assert abs(decoded - by_pil(contents)).max() <= 2


def test_first_frame_of_a_gif():
    frames = [Image.fromarray(np.full((9, 7, 3), value, np.uint8)) for value in (10, 200, 90)]
    contents = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(contents)).n_frames == 3
    assert np.array_equal(pixels.decode(contents), by_pil(contents))
    assert (pixels.decode(contents).numpy() == 10).all()


@pytest.mark.slow
@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("order", "<>")
def test_photographs_are_turned_upright(orientation, order):
    more = [(0x010F, 3, 1, 6), (0x0128, 3, 1, 2)]
    files = [
        tagged(orientation, order),
        tagged(orientation, order, more),
        tagged(orientation, order, jfif=False),
    ]
    for contents, decoded in zip(files, through_tf_data(files), strict=True):
        image = Image.open(io.BytesIO(contents))
        assert image.getexif()[0x0112] == orientation
        expected = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(decoded, expected)
        assert (decoded.shape == PHOTO.shape) == (orientation not in (5, 6, 7, 8))
    (grey,) = through_tf_data(files[:1], channels=1)
    assert grey.shape[:2] == decoded.shape[:2]


def test_damaged_tags_turn_nothing():
    whole, rng = tagged(6, "<"), np.random.default_rng(0)
    begin, end = whole.index(b"Exif"), whole.index(b"Exif") + 30
    plain = by_pil(encoded(PHOTO, "JPEG", quality=90))
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(whole))))
    assert not np.array_equal(plain[:1, :1], turned[:1, :1])
    files = []
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(begin + 6, end, rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        files.append(bytes(damaged))
    # The table of tags begins beyond the end, has no entries, or has an unknown byte order.
    for place, content in ((10, b"\xff\xff\xff\xff"), (14, b"\0\0"), (6, b"XX"), (8, b"\0\0")):
        place += begin
        files.append(whole[:place] + content + whole[place + len(content) :])
    for decoded in through_tf_data(files):
        assert decoded.shape[:2] in (PHOTO.shape[:2], PHOTO.shape[1::-1])
    for decoded in through_tf_data(files[-4:]):
        np.testing.assert_array_equal(decoded, plain)


def test_other_formats_tags_are_not_followed():
    tags = Image.Exif()
    tags[0x0112] = 6
    for form in ("PNG", "WEBP"):
        assert pixels.decode(encoded(PHOTO, form, exif=tags)).shape == PHOTO.shape


def animated_webp():
    frames = [Image.fromarray(np.full((40, 40, 3), value, np.uint8)) for value in (10, 200)]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])


BROKEN = {
    "nothing": b"",
    "text": b"no image at all",
    "only a jpeg's first bytes": b"\xff\xd8\xff",
    "only a png's first bytes": b"\x89PNG\r\n\x1a\n",
    "only a gif's first bytes": b"GIF89a",
    "only a bmp's first bytes": b"BM",
    "only a webp's first bytes": b"RIFF\0\0\0\0WEBP",
    "half a jpeg": encoded(PHOTO, "JPEG")[:500],
    "half a png": encoded(PHOTO, "PNG")[:1500],
    "half a gif": encoded(PHOTO, "GIF")[:300],
    "half a bmp": encoded(PHOTO, "BMP")[:1500],
    "half a webp": encoded(PHOTO, "WEBP", lossless=True)[:500],
    "a moving webp": animated_webp(),
    "a tiff": encoded(PHOTO, "TIFF"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_errors(kind):
    with pytest.raises(tf.errors.InvalidArgumentError):
        pixels.decode(BROKEN[kind])
    with pytest.raises(tf.errors.InvalidArgumentError):
        through_tf_data([BROKEN[kind]])


def large(form, width, height):
    """Returns a file whose header promises `width` x `height` pixels, but which has almost none."""
    if form == "png":
        body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        head = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
        return b"\x89PNG\r\n\x1a\n" + head
    small = {
        "jpeg": encoded(PHOTO, "JPEG"),
        "gif": encoded(PHOTO, "GIF"),
        "bmp": encoded(PHOTO, "BMP"),
        "webp": encoded(PHOTO, "WEBP", quality=50),
    }[form]
    if form == "jpeg":
        at = small.index(b"\xff\xc0") + 5
        return small[:at] + struct.pack(">HH", height, width) + small[at + 4 :]
    at, layout = {
        "gif": (
            small.find(b"\x2c\0\0\0\0") + 5,
            "<HH",
        ),  # the size of the frame, and not that of the screen
        "bmp": (18, "<ii"),
        "webp": (26, "<HH"),
    }[form]
    packed = struct.pack(layout, width, height)
    return small[:at] + packed + small[at + len(packed) :]


@pytest.mark.parametrize("form", ["jpeg", "png", "gif", "bmp", "webp"])
def test_too_many_pixels_are_refused_by_the_header(form):
    side = 16_000  # 256 million
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
        pixels.decode(large(form, side, side))
    try:  # the decoder handles a header with fewer pixels
        pixels.decode(large(form, 900, 800))
    except tf.errors.InvalidArgumentError as error:
        assert "too many pixels" not in str(error)


def test_later_frames_of_a_gif_are_not_unpacked():
    """The later frames would take 2.5 GB. A broken end of the file does no harm."""
    large = encoded(np.zeros((5000, 5000), np.uint8), "GIF")
    small = encoded(np.full((5, 6), 77, np.uint8), "GIF")
    frame = large[large.index(b"\x2c\0\0\0\0") : -1]
    pathlib.Path("/proc/self/clear_refs").write_text(
        "5"
    )  # resets the peak to the memory in use now
    before = peak()
    assert np.array_equal(pixels.decode(small[:-1] + frame * 100 + b";"), by_pil(small))
    assert np.array_equal(pixels.decode(small[:-1] + frame[:1000]), by_pil(small))
    assert peak() - before < 500_000  # KiB


def peak():
    """Returns the peak memory of this process in KiB."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def test_bmp_from_the_top():
    contents = encoded(PHOTO[:, :32], "BMP")  # rows of 32 x 3 bytes need no padding
    head, rows = contents[:54], PHOTO[:, :32, ::-1].tobytes()
    turned = head[:22] + struct.pack("<i", -len(PHOTO)) + head[26:] + rows
    assert np.array_equal(pixels.decode(turned), PHOTO[:, :32])


def test_bmp_from_the_top_is_measured_too():
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
        pixels.decode(large("bmp", 16_000, -16_000))


def triangle(count, size):
    """Returns the weights `(size, count)` of an antialiased triangle filter by its definition."""
    scale = count / size
    width = max(scale, 1.0)  # half the base of the triangle, which is at least one source pixel
    centres = (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(count)[None, :] + 0.5 - centres[:, None]) / width
    weights = np.maximum(0.0, 1.0 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def resized(image, size):
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top : top + side, left : left + side].astype(float)
    weights = triangle(side, size)
    return np.einsum("yh,xw,hwc->yxc", weights, weights, square)


@pytest.mark.parametrize("shape", [(32, 32), (8, 8), (31, 45), (45, 31), (100, 77), (17, 64)])
@pytest.mark.parametrize("size", [16, 24, 32])
def test_resize_is_an_antialiased_triangle_filter(shape, size):
    image = PHOTOGRAPHS[0][100 : 100 + shape[0], 200 : 200 + shape[1]]
    got = pixels.resize(image, size).numpy()
    assert got.shape == (size, size, 3) and got.dtype == np.uint8
    # The error is half a level from rounding, and a little from float32.
    assert abs(got - resized(image, size)).max() <= 0.5 + 1e-3


def test_right_size_is_left_as_it_is():
    image = PHOTOGRAPHS[1][:32, :32]
    assert np.array_equal(pixels.resize(image, 32), image)


def test_central_square_is_cut_out():
    image = np.zeros((10, 25, 1), np.uint8)
    image[:, 7:17] = 255  # of 15 surplus columns, 7 are cut on the left and 8 on the right
    assert (pixels.resize(image, 10).numpy() == 255).all()
    assert (pixels.resize(image, 5).numpy() == 255).all()
    tall = image.transpose(1, 0, 2)
    assert (pixels.resize(tall, 10).numpy() == 255).all()


def test_halves_are_rounded_up():
    # Every output pixel is the mean of 2 and 3, because the filter is symmetric.
    image = np.tile(np.array([[2, 3], [3, 2]], np.uint8), (8, 8))[..., None]
    middle = pixels.resize(image, 8).numpy()[1:-1, 1:-1]
    assert (middle == 3).all()


@pytest.mark.parametrize("size", [16, 32])
def test_a_batch_is_resized_like_its_images(size):
    images = np.stack([PHOTOGRAPHS[0][i : i + 20, i : i + 32] for i in range(5)])
    batch = pixels.resize(images, size).numpy()
    assert np.array_equal(batch, [pixels.resize(image, size).numpy() for image in images])


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_are_static_in_a_graph(channels):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def load(contents):
        image = pixels.decode(contents, channels)
        assert image.shape.as_list() == [None, None, channels]
        small = pixels.resize(image, 12)
        assert small.shape.as_list() == [12, 12, channels]
        return small

    contents = encoded(PHOTO, "JPEG")
    eager = pixels.resize(pixels.decode(contents, channels), 12)
    assert np.array_equal(load(contents), eager)
