"""Thumbnails: every kind of image as the network sees it, and a reason for every other file."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dah_tf.gallery import thumbnails

BLUE = (10, 20, 200)


def png_header(width, height):
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xd8\xffoops", "not a readable image"),
        (b"no image at all", "not a readable image"),
        (b"P6 1 1 255 \0\0\0", "not a readable image"),  # PPM, which Pillow could read
        (b"", "not a readable image"),
        (png_header(0, 0), "not a readable image"),
        (png_header(9, 9), "not a readable image"),
        (png_header(100000, 100000), "too many pixels"),
        # Pillow itself would go on to decode it: its own limit is 179 million.
        (png_header(8192, 8193), "too many pixels"),
        (png_header(8192, 8192), "not a readable image"),
    ],
)
def test_damaged_and_huge_images(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(thumbnails.Unreadable, match=reason):
        thumbnails.thumbnail(str(tmp_path / "a.png"), 128, 128)


def test_an_image_cut_short(tmp_path):
    image = Image.effect_noise((300, 300), 50)
    for kind in ("jpg", "png", "gif", "bmp", "webp"):
        path = tmp_path / f"a.{kind}"
        image.save(path)
        thumbnails.thumbnail(str(path), 128, 128)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(thumbnails.Unreadable, match="not a readable image"):
            thumbnails.thumbnail(str(path), 128, 128)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    reasons = {"pipe.png": "not a file", "": "not a file"}
    reasons |= dict.fromkeys(("missing\udcff\n.png", "a\0b", "a" * 999), "file not found")
    for name, reason in reasons.items():
        with pytest.raises(thumbnails.Unreadable, match=reason):
            thumbnails.thumbnail(f"{tmp_path}/{name}", 128, 128)
    with pytest.raises(thumbnails.Unreadable, match="the file is not known"):
        thumbnails.thumbnail(None, 128, 128)


def test_every_kind_of_image_as_the_network_sees_it(tmp_path):
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000 + 200
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, *BLUE])
    clear = Image.new("RGBA", (8, 8), (*BLUE, 0))
    half = np.zeros((8, 8, 4), np.uint8)
    half[:, :4] = (200, 0, 0, 255)
    half[:, 4:] = (0, 200, 0, 0)
    red, green = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "lime")
    turned = Image.Exif()
    turned[0x0112] = 6
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, :4] = 255
    files = {
        "deep.png": (Image.fromarray(ramp), {}, (ramp >> 8)[..., None] * [1, 1, 1]),
        "palette.png": (palette, {"transparency": 1}, BLUE),
        "alpha.png": (clear, {}, BLUE),
        "clear.png": (Image.new("RGB", (8, 8), BLUE), {"transparency": BLUE}, BLUE),
        "alpha.webp": (Image.new("LA", (8, 8), (90, 0)), {"lossless": True, "exact": True}, 90),
        "grey.png": (Image.new("L", (8, 8), 77), {}, 77),
        "bits.png": (Image.new("1", (8, 8), 1), {}, 255),
        "colours.bmp": (Image.new("RGB", (8, 8), BLUE), {}, BLUE),
        "print.jpg": (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), {"quality": 100}, (255, 0, 0)),
        "moves.gif": (red, {"save_all": True, "append_images": [green]}, (255, 0, 0)),
        "moves.webp": (
            red,
            {"save_all": True, "append_images": [green], "lossless": True},
            (255, 0, 0),
        ),
        "holes.gif": (Image.fromarray(half), {}, half[..., :3] * (half[..., 3:] > 0)),
        "turned.png": (Image.fromarray(wide), {"exif": turned}, wide),
        "turned.jpg": (
            Image.fromarray(wide),
            {"exif": turned, "quality": 100, "subsampling": 0},
            np.rot90(wide, -1),
        ),
    }
    for name, (image, options, expected) in files.items():
        path = tmp_path / name
        image.save(path, **options)
        small, crisp = thumbnails.thumbnail(str(path), 8, 8)
        sharp, enlarged = thumbnails.thumbnail(str(path), 16, 16)
        assert (crisp, enlarged) == (False, True)
        for found, factor in ((small, 1), (sharp, 2)):
            assert found.mode == "RGB"
            values = np.asarray(found).astype(int)
            size = image.size if name == "turned.jpg" else image.size[::-1]
            whole = np.broadcast_to(expected, (*size, 3))
            assert abs(values - whole.repeat(factor, 0).repeat(factor, 1)).max() <= 2, name


def test_sizes(tmp_path):
    sizes = {  # the longer side at most half of 128: by a whole number; else 160
        (1, 1): (128, 128),
        (32, 32): (128, 128),
        (28, 20): (112, 80),
        (64, 64): (128, 128),
        (65, 13): (160, 32),
        (100, 100): (160, 160),
        (600, 300): (160, 80),
        (1, 5000): (1, 160),
    }
    for size, expected in sizes.items():
        for name in ("a.png", "a.jpg"):
            Image.new("RGB", size, BLUE).save(tmp_path / name)
            found, crisp = thumbnails.thumbnail(str(tmp_path / name), 128, 160)
            assert found.size == expected, size
            assert crisp == (max(size) <= 64)


def test_small_images_stay_sharp_and_large_ones_are_smooth(tmp_path):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (32, 28, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    found, _ = thumbnails.thumbnail(str(path), 128, 160)
    assert np.array_equal(np.asarray(found), noise.repeat(4, 0).repeat(4, 1))
    stripes = np.zeros((300, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(path)
    found, _ = thumbnails.thumbnail(str(path), 128, 160)
    assert abs(np.asarray(found).astype(int)[:, 3:-3] - 128).max() < 30


def test_a_large_jpeg_is_decoded_reduced(tmp_path, monkeypatch):
    Image.new("RGB", (3200, 1600), BLUE).save(tmp_path / "a.jpg")
    decoded = []
    plain = thumbnails._plain
    monkeypatch.setattr(thumbnails, "_plain", lambda im: decoded.append(im.size) or plain(im))
    found, _ = thumbnails.thumbnail(str(tmp_path / "a.jpg"), 128, 160)
    assert decoded == [(400, 200)]
    assert np.abs(np.asarray(found).astype(int) - BLUE).max() <= 3
