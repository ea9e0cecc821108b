"""Which files are images: by their content, and by their names."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from dah_tf import images
from dah_tf.images import kinds

PICTURE = Image.fromarray(np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3))


def encoded(form, mode="RGB", **options):
    buffer = io.BytesIO()
    PICTURE.convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def box(*brands):
    """The first box of an HEIF or AVIF file."""
    return (
        (16 + 4 * len(brands[1:])).to_bytes(4, "big")
        + b"ftyp"
        + brands[0]
        + b"\0\0\0\0"
        + (b"".join(brands[1:]))
    )


FILES = {
    "JPEG": [encoded("JPEG"), encoded("MPO", save_all=True, append_images=[PICTURE])],
    "PNG": [encoded("PNG")],
    "GIF": [encoded("GIF")],
    "BMP": [encoded("BMP"), encoded("BMP", "P"), encoded("BMP", "RGBA")],
    "rare BMP": [encoded("BMP", "1"), b"BM" + bytes(12) + b"\x0c\0\0\0" + bytes(20)],
    "WebP": [encoded("WEBP"), encoded("WEBP", lossless=True), encoded("WEBP", "RGBA")],
    "animated WebP": [encoded("WEBP", save_all=True, append_images=[PICTURE.rotate(90)])],
    "TIFF": [encoded("TIFF"), encoded("TIFF", big_tiff=True), b"MM\0*\0\0\0\x08"],
    "AVIF": [encoded("AVIF"), box(b"mif1", b"avif", b"mif1")],
    "HEIC": [box(b"heic", b"mif1", b"heic"), box(b"mif1", b"mif1", b"heic")],
    "JPEG 2000": [encoded("JPEG2000"), encoded("JPEG2000", no_jp2=True)],
    "PNM": [encoded("PPM"), encoded("PPM", "L"), b"P1\n2 2\n0110"],
    None: [
        b"",
        b"\xff\xd8",
        b"%PDF-1.7 ",
        b"<!doctype html>",
        b"PK\x03\x04",
        box(b"isom", b"isom", b"mp42"),  # a film
        b"BMW and other cars",
        b"P67 ",
        b"RIFF\0\0\0\0WAVE",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",  # Thumbs.db
    ],
}


@pytest.mark.parametrize("kind", FILES)
def test_content_tells_the_kind(kind):
    for contents in FILES[kind]:
        assert images.kind_of(contents[: images.HEAD]) == kind, contents[:20]
        assert images.by_pillow(contents) == (kind not in kinds.TENSORFLOW and kind is not None)
        for length in range(min(64, len(contents))):  # a file cut short is no error
            images.kind_of(contents[:length])


@pytest.mark.parametrize(
    ("name", "contents", "expected"),
    [
        ("a.jpg", b"not at all", True),  # damaged, and told of
        ("a.JPEG", b"", True),
        ("a.txt", encoded("PNG"), True),
        ("a", encoded("TIFF"), True),
        ("a", b"", False),
        ("notes.txt", b"to do", False),
        ("Thumbs.db", FILES[None][-1], False),
        ("a.dng", encoded("TIFF"), False),
        ("a.CR2", encoded("TIFF"), False),
        ("\udcff.tif", b"", True),
    ],
)
def test_name_and_content_tell_an_image(tmp_path, name, contents, expected):
    path = tmp_path / name
    path.write_bytes(contents)
    assert images.is_image(path) == images.is_image(os.fsencode(path)) == expected


def test_what_cannot_be_opened(tmp_path):
    names = ("a.png", "a", "a.txt")
    for name in names:
        (tmp_path / name).symlink_to("nowhere")
    assert [images.is_image(tmp_path / name) for name in names] == [True, True, False]
    (tmp_path / "folder.d").mkdir()
    assert images.is_image(tmp_path / "folder.d")


def test_other_files_are_counted_by_their_ending():
    assert images.name_kind("x/Thumbs.DB") == ".db"
    assert images.name_kind(b"x/README") == "no ending"
