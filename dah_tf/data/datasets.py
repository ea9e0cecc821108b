"""Labelled images by a short name, `load("folder:photos")`, or from arrays."""

import os
from collections.abc import Sequence

import numpy as np

from dah_tf.data import arrays, files, folders, tfds
from dah_tf.data.dataset import Dataset
from dah_tf.errors import UserError

MAX_UNREADABLE = 0.01
"""Share of unreadable images above which loading stops."""

KINDS = "cifar10, tfds:NAME, folder:PATH, csv:FILE, npz:FILE, digits"


def load(
    spec: str | None = None,
    *,
    images: np.ndarray | Sequence[str | os.PathLike] | None = None,
    labels: np.ndarray | Sequence[int | str] | None = None,
    test_images: np.ndarray | Sequence[str | os.PathLike] | None = None,
    test_labels: np.ndarray | Sequence[int | str] | None = None,
    class_names: Sequence[str] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    data_dir: str | None = None,
    cache_gib: float = 4.0,
    max_unreadable: float = MAX_UNREADABLE,
    unlabelled: bool = False,
) -> Dataset:
    """Loads labelled images, by a short name or from arrays.

    Args:
        spec: `cifar10`; `tfds:NAME`; `folder:PATH`, a folder a class, in optional `train` and
            `test`; `csv:FILE`, rows `path,label[;label...][,train|test]`; `npz:FILE` with
            `x_train`, `y_train` and optional `x_test`, `y_test`, `names`; `digits`, scikit-learn's
            1,797 images of 8x8 pixels, a fixed fifth of each class for testing. None where
            `images` are given.
        images: uint8 array of shape `(n, h, w)` or `(n, h, w, 1 or 3)`; or the paths of n files.
        labels: their classes: n whole numbers from 0, n names, or a 0/1 array of shape
            `(n, classes)` where an image can have several labels.
        test_images, test_labels: likewise, of a test part.
        class_names: names of the classes; None are the names in `labels`, or the numbers.
        image_size: int, side the images are resized to (`pixels.resize`); None keeps the data's
            own (16 for digits, 32 for folders and lists of files).
        channels: 1, 3 or None for the data's own (3 for files).
        data_dir: where TensorFlow Datasets keeps its data.
        cache_gib: float; decoded files are kept in memory up to this many GiB, beyond it they are
            decoded each time (TFDS data is refused).
        max_unreadable: float, the share of image files that may be unreadable. One may be, however
            few there are; 0 lets none pass.
        unlabelled: bool, whether labels and parts are passed over. A folder may then be any tree
            of images, and `labels` may be None.

    Returns:
        `Dataset`.

    Raises:
        Unreadable: more images cannot be read; its `skipped` lists them.
        UserError: nothing there, not readable, or not of the kind's form.

    Example:
        >>> import numpy as np
        >>> data = load(images=np.zeros((4, 32, 32, 3), np.uint8), labels=["cat", "owl"] * 2)
        >>> data.class_names, data.labels.tolist(), data.images.size
        (['cat', 'owl'], [0, 1, 0, 1], 32)
    """
    options = {"image_size": image_size, "channels": channels}
    of_files = options | {"cache_gib": cache_gib, "max_unreadable": max_unreadable}
    if not 0 <= max_unreadable <= 1:
        raise UserError(f"max_unreadable={max_unreadable} must be a share, from 0 to 1")
    if images is not None:
        if spec is not None:
            raise UserError("name a data set or give images, not both")
        if unlabelled and labels is None:
            labels = np.arange(len(images)) % 2  # stand in for labels until these are taken off
        found = arrays.given(images, labels, test_images, test_labels, class_names, **of_files)
        return found.without_labels() if unlabelled else found
    if spec is None:
        raise UserError("name a data set, such as folder:PATH, or give images and labels")
    kind, _, value = spec.partition(":")
    if unlabelled and kind == "folder" and value:
        found = folders.without_classes(value)
        return files.load(spec, found, value, labelled=False, **of_files)
    found = _labelled(spec, kind, value, data_dir, options, of_files)
    return found.without_labels() if unlabelled else found


def _labelled(spec, kind, value, data_dir, options, of_files):
    if spec == "digits":
        return arrays.digits(spec, **options)
    if kind == "npz" and value:
        return arrays.npz(spec, value, **options)
    if spec == "cifar10" or (kind == "tfds" and value):
        return tfds.load(spec, value or spec, data_dir, **of_files)
    if kind in ("folder", "csv") and value:
        found = (folders.from_folder if kind == "folder" else folders.from_csv)(value)
        return files.load(spec, found, value, **of_files)
    raise unknown(spec)


def unknown(spec: str) -> UserError:
    """The error of a text that names no data set."""
    return UserError(f"unknown dataset={spec}; known: {KINDS}")
