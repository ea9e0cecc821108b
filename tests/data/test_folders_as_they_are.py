"""Folders of real users: other files, broken files, formats of phones, and repeated images."""

import os
import pathlib

import numpy as np
import pytest
from image_files import crops, encoded
from PIL import Image

from dah_tf import data

PICTURES = [Image.fromarray(image) for image in crops(60, 40, 41)]


def write(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)


@pytest.fixture
def photos(tmp_path):
    """Writes 30 photographs of three classes in every format that phones and scanners use."""
    forms = ("JPEG", "TIFF", "PNG", "AVIF", "WEBP", "JPEG2000", "MPO", "BMP")
    for number, picture in enumerate(PICTURES[:30]):
        form = forms[number % len(forms)]
        more = {"save_all": True, "append_images": PICTURES[:1]} if form in ("MPO", "WEBP") else {}
        contents = encoded(picture, form, **more)
        write(tmp_path / "photos" / "abc"[number % 3] / f"{number:02}.{form.lower()}", contents)
    return tmp_path / "photos"


@pytest.mark.parametrize("gib", [4.0, 1e-9], ids=["cached", "uncached"])
def test_every_format_is_read(photos, gib):
    dataset = data.load(f"folder:{photos}", image_size=40, cache_gib=gib)
    assert len(dataset.labels) == 30 and not dataset.skipped and not dataset.ignored
    for row, path in enumerate(dataset.ids):
        number = int(pathlib.Path(path).name[:2])
        error = dataset.images.read([row])[0].astype(int) - np.asarray(PICTURES[number])
        assert abs(error).mean() < 12, path  # this is the error of lossy formats


def test_other_files_are_ignored_and_counted(photos):
    expected = data.load(f"folder:{photos}")
    write(photos / "a" / "Thumbs.db", b"\xd0\xcf\x11\xe0")
    write(photos / "b" / "notes.txt", b"to do")
    write(photos / "b" / "more" / "NOTES.TXT", b"done")
    write(photos / "b" / ".DS_Store", b"x")
    write(photos / "c" / "README", b"")
    write(photos / "empty" / "list.txt", b"")
    dataset = data.load(f"folder:{photos}")
    assert dataset.ids == expected.ids and dataset.fingerprint == expected.fingerprint
    assert dataset.ignored == {".db": 1, ".txt": 3, "no ending": 1}
    assert dataset.class_names == ["a", "b", "c"]
    assert dataset.warnings == [
        f"The folder {photos / 'empty'} contains no images and is left out."
    ]
    facts, warnings = data.describe(dataset)
    assert "5 files are not images and were ignored: 3 .txt, 1 .db, 1 no ending." in facts
    assert warnings[0] == dataset.warnings[0]


def test_unreadable_images(photos):
    """One unreadable image is allowed; max_unreadable decides about more, and 0 allows none."""
    write(photos / "a" / "x.jpg", b"<html>not found</html>")
    dataset = data.load(f"folder:{photos}")
    assert dataset.skipped == [(str(photos / "a" / "x.jpg"), "its content is not an image")]
    with pytest.raises(data.Unreadable, match="1 of 31 images .* more than 0%") as caught:
        data.load(f"folder:{photos}", max_unreadable=0)
    assert caught.value.skipped == dataset.skipped
    whole = encoded(PICTURES[40], "TIFF", compression="tiff_lzw")
    for number in range(4):
        write(photos / "b" / f"x{number}.tif", (whole[:-900], b"", whole[:50], whole[:9])[number])
    with pytest.raises(data.Unreadable, match="5 of 35 images") as caught:
        data.load(f"folder:{photos}")
    assert len(caught.value.skipped) == 5, "the whole list, not the three that are named"
    assert dict(caught.value.skipped)[str(photos / "b" / "x1.tif")] == "the file is empty"
    assert dict(caught.value.skipped)[str(photos / "b" / "x0.tif")] == "a damaged TIFF file"
    assert len(data.load(f"folder:{photos}", max_unreadable=5 / 35).labels) == 30
    with pytest.raises(ValueError, match="max_unreadable=2 must be a share"):
        data.load(f"folder:{photos}", max_unreadable=2)


def test_a_linked_folder_is_found_as_a_clash_and_a_leak(photos):
    os.symlink(photos / "a", photos / "d")
    dataset = data.load(f"folder:{photos}")
    first = f"{photos}/a/00.jpeg"
    _, warnings = data.describe(dataset)
    clash = next(each for each in warnings if "two classes" in each)
    assert clash.startswith("10 images occur in two classes with the same content: ")
    one, other = clash[clash.index(": ") + 2 : -1].split(" is the same as ")
    assert pathlib.Path(one).samefile(other) and one != other
    protocol = data.make_protocol("own", dataset)
    hidden = {
        os.path.basename(dataset.ids[row])
        for row in protocol.query
        if dataset.labels[row] in (0, 3)
    }
    _, warnings = data.describe(dataset, protocol)
    assert any("also among the training images" in each for each in warnings) and hidden
    assert first in dataset.ids
