"""Makes data sets of arrays: from arguments, from an .npz file, or scikit-learn's digits."""

import os
import zipfile
import zlib

import numpy as np

from dah_tf.data import dataset, files
from dah_tf.data.folders import Found
from dah_tf.errors import UserError

# This maps the names of the arrays in an .npz file to the names of the matching arguments.
ARGUMENTS = {
    "x_train": "images",
    "y_train": "labels",
    "x_test": "test_images",
    "y_test": "test_labels",
    "names": "class_names",
}


def given(images, labels, test_images, test_labels, class_names, **options):
    """Makes a data set of images and labels, in the form that `dah_tf.data.load` accepts.

    Args:
        **options: `image_size` and `channels`. If the images are paths, also `cache_gib` and
            `max_unreadable`.
    """
    found = {"x_train": images, "y_train": labels, "x_test": test_images, "y_test": test_labels}
    found = {name: each for name, each in found.items() if each is not None}
    for part in ("train", "test"):
        if (f"x_{part}" in found) != (f"y_{part}" in found):
            raise UserError(f"give {_called(f'x_{part}')} and {_called(f'y_{part}')} together")
    paths = _are_paths(images)
    for name, each in found.items():
        if name[0] == "x" and _are_paths(each) != paths:
            raise UserError("images and test_images must both be paths or both be arrays")
        if not paths or name[0] == "y":
            found[name] = _array(name, each)
    names = None if class_names is None else [str(name) for name in class_names]
    found, names = _numbered(found, names)
    if names is not None:
        if len(set(names)) < len(names):
            raise UserError(f"class_names must differ from each other. Received: {names}")
        found["names"] = np.array(names)
    if not paths:
        return _of_parts("arrays", found, None, options["image_size"], options["channels"])
    labels, names, counts = _labels(found, None)
    listed = [os.fsdecode(path) for name in ("x_train", "x_test") for path in found.get(name, ())]
    rows = []
    for row, path in enumerate(listed):
        own = [labels[row]] if labels.ndim == 1 else np.flatnonzero(labels[row])
        part = "train" if row < counts[0] else "test"
        rows.append((path, [names[number] for number in own], part))
    return files.load("arrays", Found(rows, {}, []), "images", names=names, **options)


def _are_paths(images):
    kinds = (str, os.PathLike)
    return isinstance(images, list | tuple | np.ndarray) and all(
        isinstance(each, kinds) for each in images
    )


def _array(name, values):
    try:
        return np.asarray(values)
    except ValueError:  # The lists have different lengths.
        raise UserError(f"{_called(name)} must be an array; its rows have several shapes") from None


def _numbered(found, names):
    """Turns label names into numbers. Also returns the names, or None for numeric labels."""
    texts = {}
    for name in ("y_train", "y_test"):
        if name in found and found[name].dtype.kind in "UO":
            texts[name] = found[name]
            if texts[name].ndim != 1 or not all(isinstance(each, str) for each in texts[name]):
                raise UserError(
                    f"{_called(name)} must be whole numbers or names, one for each image"
                )
    if texts:
        if names is None:
            names = sorted({str(each) for labels in texts.values() for each in labels})
        number = {name: index for index, name in enumerate(names)}
        for name, labels in texts.items():
            if unknown := sorted(set(labels.tolist()) - number.keys()):
                raise UserError(f"class_names must name every class; {unknown[0]!r} is missing")
            found[name] = np.array([number[each] for each in labels.tolist()], np.int32)
    return found, names


def npz(spec, path, image_size, channels):
    """Loads a data set from an .npz file. `dah_tf.data.load` explains the arguments."""
    return _of_parts(spec, _named(_read_npz(path), path), path, image_size, channels)


def npz_outline(path):
    """Returns what an .npz file holds. The pixels are not read.

    Args:
        path: path of the file.

    Returns:
        A tuple of three: the shape of an image, `(height, width, channels)`; the labels, in the
        form of `Dataset.labels`; and the names of the classes.

    Raises:
        UserError: in the same cases as `npz`.
    """
    pixels, labels, names, _ = _parts(_named(_read_npz(path, pixels=False), path), path)
    return pixels[0].shape[1:], labels, names


def _named(arrays, path):
    """Returns the arrays of an .npz file after checking that the required ones are present."""
    parts = [part for part in ("train", "test") if f"x_{part}" in arrays]
    if "train" not in parts or any(f"y_{part}" not in arrays for part in parts):
        raise UserError(
            f"{path} must hold x_train and y_train (and x_test with y_test, if any); it holds "
            f"{', '.join(sorted(arrays)) or 'nothing'}"
        )
    return arrays


def _of_parts(spec, arrays, path, image_size, channels):
    """Makes a data set of arrays in parts. `path` is the file that holds them, or None."""
    pixels, labels, names, counts = _parts(arrays, path)
    x = np.concatenate(pixels)
    train, test = np.arange(counts[0]), np.arange(counts[0], len(x))
    return dataset.of_arrays(spec, x, labels, names, train, test, image_size, channels)


def _parts(arrays, path):
    """Checks all arrays. Returns the images of each part and the result of `_labels`."""
    pixels = [
        _pixels(arrays[f"x_{part}"], _called(f"x_{part}", path))
        for part in ("train", "test")
        if f"x_{part}" in arrays
    ]
    if len({each.shape[1:] for each in pixels}) > 1:
        raise UserError(
            f"{_called('x_test', path)} must have shape (n, {str(pixels[0].shape[1:])[1:]} like the "
            f"training images, but it has shape {pixels[1].shape}"
        )
    return pixels, *_labels(arrays, path)


def _pixels(x, called):
    """Returns the images of a part, with the shape `(n, h, w, channels)`."""
    x = x[..., None] if x.ndim == 3 else x
    if x.ndim != 4 or x.dtype != np.uint8 or x.shape[3] not in (1, 3) or not x.size:
        raise UserError(
            f"{called} must be uint8 of shape (n, h, w, 1 or 3), but it is {x.dtype} of shape "
            f"{x.shape}"
        )
    return x


def _labels(arrays, path):
    """Returns the labels of all parts, the class names, and the number of images of each part."""
    parts = [part for part in ("train", "test") if f"x_{part}" in arrays]
    counts = [len(arrays[f"x_{part}"]) for part in parts]
    checked = [
        _part_labels(arrays[f"y_{part}"], count, _called(f"y_{part}", path))
        for part, count in zip(parts, counts, strict=True)
    ]
    called = _called("y_train", path)
    if len({each.shape[1:] for each in checked}) > 1:
        raise UserError(f"{_called('y_test', path)} must have as many columns as {called}")
    y = np.concatenate(checked)
    named = np.ravel(arrays["names"]) if "names" in arrays else ()
    if y.ndim == 2 and (y.sum(axis=1) == 1).all():
        classes, y = y.shape[1], y.argmax(axis=1)
    else:
        classes = y.shape[1] if y.ndim == 2 else int(y.max()) + 1
        if y.ndim == 1 and classes > max(len(y), len(named)):
            raise UserError(
                f"{called}: labels go up to {classes - 1} in {len(y)} images; number the classes "
                "from 0"
            )
    names = [str(name) for name in (named if len(named) else range(classes))]
    if len(names) < classes or (y.ndim == 2 and len(names) != classes):
        raise UserError(
            f"{_called('names', path)} has {len(names)} names for {classes} classes; give one name "
            "for each class"
        )
    return y.astype(np.int32 if y.ndim == 1 else np.uint8), names, counts


def _part_labels(y, count, called):
    """Returns the labels of a part, with the shape `(n,)` or `(n, classes)`."""
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.dtype.kind not in "iub" or y.ndim not in (1, 2) or len(y) != count or not y.size:
        raise UserError(
            f"{called} must be integers of shape ({count},), or 0/1 of shape ({count}, classes), "
            f"but it is {y.dtype} of shape {y.shape}"
        )
    if y.min() < 0 or (y.ndim == 2 and y.max() > 1):
        raise UserError(
            f"{called} must number the classes from 0, or be 0/1 if images have several labels"
        )
    if y.ndim == 2 and not y.any(axis=1).all():
        row = int(np.flatnonzero(~y.any(axis=1))[0])
        raise UserError(f"{called}: row {row} has no label; remove such images")
    return y


def _called(name, path=None):
    """Returns how a message names an array, either in its file or as an argument."""
    return ARGUMENTS[name] if path is None else f"{path}: {name}"


def _read_npz(path, pixels=True):
    """Returns the arrays of a file. Without `pixels`, images are zeros that take no memory."""
    if not os.path.isfile(path):
        raise UserError(f"{path} is not there; npz:FILE takes a .npz file")
    try:
        # The file is opened by `zipfile`, so that a single array (.npy) is refused too.
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as content:
            return {
                name: content[name]
                if pixels or name not in ("x_train", "x_test")
                else _zeros(archive, name)
                for name in content.files
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"{path} cannot be read as a .npz file: {reason}") from None


def _zeros(archive, name):
    """Returns zeros with the shape and type of an array in a file. Only its header is read."""
    with archive.open(f"{name}.npy") as file:
        first = np.lib.format.read_magic(file) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return np.broadcast_to(np.zeros((), dtype), shape)


def digits(spec, image_size, channels):
    """Loads scikit-learn's digits. A fixed fifth of each class is for testing."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    y = data.target.astype(np.int32)
    rng = np.random.default_rng(0)
    by_class = [rng.permutation(np.flatnonzero(y == label)) for label in range(10)]
    test = np.sort(np.concatenate([rows[: len(rows) // 5] for rows in by_class]))
    train = np.setdiff1d(np.arange(len(y)), test)
    names = [str(i) for i in range(10)]
    return dataset.of_arrays(
        spec, x, y, names, train, test, image_size or 16, channels, mirrored=False
    )
