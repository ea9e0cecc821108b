"""Data sets of arrays and of lists of paths."""

import doctest
import pathlib

import numpy as np
import pytest
from image_files import crops
from PIL import Image

from dah_tf import data
from dah_tf.data import datasets
from dah_tf.errors import UserError

X = np.stack(list(crops(8, 12, 13)))
NAMES = ["owl", "ant", "owl", "cat"] * 2


@pytest.fixture
def paths(tmp_path):
    """Writes the images to files whose names sort in another order."""
    found = [tmp_path / f"{(5 * i) % 8}.png" for i in range(8)]
    for path, image in zip(found, X, strict=True):
        Image.fromarray(image).save(path)
    return found


def test_arrays_equal_the_same_npz(tmp_path):
    labels = np.array([2, 0, 1, 2, 0, 1])
    np.savez(tmp_path / "x.npz", x_train=X[:6], y_train=labels, x_test=X[6:], y_test=[0, 1])
    given = data.load(images=X[:6], labels=labels, test_images=X[6:], test_labels=[0, 1])
    file = data.load(f"npz:{tmp_path / 'x.npz'}")
    assert given.name == "arrays" and given.class_names == file.class_names == ["0", "1", "2"]
    assert given.fingerprint == file.fingerprint
    assert given.test.tolist() == [6, 7] and given.labels.dtype == np.int32


@pytest.mark.parametrize("form", ["arrays", "list of arrays", "paths", "texts"])
def test_names_as_labels(form, paths):
    images = {
        "arrays": X,
        "list of arrays": list(X),
        "paths": paths,
        "texts": list(map(str, paths)),
    }
    options = {"images": images[form][:6], "labels": NAMES[:6], "image_size": 12}
    options |= {"test_images": images[form][6:], "test_labels": np.array(NAMES[6:])}
    dataset = data.load(**options)
    assert dataset.name == "arrays" and dataset.class_names == ["ant", "cat", "owl"]
    assert dataset.labels.tolist() == [2, 0, 2, 1, 2, 0, 2, 1]
    assert (dataset.train.tolist(), dataset.test.tolist()) == ([0, 1, 2, 3, 4, 5], [6, 7])
    np.testing.assert_array_equal(dataset.images.read(np.arange(8)), X)
    ordered = data.load(**options, class_names=["owl", "cat", "ant", "elk"])
    assert ordered.class_names == ["owl", "cat", "ant", "elk"]
    assert ordered.labels.tolist() == [0, 2, 0, 1, 0, 2, 0, 1]


def test_paths_with_numbers_and_several_labels(paths):
    single = data.load(images=paths, labels=[0, 1] * 4, class_names=["a", "b"], image_size=12)
    assert single.labels.tolist() == [0, 1] * 4 and single.ids == list(map(str, paths))
    matrix = np.array([[1, 1, 0], [0, 1, 0]] * 4)
    several = data.load(images=paths, labels=matrix, image_size=12)
    assert several.multi_label and several.class_names == ["0", "1", "2"]
    np.testing.assert_array_equal(several.labels, matrix)
    np.testing.assert_array_equal(several.images.read([3])[0], X[3])
    pathlib.Path(paths[2]).unlink()
    assert data.load(images=paths, labels=matrix, image_size=12).skipped == [
        (str(paths[2]), "no such file")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "name a data set, such as folder:PATH, or give images and labels"),
        ({"spec": "digits", "images": X}, "not both"),
        ({"images": X}, "give images and labels together"),
        (
            {"images": X, "labels": NAMES, "test_images": X},
            "give test_images and test_labels together",
        ),
        ({"images": X, "labels": NAMES[:7]}, "labels must be integers of shape .8,."),
        ({"images": X / 255, "labels": NAMES}, "^images must be uint8 .* it is float64"),
        ({"images": [X[0], X[1, :5]], "labels": [0, 1]}, "^images must be an array; its rows"),
        ({"images": X, "labels": [["a", "b"], ["a"]] * 4}, "^labels must be an array"),
        ({"images": X, "labels": [["a"], ["b"]] * 4}, "^labels must be whole numbers or names"),
        ({"images": X, "labels": [0.5, 1] * 4}, "^labels must be integers"),
        ({"images": X, "labels": [0, -1] * 4}, "^labels must number the classes from 0"),
        ({"images": X, "labels": [0, 1000] * 4}, "^labels: labels go up to 1000 in 8 images"),
        ({"images": X, "labels": np.zeros((8, 3), int)}, "^labels: row 0 has no label"),
        ({"images": X, "labels": NAMES, "class_names": ["ant", "cat"]}, "class_names .*'owl'"),
        ({"images": X, "labels": [0, 2] * 4, "class_names": ["a", "b"]}, "class_names has 2 names"),
        ({"images": X, "labels": [0, 1] * 4, "class_names": ["a", "a"]}, "must differ"),
        (
            {"images": X, "labels": NAMES, "test_images": X[:, 1:], "test_labels": NAMES},
            r"^test_images must have shape \(n, 12, 12, 3\)",
        ),
        (
            {"images": X, "labels": [0, 1] * 4, "test_images": ["a.png"], "test_labels": [0]},
            "must both be paths or both be arrays",
        ),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(UserError, match=message) as caught:
        data.load(**options)
    assert "\n" not in str(caught.value) and "--" not in str(caught.value)


def test_example():
    result = doctest.testmod(datasets)
    assert result.attempted == 3 and not result.failed
