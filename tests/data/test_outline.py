"""The outline of a data set agrees with `load`, and is found without decoding images."""

import csv
import dataclasses
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tfds_folders import CLASSES, encoded, prepare

from dah_tf import data, images
from dah_tf.data import image_sources, pixels
from dah_tf.data import tfds as tfds_data
from dah_tf.errors import UserError


@pytest.fixture
def decoded(monkeypatch):
    """Records every call that decodes an image during a test."""
    calls = []

    def counted(owner, name):
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: calls.append(name) or function(*a, **k))

    for owner, name in (
        (images, "decode"),
        (pixels, "decode"),
        (pixels, "decode_file"),
        (image_sources, "decoder"),
        (image_sources, "resize_array"),
        (Image, "open"),
    ):
        counted(owner, name)
    return calls


@pytest.fixture
def photos(tmp_path):
    """Makes a folder of three classes with three images each, and a file that is not an image."""
    rng = np.random.default_rng(0)
    for number in range(9):
        path = tmp_path / "photos" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(path)
    (tmp_path / "photos" / "a" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / "empty").mkdir()
    return tmp_path / "photos"


def same(spec, **options):
    """Returns the outline after checking that it agrees with `load`."""
    found = data.outline(spec, **options)
    loaded = data.load(spec, **options)
    assert dataclasses.astuple(found) == (
        loaded.num_classes,
        loaded.images.size,
        loaded.images.channels,
        loaded.multi_label,
    )
    return found


@pytest.mark.parametrize("options", [{}, {"image_size": 24, "channels": 1}])
def test_it_is_what_is_loaded(photos, tmp_path, options):
    assert same("digits", **options).num_classes == 10
    assert same(f"folder:{photos}", **options).num_classes == 3
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.integers(0, 256, (9, 28, 30, 3), np.uint8), "y_train": np.arange(9)}
    np.savez(tmp_path / "one.npz", **arrays)
    assert same(f"npz:{tmp_path / 'one.npz'}", **options).num_classes == 9
    several = rng.integers(0, 2, (9, 5), np.uint8)
    several[:, 0] = several[0, 1] = 1
    test = {"x_test": arrays["x_train"][..., :1], "y_test": several}
    grey = {"x_train": arrays["x_train"][..., 0], "y_train": several, **test}
    np.savez_compressed(tmp_path / "several.npz", **grey)
    assert same(f"npz:{tmp_path / 'several.npz'}", **options).multi_label
    with open(tmp_path / "list.csv", "w", newline="") as table:
        names = sorted(path.relative_to(tmp_path) for path in photos.glob("*/*.png"))
        csv.writer(table).writerows([name, f"{n % 4};{n % 3}"] for n, name in enumerate(names))
    assert same(f"csv:{tmp_path / 'list.csv'}", **options).multi_label


def test_images_of_a_folder_are_not_decoded(photos, decoded):
    assert data.outline(f"folder:{photos}").num_classes == 3
    assert decoded == []
    data.load(f"folder:{photos}")
    assert decoded, "what is counted is what decodes"


def test_pixels_of_arrays_are_not_read(tmp_path, decoded):
    path = tmp_path / "digits.npz"
    arrays = {"x_train": np.zeros((50, 16, 16, 1), np.uint8), "y_train": np.arange(50) % 7}
    np.savez(path, **arrays)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("x_train.npy").header_offset + 5000
    content = bytearray(path.read_bytes())
    content[place] ^= 255  # this changes a pixel, so that reading the array fails by its checksum
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a .npz file"):
        data.load(f"npz:{path}")
    decoded.clear()
    found = data.outline(f"npz:{path}")
    assert dataclasses.astuple(found) == (7, 16, 1, False)
    assert decoded == []


def test_prepared_tensorflow_datasets(tmp_path, decoded, monkeypatch):
    rows = [(encoded(i, "JPEG", width=40), i % 10) for i in range(20)]
    prepare(tmp_path, "Oblong", (32, 40, 3), CLASSES, {"train": rows})
    prepare(tmp_path, "Grey", (None, None, 1), CLASSES[:3], {"train": rows[:1]})
    same("tfds:oblong", data_dir=tmp_path, image_size=16)
    decoded.clear()
    found = data.outline("tfds:oblong", data_dir=tmp_path)
    assert dataclasses.astuple(found) == (10, 32, 3, False)
    assert dataclasses.astuple(data.outline("tfds:grey", data_dir=tmp_path)) == (3, 32, 1, False)
    assert decoded == []


def test_tensorflow_datasets_are_not_downloaded(tmp_path, monkeypatch):
    def downloads(*_, **__):
        pytest.fail("downloads")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", downloads)
    monkeypatch.setattr(tfds_data, "_check_network", downloads)
    found = data.outline("tfds:mnist", data_dir=tmp_path)
    assert dataclasses.astuple(found) == (10, 28, 1, False)


@pytest.mark.parametrize(
    "spec", ["", "what", "folder:", "folder:/nowhere", "npz:/nowhere", "tfds:x"]
)
def test_refusals_are_those_of_load(spec, tmp_path):
    texts = []
    for function in (data.load, data.outline):
        with pytest.raises(UserError) as caught:
            function(spec, data_dir=tmp_path)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


def test_one_class_is_too_few(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((3, 8, 8), np.uint8), y_train=np.zeros(3, int))
    with pytest.raises(UserError, match="1 class"):
        data.outline(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("name", ["mnist/none", "mnist:9.9.9", "no such"])
def test_versions_that_tensorflow_datasets_lacks(name, tmp_path):
    with pytest.raises(UserError, match=f"TensorFlow Datasets has no {name}: ") as caught:
        data.load(f"tfds:{name}", data_dir=tmp_path)
    assert "\n" not in str(caught.value) and "builder_kwargs" not in str(caught.value)


def test_a_bug_in_a_download_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise TypeError("a bug")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", broken)
    monkeypatch.setattr(tfds_data, "_check_network", lambda _: None)
    with pytest.raises(TypeError, match="a bug"):
        data.load("tfds:mnist", data_dir=tmp_path)
