"""Prepared folders of TensorFlow Datasets: a small `cifar10`, and a data set with faults."""

import io
import socket
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_sample_images
from tfds_folders import CLASSES, encoded, prepare

from dah_tf import data
from dah_tf.errors import UserError

PHOTOGRAPHS = load_sample_images().images
BROKEN = b"no image"


def piece(i):
    """Returns a JPEG file of a piece of a photograph, which differs for every `i`."""
    top, left = 37 * i % 380, 91 * i % 590
    buffer = io.BytesIO()
    image = Image.fromarray(PHOTOGRAPHS[i % 2][top : top + 32, left : left + 32])
    image.save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def refusal(spec, **options):
    """Returns the message with which `load` refuses `spec`, which has one line."""
    with pytest.raises(UserError) as caught:
        data.load(spec, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def by_pil(contents):
    return np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"))


@pytest.fixture(scope="module")
def cifar():
    rows = [(encoded(i, "JPEG"), i % 10) for i in range(60)]
    return {"train": rows[:45], "test": rows[45:]}


@pytest.fixture(scope="module")
def odd():
    """Makes 100 oblong PNG files without a test part. One is broken, which is just allowed."""
    rows = [(encoded(i, "PNG", width=40), i % 3) for i in range(100)]
    rows[7] = (BROKEN, 1)
    return {"train": rows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cifar, odd):
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder, "Cifar10", (32, 32, 3), CLASSES, cifar)
    prepare(folder, "OddThings", (None, None, 3), ["x", "y", "z"], odd)
    return folder


def test_cifar10(folder, cifar):
    dataset = data.load("cifar10", data_dir=folder)
    assert dataset.num_classes == 10 and dataset.labels.dtype == np.int32
    assert dataset.images.size == 32 and dataset.images.channels == 3
    for part, indices in (("train", dataset.train), ("test", dataset.test)):
        wanted = {by_pil(contents).tobytes(): label for contents, label in cifar[part]}
        found = {dataset.images.read(i).tobytes(): int(dataset.labels[i]) for i in indices}
        assert found == wanted, "pixels are PIL's bit for bit, and labels go with them"
    again = data.load("tfds:cifar10", data_dir=folder)
    assert np.array_equal(again.images.array, dataset.images.array), "the same order always"


def test_oblong_images_without_a_test_part_one_broken(folder, odd):
    dataset = data.load("tfds:odd_things", data_dir=folder)
    assert dataset.class_names == ["x", "y", "z"]
    assert len(dataset.train) == 99 and len(dataset.test) == 0
    assert len(dataset.skipped) == 1 and dataset.skipped[0][0].startswith("train/")
    wanted = {by_pil(c)[:, 4:36].tobytes(): label for c, label in odd["train"] if c != BROKEN}
    found = {dataset.images.read(i).tobytes(): int(dataset.labels[i]) for i in range(99)}
    assert found == wanted
    with pytest.raises(UserError, match="protocol=own"):
        data.make_protocol("full", dataset)


def test_many_broken_images_stop(tmp_path, odd):
    rows = [*odd["train"], (BROKEN, 0)]
    prepare(tmp_path, "OddThings", (None, None, 3), ["x", "y", "z"], {"train": rows})
    with pytest.raises(UserError, match="2 of 101 images"):
        data.load("tfds:odd_things", data_dir=tmp_path)


def test_images_without_a_label(tmp_path, odd):
    """TFDS writes -1 if the organisers of a contest keep the labels of the test part secret."""
    known = [row for row in odd["train"] if row[0] != BROKEN]
    secret = [(contents, -1) for contents, _ in known[:5]]
    parts = {"train": known, "test": secret}
    prepare(tmp_path / "a", "OddThings", (None, None, 3), ["x", "y", "z"], parts)
    dataset = data.load("tfds:odd_things", data_dir=tmp_path / "a")
    assert len(dataset.train) == len(known) and not len(dataset.test)
    parts = {"train": [*known, *secret]}
    prepare(tmp_path / "b", "OddThings", (None, None, 3), ["x", "y", "z"], parts)
    with pytest.raises(UserError, match="5 images of its train part have no label"):
        data.load("tfds:odd_things", data_dir=tmp_path / "b")


@pytest.mark.slow
def test_nothing_is_said_while_loading(folder):
    """No message and no progress bar of the library reaches the screen."""
    code = f"from dah_tf import data; data.load('cifar10', data_dir={str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "", "HOME": str(folder)},
        check=True,
        capture_output=True,
        text=True,
    )
    # TensorFlow writes some lines before it reads its log level; the commands suppress these.
    start = ("I0000", "W0000", "E0000", "WARNING: All log messages before")
    assert [line for line in done.stderr.splitlines() if not line.startswith(start)] == []
    assert done.stdout == ""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Makes a TFDS folder with a small data set, and the pixels that its images must have."""

    class Pieces(tfds.core.GeneratorBasedBuilder):
        """Pieces of two photographs."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=["china", "flower"]),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(0, 40),
                "test": self._generate_examples(40, 50),
            }

        def _generate_examples(self, first, last):
            for i in range(first, last):
                yield i, {"image": io.BytesIO(piece(i)), "label": i % 2}

    root = tmp_path_factory.mktemp("tfds")
    Pieces(data_dir=root).download_and_prepare()
    return root


def test_tfds(prepared):
    dataset = data.load("tfds:pieces", data_dir=prepared)
    assert dataset.class_names == ["china", "flower"]
    assert len(dataset.train) == 40 and dataset.test.tolist() == list(range(40, 50))
    wanted = {by_pil(piece(i)).tobytes(): i for i in range(50)}
    found = [wanted[image.tobytes()] for image in dataset.images.read(np.arange(50))]
    assert sorted(found[:40]) == list(range(40)) and sorted(found[40:]) == list(range(40, 50))
    assert dataset.labels.tolist() == [i % 2 for i in found]
    again = data.load("tfds:pieces", data_dir=prepared)
    assert again.fingerprint == dataset.fingerprint
    small = data.load("tfds:pieces", data_dir=prepared, image_size=16, channels=1)
    assert small.images.read([0]).shape == (1, 16, 16, 1)


def test_tfds_too_large_for_memory(prepared):
    assert "cache_gib" in refusal("tfds:pieces", data_dir=prepared, cache_gib=1e-5)


def test_tfds_that_is_not_there_says_what_to_do(tmp_path, monkeypatch):
    def no_network(address, timeout):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    text = refusal("cifar10", data_dir=tmp_path / "nowhere")
    assert "cannot be downloaded (www.cs.toronto.edu: Name or service not known)" in text
    assert str(tmp_path / "nowhere") in text and "data_dir" in text and "npz:" in text
    assert not (tmp_path / "nowhere").exists()
    assert "has no data set nonesuch" in refusal("tfds:nonesuch", data_dir=tmp_path)
