"""What is encoded: folders, lists, data sets, and what is in none of them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_encoding import served
from tfds_folders import CLASSES as CLASS_NAMES
from tfds_folders import encoded, prepare
from tiny_model import encode, full_disk, pictures

from dah_tf.encoding import Codes, listing
from dah_tf.errors import UserError


def test_labels(encoder, photos):
    os.rename("photos/owl", "photos/summer")
    encode(encoder, "photos", "auto")
    labels = Codes.open("auto").read()[2]
    assert sorted(set(labels)) == ["", "cat", "dog"]  # summer is no class of the model
    encode(encoder, "photos", "folder", labels="folder")
    assert sorted(set(Codes.open("folder").read()[2])) == ["cat", "dog", "summer"]
    encode(encoder, "photos", "none", labels="none")
    assert set(Codes.open("none").read()[2]) == {""}


def test_lists(encoder, photos):
    Path("lists").mkdir()
    lines = ["../photos/cat/0000.png\tcat;pet", "", "../photos/dog/0001.png", "gone.png\tdog"]
    Path("lists", "a.txt").write_text("\r\n".join(lines))
    assert encode(encoder, "list:lists/a.txt", "a")["broken"] == 1
    _, keys, labels = Codes.open("a").read()
    assert keys == ["lists/../photos/cat/0000.png", "lists/../photos/dog/0001.png"]
    assert labels == ["cat;pet", ""]
    assert Path("a", "broken.tsv").read_text() == "lists/gone.png\tno such file\n"
    odd = Path("photos", "tab\tline\n.png")
    os.rename("photos/cat/0000.png", odd)
    Path("nul.txt").write_bytes(os.fsencode(odd.absolute()) + b"\0photos/dog/0001.png\0")
    encode(encoder, "list:nul.txt", "b")
    assert Codes.open("b").read()[1] == [str(odd.absolute()), "photos/dog/0001.png"]
    Path("bom.txt").write_text("photos/dog/0001.png\n", encoding="utf-8-sig")
    encode(encoder, "list:bom.txt", "c")
    assert Codes.open("c").read()[1] == ["photos/dog/0001.png"]


def test_splits_of_tensorflow_datasets(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(encoded(i, "PNG"), i % 3) for i in range(20)]
    rows[7] = (b"no image", 1)
    rows[9] = (rows[9][0], -1)  # without a label
    prepare(tmp_path / "tfds", "Cifar10", (32, 32, 3), CLASS_NAMES, {"test": rows})
    options = {"data_dir": "tfds", "shard_items": 6}
    assert encode(encoder, "tfds:cifar10/test", "codes", **options)["broken"] == 1
    codes, keys, labels = Codes.open("codes").read()
    # TFDS shuffles the examples when it prepares them; the order on disk counts.
    assert len(keys) == 19 and len(set(keys)) == 19
    assert all(key.startswith("tfds:cifar10/test#") for key in keys)
    gone = set(range(20)) - {int(key.partition("#")[2]) for key in keys}
    assert len(gone) == 1
    files = [tmp_path / f"{i}.png" for i in range(20) if i != 7]
    for path, row in zip(files, [row for i, row in enumerate(rows) if i != 7], strict=True):
        path.write_bytes(row[0])
    names = [*CLASS_NAMES, ""]
    wanted = {
        (code.tobytes(), names[label])
        for code, label in zip(
            served(encoder.path, files)[0],
            [label for i, (_, label) in enumerate(rows) if i != 7],
            strict=True,
        )
    }
    assert {(code.tobytes(), label) for code, label in zip(codes, labels, strict=True)} == wanted
    for spec, message in [
        ("tfds:cifar10/train", "there is no such split, only test"),
        ("tfds:none_such/test", "TensorFlow Datasets has no data set none_such"),
    ]:
        with pytest.raises(UserError, match=message):
            encode(encoder, spec, "other", **options)


def test_a_split_of_several_files_goes_on(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(encoded(i, "PNG"), i % 10) for i in range(60)]
    prepare(tmp_path / "tfds", "Cifar10", (32, 32, 3), CLASS_NAMES, {"test": rows}, files=4)
    assert len(list(Path("tfds").rglob("*.tfrecord*"))) == 4
    options = {"data_dir": "tfds", "shard_items": 7}
    encode(encoder, "tfds:cifar10/test", "whole", **options)
    with full_disk(shards=3):
        encode(encoder, "tfds:cifar10/test", "codes", **options)
    encode(encoder, "tfds:cifar10/test", "codes", **options)
    for found, expected in zip(Codes.open("codes").read(), Codes.open("whole").read(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_list_is_read_in_blocks(tmp_path):
    # 40,000 lines are more than one block of 1 MiB, whatever its border cuts.
    path = tmp_path / "list"
    names = [f"{'long' * 10}/{number:06d}.png" for number in range(40_000)]
    path.write_text("\n".join(names))
    found = [os.fsdecode(name) for name, _ in listing.listed(path)]
    assert found == [str(tmp_path / name) for name in names]


def test_known_images_are_skipped(encoder, photos):
    encode(encoder, "photos", "codes")
    Image.fromarray(pictures(1, seed=9)[0]).save("photos/cat/new.png")
    encode(encoder, "photos", "more", skip=["codes"])
    assert Codes.open("more").read()[1] == ["photos/cat/new.png"]  # the broken ones stay broken
    Path("known.txt").write_text("photos/cat/new.png")
    with pytest.raises(UserError, match="because all its images are in skip"):
        encode(encoder, "list:known.txt", "none", skip=["more"])
    with pytest.raises(UserError, match="because all its images are in skip"):
        encode(encoder, os.path.abspath("photos/cat/new.png"), "none", skip=["more"])
    # Elsewhere a path of the same name is another image.
    Path("other/photos/cat").mkdir(parents=True)
    os.rename("photos/cat/new.png", "other/photos/cat/0003.png")
    os.chdir("other")
    encode(encoder, "photos", "codes", skip=["../codes"])
    assert Codes.open("codes").read()[1] == ["photos/cat/0003.png"]


def test_an_error_of_the_source_is_none_of_the_images(encoder, photos, monkeypatch):
    rows, count = listing.FileSource._read, 0

    def failing(self, shard):
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(5, "Input/output error")
        return rows(self, shard)

    monkeypatch.setattr(listing.FileSource, "_read", failing)
    with pytest.raises(
        UserError, match="Input/output error; the images that were encoded are kept"
    ):
        encode(encoder, "photos", "codes")
    monkeypatch.undo()
    os.chdir(photos)
    manifest = encode(encoder, "photos", "codes")
    assert (manifest["items"], manifest["broken"]) == (50, 3)


def test_what_is_no_file(encoder, photos):
    os.mkfifo("photos/cat/pipe.png")
    os.symlink("nowhere", "photos/cat/dangling.png")
    os.symlink("loop.png", "photos/cat/loop.png")
    os.symlink("..", "photos/cat/up")
    encode(encoder, "photos", "codes")
    report = Path("codes", "broken.tsv").read_bytes()
    assert b"photos/cat/dangling.png\tno such file\n" in report
    assert b"photos/cat/loop.png\tToo many levels of symbolic links\n" in report
    assert len(report.splitlines()) == 3 + 2
    Path("list").write_text("photos/cat/pipe.png\nphotos/cat\nphotos/cat/0003.png\n")
    assert encode(encoder, "list:list", "listed")["items"] == 1  # and it ends
    assert Path("listed", "broken.tsv").read_text() == (
        "photos/cat/pipe.png\tit is not a regular file\n"
        "photos/cat\tit is a folder that cannot be read\n"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "there is no file or folder nothing"),
        ("empty", "nothing to encode"),
        ("list:nothing", "cannot read input=list:nothing: No such file"),
        ("list:empty.txt", "nothing to encode"),
        ("tfds:cifar10", "does not name a split"),
    ],
)
def test_bad_input_leaves_nothing(encoder, photos, spec, message):
    Path("empty").mkdir()
    Path("empty.txt").write_text("\n\n")
    before = sorted(os.listdir())
    with pytest.raises(UserError, match=message) as error:
        encode(encoder, spec, "codes")
    assert "\n" not in str(error.value) and sorted(os.listdir()) == before


def test_other_files_are_ignored_and_counted(encoder, photos):
    before = encode(encoder, "photos", "before")
    for name in ("Thumbs.db", "more.txt", "most.txt"):
        Path("photos", "cat", name).write_bytes(b"to do")
    Path("photos", "cat", "raw.dng").write_bytes(b"II*\0")  # begins as a TIFF does
    found = encode(encoder, "photos", "codes")
    ignored = {**before["ignored"], ".db": 1, ".dng": 1}
    ignored[".txt"] = ignored.get(".txt", 0) + 2
    assert found["ignored"] == ignored
    assert (found["items"], found["broken"]) == (before["items"], before["broken"])
    # What a list names is meant as an image.
    Path("list").write_text("photos/cat/notes.txt\nphotos/cat/0000.png\n")
    assert encode(encoder, "list:list", "listed")["broken"] == 1


def test_formats_that_the_model_does_not_read(encoder, photos):
    """TIFF without loss gives the codes of the PNG that it was made of, on disk and in memory."""
    png = sorted(Path("photos").glob("*/0*[0-9].png"))[:6]
    for path in png:
        other = Path("others", path.stem)
        other.parent.mkdir(exist_ok=True)
        image = Image.open(path).convert("RGB")
        image.save(f"{other}.tif")
        image.save(f"{other}.webp", save_all=True, append_images=[image.rotate(90)], lossless=True)
    whole = Path(f"{other}.tif").read_bytes()
    Path("others", "broken.tif").write_bytes(whole[: len(whole) // 2])
    assert encode(encoder, "others", "codes")["broken"] == 1
    assert Path("codes", "broken.tsv").read_text() == "others/broken.tif\ta damaged TIFF file\n"
    codes, keys, _ = Codes.open("codes").read()
    expected = encoder.files(*png).codes
    by_name = {path.stem: code for path, code in zip(png, expected, strict=True)}
    assert len(keys) == 12
    for key, code in zip(keys, codes, strict=True):
        np.testing.assert_array_equal(code, by_name[Path(key).stem])
    np.testing.assert_array_equal(encoder.files("others").codes, codes)
    assert encoder.files("others").broken == [("others/broken.tif", "a damaged TIFF file")]
