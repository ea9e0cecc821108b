"""Pixels by Pillow: against the arrays that were written, and against TensorFlow's decoder."""

import doctest
import io
import pathlib
import re
import struct
import sys
import warnings

import fuzz_images
import numpy as np
import pytest
import tensorflow as tf
from image_files import ODD, PHOTO, tagged
from PIL import Image, WebPImagePlugin

from dah_tf import images
from dah_tf.data import pixels
from dah_tf.images import decoding

PICTURE = Image.fromarray(PHOTO)
ALPHA = PICTURE.copy()
ALPHA.putalpha(Image.fromarray(np.arange(PHOTO[..., 0].size).reshape(PHOTO.shape[:2]).astype("u1")))
GREY = np.asarray(PICTURE.convert("L"))
DEEP = np.random.default_rng(0).integers(0, 65536, (9, 7, 3)).astype(np.uint16)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def three(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def tiff(samples, orientation=1):
    """A TIFF of 16-bit RGB, which Pillow does not write."""
    height, width, _ = samples.shape
    body = samples.astype("<u2").tobytes()
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, 8 + len(body)),  # where its three values stand
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (274, 3, 1, orientation),
        (277, 3, 1, 3),
        (278, 3, 1, height),
        (279, 4, 1, len(body)),
    ]
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(body) + 6)
    return head + body + struct.pack("<3H", 16, 16, 16) + table + b"\0\0\0\0"


def turned(image, orientation):
    """Rows and columns as the eight orientations are defined: where row 0 and column 0 are."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):  # row 0 at the bottom (or, of 7 and 8, column 0)
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


INKS = np.random.default_rng(1).integers(0, 256, (8, 9, 4)).astype(np.uint8)
PAPER = 255 - INKS.astype(int)

# A file of each kind that TensorFlow does not read, and the pixels that it was made of.
EXACT = {
    "tiff": (encoded(PICTURE, "TIFF"), PHOTO),
    "tiff, big": (encoded(PICTURE, "TIFF", big_tiff=True), PHOTO),
    "tiff, LZW": (encoded(PICTURE, "TIFF", compression="tiff_lzw"), PHOTO),
    "tiff, deflate": (encoded(PICTURE, "TIFF", compression="tiff_adobe_deflate"), PHOTO),
    "tiff, alpha": (encoded(ALPHA, "TIFF"), PHOTO),
    "tiff, grey": (encoded(PICTURE.convert("L"), "TIFF"), three(GREY)),
    "tiff, grey with alpha": (encoded(ALPHA.convert("LA"), "TIFF"), three(GREY)),
    "tiff, one bit": (
        encoded(PICTURE.convert("1"), "TIFF", compression="group4"),
        three(np.asarray(PICTURE.convert("1")).astype(np.uint8) * 255),
    ),
    "tiff, palette": (
        encoded(PICTURE.quantize(50), "TIFF"),
        np.asarray(PICTURE.quantize(50).convert("RGB")),
    ),
    "tiff, CMYK": (
        encoded(Image.fromarray(INKS, "CMYK"), "TIFF"),
        PAPER[..., :3] * PAPER[..., 3:] // 255,
    ),
    "tiff, 16 bits": (tiff(DEEP), DEEP >> 8),
    "tiff, 16 bits, grey": (
        encoded(Image.fromarray(DEEP[..., 0]), "TIFF"),
        three(DEEP[..., 0] >> 8),
    ),
    "tiff, two pages": (
        encoded(PICTURE, "TIFF", save_all=True, append_images=[PICTURE.rotate(180)]),
        PHOTO,
    ),
    **{f"tiff, turned {i}": (tiff(DEEP, i), turned(DEEP >> 8, i)) for i in range(1, 9)},
    "webp, moving": (
        encoded(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(180)], lossless=True),
        PHOTO,
    ),
    "webp, moving, with tags": (
        encoded(
            PICTURE,
            "WEBP",
            save_all=True,
            append_images=[PICTURE.rotate(180)],
            lossless=True,
            exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
        ),
        PHOTO,  # as of a still one, the tags are not followed
    ),
    "jpeg 2000": (encoded(PICTURE, "JPEG2000"), PHOTO),
    "jpeg 2000, alpha": (encoded(ALPHA, "JPEG2000"), PHOTO),
    "ppm": (encoded(PICTURE, "PPM"), PHOTO),
    "pgm": (encoded(PICTURE.convert("L"), "PPM"), three(GREY)),
    "pgm, 16 bits": (
        b"P5 7 9 65535\n" + DEEP[..., 0].astype(">u2").tobytes(),
        three(DEEP[..., 0] >> 8),
    ),
    "bmp, one bit": (
        encoded(PICTURE.convert("1"), "BMP"),
        three(np.asarray(PICTURE.convert("1")).astype(np.uint8) * 255),
    ),
}


@pytest.mark.parametrize("kind", EXACT)
def test_pixels_are_those_that_were_written(kind):
    contents, expected = EXACT[kind]
    assert images.by_pillow(contents[: images.HEAD])
    found = images.decode(contents)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    luma = np.asarray(Image.fromarray(expected.astype(np.uint8)).convert("L"))
    np.testing.assert_array_equal(images.decode(contents, 1)[..., 0], luma)
    # Inside `tf.data`, as training and encoding do.
    for channels, wanted in ((3, expected), (1, luma[..., None])):
        dataset = tf.data.Dataset.from_tensors(contents)
        (one,) = dataset.map(lambda data, c=channels: pixels.decode_file(data, c))
        np.testing.assert_array_equal(one, wanted)
    with pytest.raises(tf.errors.InvalidArgumentError):  # the exported model's own stays as it is
        pixels.decode(contents)


FEW = PICTURE.quantize(4)
MOST = int(np.bincount(np.asarray(FEW).ravel()).argmax())  # the colour of most pixels

BOTH = {
    **{kind: make(PICTURE) for kind, make in ODD.items()},
    **{
        f"seed {i}": seed
        for i, seed in enumerate(fuzz_images.seeds())
        if not images.by_pillow(seed)
    },
    **{f"turned {i} {order}": tagged(i, order) for i in range(10) for order in "<>"},
    "gif, transparent": encoded(FEW, "GIF", transparency=MOST),
    "png, transparent palette": encoded(FEW, "PNG", transparency=MOST),
    "mpo": encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(180)]),
}


@pytest.mark.parametrize("kind", BOTH)
def test_both_ways_give_equal_pixels(kind):
    """Every format that both read: JPEG with tags, grey, CMYK, 16 bits, alpha, palettes, GIF."""
    contents = BOTH[kind]
    expected = pixels.decode(contents).numpy()
    np.testing.assert_array_equal(images.decode(contents), expected)
    np.testing.assert_array_equal(pixels.decode_file(contents), expected)


def test_avif():
    image = np.asarray(PICTURE.resize((64, 48)))
    contents = encoded(Image.fromarray(image), "AVIF", quality=100, subsampling="4:4:4")
    found = images.decode(contents)
    assert abs(found.astype(int) - image).max() <= 2  # through YUV of 8 bits
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encoded(Image.fromarray(image), "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    np.testing.assert_array_equal(images.decode(lying), turned(found, 6))
    frame = Image.fromarray(image[::-1])
    moving = encoded(Image.fromarray(image), "AVIF", save_all=True, append_images=[frame])
    assert images.decode(moving).shape == image.shape


def test_heic():
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for tags in (None, exif.tobytes()):
        buffer = io.BytesIO()
        heif.from_pillow(PICTURE).save(buffer, quality=-1, chroma=444, exif=tags)
        files.append(buffer.getvalue())
    upright, lying = (images.decode(contents) for contents in files)
    assert abs(upright.astype(int) - PHOTO).max() <= 3  # through YUV of 8 bits
    np.testing.assert_array_equal(lying, turned(upright, 6))
    np.testing.assert_array_equal(pixels.decode_file(files[1]), lying)


def test_heic_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(images.ImageError, match=r"HEIC needs pillow-heif.*dah_tf\[heif\]"):
        images.decode((tmp_path / "a.heic").read_bytes())
    assert "dah_tf[heif]" in images.why_unreadable(tmp_path / "a.heic")


@pytest.mark.parametrize("kind", ["I", "F"])
def test_samples_without_a_range_are_refused(kind):
    with pytest.raises(images.ImageError, match="32 bits"):
        images.decode(encoded(PICTURE.convert(kind), "TIFF"))


def test_a_large_picture_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", PHOTO[..., 0].size - 1)
    monkeypatch.setattr(Image.core, "new", None)  # what takes memory for pixels
    for form in ("TIFF", "AVIF", "JPEG2000", "PPM", "BMP", "PNG", "GIF", "JPEG", "WEBP"):
        with pytest.raises(images.ImageError, match="too many pixels"):
            images.decode(FORMS[form])


FORMS = {
    form: encoded(PICTURE, form)
    for form in ("TIFF", "AVIF", "JPEG2000", "PPM", "BMP", "PNG", "GIF", "JPEG", "WEBP")
}


def test_a_bomb_takes_no_memory(monkeypatch):
    """An animated WebP of the largest canvas: Pillow would take 2 GiB as soon as it opens it."""
    monkeypatch.setattr(WebPImagePlugin._webp, "WebPAnimDecoder", None)
    contents = bytearray(EXACT["webp, moving"][0])
    contents[24:30] = (16383).to_bytes(3, "little") * 2
    large = tiff(DEEP).replace(
        struct.pack("<HHII", 256, 3, 1, 7), struct.pack("<HHII", 256, 4, 1, 2**27)
    )
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is held now
    before = peak()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for bomb in (bytes(contents), large):
            with pytest.raises(images.ImageError, match="too many pixels"):
                images.decode(bomb)
            with pytest.raises(tf.errors.InvalidArgumentError, match="not a readable image"):
                pixels.decode_file(bomb)
    assert peak() - before < 300_000  # KiB


def peak():
    """The most memory that this process held, in KiB."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_image_errors(capfd):
    seeds = [contents for contents, _ in EXACT.values()] + [FORMS["AVIF"]]
    decoded = refused = 0
    for number in range(1500):
        contents = fuzz_images.mutated(number, seeds)
        if images.by_pillow(contents[: images.HEAD]):
            try:
                assert images.decode(contents).shape[2] == 3
                decoded += 1
            except images.ImageError as error:
                assert "\n" not in str(error)
                refused += 1
    capfd.readouterr()  # the C libraries write to stderr
    assert decoded > 100 and refused > 100


def test_headers_tell_sizes_and_faults(tmp_path):
    for form, contents in FORMS.items():
        (tmp_path / form).write_bytes(contents)
        assert images.size_of(tmp_path / form) == PHOTO.shape[:2], form
        (tmp_path / "half").write_bytes(contents[: len(contents) // 2])
        assert images.why_unreadable(tmp_path / "half").startswith("a damaged "), form
    for lossless in (False, True):
        for image in (PICTURE, ALPHA):
            (tmp_path / "a").write_bytes(encoded(image, "WEBP", lossless=lossless))
            assert images.size_of(tmp_path / "a") == PHOTO.shape[:2]
    (tmp_path / "a").write_bytes(b"")
    assert images.size_of(tmp_path / "a") is None
    assert images.why_unreadable(tmp_path / "a") == "the file is empty"
    (tmp_path / "a").write_bytes(b"text")
    assert images.why_unreadable(tmp_path / "a") == "its content is not an image"
    assert images.why_unreadable(tmp_path / "none") == "no such file"
    assert images.why_unreadable(tmp_path) == "Is a directory"


@pytest.mark.parametrize("module", ["dah_tf.images.kinds", "dah_tf.images.decoding"])
def test_examples(module):
    __import__(module)
    result = doctest.testmod(sys.modules[module])
    assert result.attempted and not result.failed
