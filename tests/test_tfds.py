"""Prepared folders of TensorFlow Datasets: a small `cifar10`, and a data set that is odd."""

import io
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_sample_images

from dah_tf import data
from dah_tf.errors import UserError

PHOTOGRAPH = load_sample_images().images[0]
CLASSES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BROKEN = b"no image"


def encoded(i, form, width=32):
    buffer = io.BytesIO()
    Image.fromarray(PHOTOGRAPH[3 * i : 3 * i + 32, 4 * i : 4 * i + width]).save(buffer, form)
    return buffer.getvalue()


def by_pil(contents):
    return np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"))


def prepare(folder, name, shape, classes, rows):
    """Writes a folder of the data set `name`; `rows[split]` are pairs of bytes and class."""
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(names=classes),
    }

    def examples(self, split):
        for i, (contents, label) in enumerate(rows[split]):
            yield i, {"id": str(i), "image": io.BytesIO(contents), "label": label}

    body = {
        "VERSION": tfds.core.Version("3.0.2"),
        "_info": lambda self: tfds.core.DatasetInfo(builder=self, features=features_of(features)),
        "_split_generators": lambda self, manager: {
            split: self._generate_examples(split) for split in rows
        },
        "_generate_examples": examples,
    }
    tfds.disable_progress_bar()
    with tfds.core.registered.skip_registration():  # the real `cifar10` stays what it is
        builder = type(name, (tfds.core.GeneratorBasedBuilder,), {"__module__": __name__, **body})
    builder(data_dir=folder).download_and_prepare()


def features_of(features):
    return tfds.features.FeaturesDict(features)


@pytest.fixture(scope="module")
def cifar():
    rows = [(encoded(i, "JPEG"), i % 10) for i in range(60)]
    return {"train": rows[:45], "test": rows[45:]}


@pytest.fixture(scope="module")
def odd():
    """Oblong PNG files without a test part, one of 100 broken: as many as may be."""
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
    with pytest.raises(UserError, match="--protocol=own"):
        data.make_protocol("full", dataset)


def test_many_broken_images_stop(tmp_path, odd):
    rows = [*odd["train"], (BROKEN, 0)]
    prepare(tmp_path, "OddThings", (None, None, 3), ["x", "y", "z"], {"train": rows})
    with pytest.raises(UserError, match="2 of 101 images"):
        data.load("tfds:odd_things", data_dir=tmp_path)


def test_nothing_is_said_while_loading(folder):
    """None of the library's messages and bars reaches the screen."""
    code = f"from dah_tf import data; data.load('cifar10', data_dir={str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "", "HOME": str(folder)},
        check=True,
        capture_output=True,
        text=True,
        timeout=200,
    )
    # What TensorFlow writes from C++ before it reads its log level is the commands' business.
    start = ("I0000", "W0000", "E0000", "WARNING: All log messages before")
    assert [line for line in done.stderr.splitlines() if not line.startswith(start)] == []
    assert done.stdout == ""
