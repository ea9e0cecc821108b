"""Loads labelled images by a short name, such as `load("folder:photos")`, or from arrays."""

import os
from collections.abc import Sequence

import numpy as np

from dah_tf.data import arrays, files, folders, tfds
from dah_tf.data.dataset import Dataset
from dah_tf.errors import UserError

MAX_UNREADABLE = 0.01
"""The share of unreadable images above which loading stops."""

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
        spec: str, the name of the data. It is None if `images` are given. These are allowed:
            `cifar10`: the data set CIFAR-10.
            `tfds:NAME`: a data set of TensorFlow Datasets.
            `folder:PATH`: a folder with one folder for each class. The class folders may be inside
            folders named `train` and `test`.
            `csv:FILE`: a table with rows of the form `path,label[;label...][,train|test]`.
            `npz:FILE`: arrays `x_train` and `y_train`, and optionally `x_test`, `y_test` and
            `names`.
            `digits`: scikit-learn's 1,797 images of 8x8 pixels. A fixed fifth of each class is for
            testing.
        images: uint8 array of shape `(n, h, w)` or `(n, h, w, 1 or 3)`, or the paths of n files.
        labels: the classes of the images. They are n whole numbers from 0, or n names, or a 0/1
            array of shape `(n, classes)` if an image can have several labels.
        test_images, test_labels: the images and labels of a test part, in the same form.
        class_names: the names of the classes. If it is None, the names are taken from `labels`, or
            the numbers serve as names.
        image_size: int, the side in pixels to which the images are resized (`pixels.resize`). If
            it is None, the size of the data is kept, which is 16 for digits and 32 for folders and
            lists of files.
        channels: 1, 3, or None to keep the channels of the data. Files have 3 by default.
        data_dir: path of the folder in which TensorFlow Datasets keeps its data.
        cache_gib: float. Decoded files are kept in memory up to this size in GiB. Larger data is
            decoded each time it is read, and larger data of TFDS is refused.
        max_unreadable: float, the share of image files that may be unreadable. If it is above 0,
            one unreadable file is always allowed. If it is 0, none is allowed.
        unlabelled: bool, whether labels and parts are ignored. If so, a folder may be any tree of
            images, and `labels` may be None.

    Returns:
        `Dataset`.

    Raises:
        Unreadable: too many images cannot be read. The attribute `skipped` lists them.
        UserError: the data does not exist, cannot be read, or does not have the form that its
            kind requires.

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
            labels = (
                np.arange(len(images)) % 2
            )  # These stand in for the labels until they are removed below.
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
    """Returns the error for a text that does not name a data set."""
    return UserError(f"dataset={spec} is unknown; there are {KINDS}")
