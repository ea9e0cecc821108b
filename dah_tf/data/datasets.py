"""Labelled images by a short name: `load("folder:photos")`."""

import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import socket
import urllib.parse
import urllib.request
import zipfile
import zlib

import numpy as np

from dah_tf.data import folders, image_sources
from dah_tf.errors import UserError

MAX_UNREADABLE = 0.01
"""Share of unreadable files above which loading stops."""

KINDS = "cifar10, tfds:NAME, folder:PATH, csv:FILE, npz:FILE, digits"


@dataclasses.dataclass
class Dataset:
    """Images, labels and the parts that the data came in.

    Attributes:
        name: str, what `load` was asked for.
        images: `ArrayImages` or `FileImages`.
        labels: int32 array `(n,)`; or, multi-label, uint8 array `(n, classes)`.
        class_names: list of str.
        train: int64 array, rows of the training part; all where the data has no parts.
        test: int64 array, rows of the test part; may be empty.
        ids: list of str, or None.
        skipped: list of `(file, reason)`, the unreadable ones.
        fingerprint: 12 hex digits over pixels, or contents of image files, and labels.
        mirrored: bool; an image's mirror image shows the same thing, which it does not of digits.
    """

    name: str
    images: object
    labels: np.ndarray
    class_names: list
    train: np.ndarray
    test: np.ndarray
    ids: list = None
    skipped: list = dataclasses.field(default_factory=list)
    fingerprint: str = ""
    mirrored: bool = True

    def __post_init__(self):
        if len(self.class_names) < 2:
            raise UserError(f"{self.name} has {len(self.class_names)} class; it takes two or more")
        if not self.fingerprint:
            self.fingerprint = _fingerprint(self.labels, self.images.array, self.train)

    @property
    def num_classes(self):
        """int, number of classes."""
        return len(self.class_names)

    @property
    def multi_label(self):
        """bool, whether an image can carry several labels."""
        return self.labels.ndim == 2


def _fingerprint(labels, contents, train):
    """12 hex digits over three arrays."""
    digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes())
    digest.update(np.ascontiguousarray(contents))
    digest.update(np.asarray(train, "<i8").tobytes())
    return digest.hexdigest()[:12]


def load(
    spec: str | None = None,
    *,
    images: np.ndarray | None = None,
    labels=None,
    test_images: np.ndarray | None = None,
    test_labels=None,
    class_names: list[str] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    data_dir: str | None = None,
    cache_gib: float = 4.0,
    max_unreadable: float = MAX_UNREADABLE,
) -> Dataset:
    """Loads labelled images, by a short name or from arrays.

    Args:
        spec: `cifar10`; `tfds:NAME`; `folder:PATH`, a folder a class, in optional `train` and
            `test`; `csv:FILE`, rows `path,label[;label...][,train|test]`; `npz:FILE` with
            `x_train`, `y_train` and optional `x_test`, `y_test`, `names`; `digits`, scikit-learn's
            1,797 images of 8x8 pixels, a fixed fifth of each class for testing. None where
            `images` are given.
        images: uint8 array of shape `(n, h, w)` or `(n, h, w, 1 or 3)`.
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
        max_unreadable: float, the share of image files that may be unreadable.

    Returns:
        `Dataset`.

    Raises:
        UserError: nothing there, not readable, or not of the kind's form.

    Example:
        >>> data = load(images=np.zeros((4, 32, 32, 3), np.uint8), labels=["cat", "owl"] * 2)
        >>> data.class_names, data.images.size
        (['cat', 'owl'], 32)
    """
    if images is not None:
        if spec is not None:
            raise UserError("name a data set or give images, not both")
        given = {"x_train": images, "y_train": labels, "x_test": test_images}
        given |= {"y_test": test_labels, "names": class_names}
        return _given(given, image_size, channels)
    if spec is None:
        raise UserError("name a data set, such as folder:PATH, or give images and labels")
    kind, _, value = spec.partition(":")
    if spec == "digits":
        return _digits(spec, image_size, channels)
    if spec == "cifar10" or (kind == "tfds" and value):
        return _tfds(spec, value or spec, data_dir, image_size, channels, cache_gib, max_unreadable)
    if kind == "npz" and value:
        return _parts(spec, value, _read_npz(value), image_size, channels)
    if kind in ("folder", "csv") and value:
        rows = (folders.from_folder if kind == "folder" else folders.from_csv)(value)
        return _files(spec, rows, value, image_size, channels, cache_gib, max_unreadable)
    raise UserError(f"unknown dataset={spec}; known: {KINDS}")


# What the parts of an .npz file are called where they are arguments.
ARGUMENTS = {
    "x_train": "images",
    "y_train": "labels",
    "x_test": "test_images",
    "y_test": "test_labels",
    "names": "class_names",
}


def _given(arrays, image_size, channels):
    """A data set of arrays in memory."""
    arrays = {name: np.asarray(each) for name, each in arrays.items() if each is not None}
    for part in ("train", "test"):
        images, labels = ARGUMENTS[f"x_{part}"], ARGUMENTS[f"y_{part}"]
        if (f"x_{part}" in arrays) != (f"y_{part}" in arrays):
            raise UserError(f"{images} and {labels} go together: give both")
    kinds = [arrays[name].dtype.kind for name in ("y_train", "y_test") if name in arrays]
    if set(kinds) <= {"U", "O", "S"}:
        texts = {name: arrays[name].astype(str) for name in ("y_train", "y_test") if name in arrays}
        known = list(arrays.get("names", np.unique(np.concatenate([*texts.values()]))))
        number = {str(name): index for index, name in enumerate(known)}
        for name, labels in texts.items():
            if unknown := sorted(set(labels.ravel().tolist()) - number.keys()):
                raise UserError(f"class_names lack {unknown[0]!r}, which {ARGUMENTS[name]} have")
            arrays[name] = np.array([number[each] for each in labels.ravel().tolist()])
        arrays["names"] = np.array(known)
    return _parts("arrays", None, arrays, image_size, channels)


def _arrays(spec, x, y, class_names, train, test, image_size, channels, **more):
    """A data set of pixels in memory, brought to the size and channels asked for."""
    if channels not in (None, x.shape[3]):
        if channels == 3:
            x = np.repeat(x, 3, axis=3)
        else:  # the rule of `pixels.luma`
            total = x @ np.array([[19595], [38470], [7471]], np.int32)
            x = ((total + 32768) >> 16).astype(np.uint8)
    x = image_sources.resize_array(x, image_size or min(x.shape[1:3]))
    images = image_sources.ArrayImages(np.ascontiguousarray(x))
    return Dataset(spec, images, y, class_names, train, test, **more)


def _digits(spec, image_size, channels):
    from sklearn.datasets import load_digits

    data = load_digits()
    x = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    y = data.target.astype(np.int32)
    rng = np.random.default_rng(0)
    by_class = [rng.permutation(np.flatnonzero(y == label)) for label in range(10)]
    test = np.sort(np.concatenate([rows[: len(rows) // 5] for rows in by_class]))
    train = np.setdiff1d(np.arange(len(y)), test)
    names = [str(i) for i in range(10)]
    return _arrays(spec, x, y, names, train, test, image_size or 16, channels, mirrored=False)


def _parts(spec, path, arrays, image_size, channels):
    """A data set of arrays by part; `path` is of the file that they come from, or None."""
    parts = [part for part in ("train", "test") if f"x_{part}" in arrays]
    if "train" not in parts or any(f"y_{part}" not in arrays for part in parts):
        raise UserError(
            f"{path} must hold x_train and y_train (and x_test with y_test, if any); it holds "
            f"{', '.join(sorted(arrays)) or 'nothing'}"
        )
    checked = [_part(path, part, arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in parts]
    if len({(x.shape[1:], y.shape[1:]) for x, y in checked}) > 1:
        raise UserError(f"{_called(path)}the test part has another shape than the training part")
    x, y = (np.concatenate(each) for each in zip(*checked, strict=True))
    if y.ndim == 2 and (y.sum(axis=1) == 1).all():
        classes, y = y.shape[1], y.argmax(axis=1)
    else:
        classes = y.shape[1] if y.ndim == 2 else int(y.max()) + 1
        if y.ndim == 1 and classes > max(len(x), np.size(arrays.get("names", ()))):
            raise UserError(
                f"{_called(path)}labels go up to {classes - 1} in {len(x)} images; number the classes "
                "from 0"
            )
    names = [str(name) for name in np.ravel(arrays.get("names", np.arange(classes)))]
    if len(names) < classes or (y.ndim == 2 and len(names) != classes):
        raise UserError(f"{_called(path)}{len(names)} names for {classes} classes")
    y = y.astype(np.int32 if y.ndim == 1 else np.uint8)
    count = len(checked[0][0])
    train, test = np.arange(count), np.arange(count, len(x))
    return _arrays(spec, x, y, names, train, test, image_size, channels)


def _called(path, name=None):
    """How a message about a part begins: with the file's name, or the argument's."""
    if path is None:
        return f"{ARGUMENTS[name]}" if name else ""
    return f"{path}: {name or ''}"


def _read_npz(path):
    if not os.path.isfile(path):
        raise UserError(f"{path} is not there; dataset=npz:FILE takes a .npz file")
    try:
        with zipfile.ZipFile(path):  # so that a single array (.npy) is refused too
            pass
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"{path} cannot be read as a .npz file: {reason}") from None


def _part(path, part, x, y):
    """Images and labels of a part, shapes `(n, h, w, channels)` and `(n,)` or `(n, classes)`."""
    x = x[..., None] if x.ndim == 3 else x
    if x.ndim != 4 or x.dtype != np.uint8 or x.shape[3] not in (1, 3) or not x.size:
        raise UserError(
            f"{_called(path, f'x_{part}')} must be uint8 of shape (n, h, w, 1 or 3), it is {x.dtype} of shape "
            f"{x.shape}"
        )
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.dtype.kind not in "iub" or y.ndim not in (1, 2) or len(y) != len(x):
        raise UserError(
            f"{_called(path, f'y_{part}')} must be integers of shape ({len(x)},), or 0/1 of shape "
            f"({len(x)}, classes), it is {y.dtype} of shape {y.shape}"
        )
    if y.min() < 0 or (y.ndim == 2 and y.max() > 1):
        raise UserError(
            f"{_called(path, f'y_{part}')} must count from 0, or be 0/1 for several labels"
        )
    if y.ndim == 2 and not y.any(axis=1).all():
        row = int(np.flatnonzero(~y.any(axis=1))[0])
        raise UserError(
            f"row {row} of {_called(path, f'y_{part}')} has no label; remove such images"
        )
    return x, y


def _tensorflow(spec):
    try:
        import tensorflow as tf
    except ImportError:
        raise UserError(
            f"dataset={spec} needs TensorFlow, which is not installed; npz: and digits do not"
        ) from None
    return tf


def _tfds(spec, name, data_dir, image_size, channels, cache_gib, max_unreadable):
    tf = _tensorflow(spec)
    import tensorflow_datasets as tfds

    builder = tfds_builder(name, data_dir)
    features, splits = builder.info.features, builder.info.splits
    keys = features.keys() if hasattr(features, "keys") else ()
    if not {"image", "label"} <= set(keys) or not hasattr(features["label"], "num_classes"):
        raise UserError(f"{spec} has no image and label; choose a data set of labelled images")
    if "train" not in splits:
        raise UserError(f"{spec} has no train split; it has {', '.join(splits)}")
    own = features["image"].shape
    channels = channels or (1 if own[2] == 1 else 3)
    size = image_size or (min(own[:2]) if None not in own[:2] else 32)
    shape = (size, size, channels)
    parts = [part for part in ("train", "test") if part in splits]
    counts = [splits[part].num_examples for part in parts]
    if sum(counts) * size * size * channels > cache_gib * 2**30:
        need = sum(counts) * size * size * channels / 2**30
        raise UserError(f"{spec} takes {need:.1f} GiB of memory; raise cache_gib={cache_gib:g}")
    pixels, labels, skipped = [], [], []
    for part, count in zip(parts, counts, strict=True):
        raw = {"image": tfds.decode.SkipDecoding()}
        items = builder.as_dataset(split=part, decoders=raw, shuffle_files=False).enumerate()
        items = items.map(lambda i, row: (tf.stack([i, row["label"]]), row["image"]))
        images, tags = image_sources.decode_all(items, _decoder(size, channels), count, shape)
        own = tags.reshape(-1, 2)[:, 1].astype(np.int32)
        if len(own) and own.min() < 0:  # TFDS' -1, where a contest keeps the labels to itself
            if part == "test" and own.max() < 0:
                continue
            raise UserError(f"{spec}: {np.sum(own < 0):,} images of its {part} part have no label")
        pixels.append(images)
        labels.append(own)
        lost = np.setdiff1d(np.arange(count), tags.reshape(-1, 2)[:, 0])
        skipped += [(f"{part}/{i}", "not a readable image") for i in lost]
    _check_skipped(spec, skipped, sum(counts), max_unreadable)
    train = np.arange(len(pixels[0]))
    test = np.arange(len(pixels[0]), sum(len(each) for each in pixels))
    x, y = np.concatenate(pixels), np.concatenate(labels)
    names = [features["label"].int2str(i) for i in range(features["label"].num_classes)]
    return _arrays(spec, x, y, names, train, test, image_size, channels, skipped=skipped)


def tfds_builder(name, data_dir=None):
    """The prepared builder of a TFDS name; downloads where it must and can.

    Args:
        name: str, such as `cifar10`.
        data_dir: path where TensorFlow Datasets keeps its data; None is its own default.

    Raises:
        UserError: there is no such data set, or it cannot be had.
    """
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logging.getLogger("tensorflow_datasets").setLevel(logging.ERROR)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        if builder.data_path.exists():
            return builder
        _check_network(getattr(builder, "url_infos", {}))
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError:
        raise UserError(f"TensorFlow Datasets knows no {name}, and data_dir has none") from None
    except Exception as error:  # noqa: BLE001 - whatever a download meets
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        folder = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
        raise UserError(
            f"{name} is not in {folder} and cannot be downloaded ({reason[:120]}); point "
            "data_dir at a prepared folder, or take data of another kind, such as npz:FILE"
        ) from None
    return builder


def _check_network(urls):
    """Fails at once where no download can succeed; TFDS would retry for minutes.

    Raises:
        OSError: a host does not answer.
    """
    if urllib.request.getproxies():
        return
    for url in {urllib.parse.urljoin(url, "/") for url in urls}:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        if parts.hostname and port:
            try:
                socket.create_connection((parts.hostname, port), timeout=10).close()
            except OSError as error:
                raise OSError(f"{parts.hostname}: {error.strerror or error}") from error


def _decoder(size, channels):
    from dah_tf.data import pixels

    return lambda contents: pixels.resize(pixels.decode(contents, channels), size)


def _files(spec, rows, where, image_size, channels, cache_gib, max_unreadable):
    """A data set of image files: `rows` of `(path, labels, part)`."""
    tf = _tensorflow(spec)
    size, channels = image_size or 32, channels or 3
    decoder = _decoder(size, channels)
    cached = len(rows) * size * size * channels <= cache_gib * 2**30
    shape = (size, size, channels) if cached else (0,)

    def read(number, path):
        contents = tf.io.read_file(path)
        return tf.stack([number, tf.strings.to_hash_bucket_fast(contents, 2**62)]), contents

    def load(contents):
        image = decoder(contents)
        return image if cached else tf.reshape(image, (-1,))[:0]

    names = [os.fsencode(row[0]) for row in rows]
    items = tf.data.Dataset.from_tensor_slices(names).enumerate()
    items = items.map(read, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    pixels, tags = image_sources.decode_all(items, load, len(rows), shape)
    kept, hashes = tags.reshape(-1, 2).T
    lost = [rows[i][0] for i in np.setdiff1d(np.arange(len(rows)), kept)]
    skipped = [(p, "not a readable image" if os.path.exists(p) else "no such file") for p in lost]
    _check_skipped(where, skipped, len(rows), max_unreadable)
    all_names = sorted({label for row in rows for label in row[1]})
    rows = [rows[i] for i in kept]
    gone = set(all_names) - {label for row in rows for label in row[1]}
    if gone:
        raise UserError(f"{where}: class {min(gone)} has no readable image; mend or remove it")
    paths = [row[0] for row in rows]
    source = (
        image_sources.ArrayImages(pixels)
        if cached
        else image_sources.FileImages(paths, size, channels)
    )
    is_test = np.array([row[2] == "test" for row in rows])
    labels, train = _encode_labels([row[1] for row in rows], all_names), np.flatnonzero(~is_test)
    return Dataset(
        spec,
        source,
        labels,
        all_names,
        train,
        np.flatnonzero(is_test),
        ids=paths,
        skipped=skipped,
        # The same whether pixels are kept in memory or not.
        fingerprint=_fingerprint(labels, hashes, train),
    )


def _encode_labels(labels, names):
    """int32 `(n,)`, or where an image has several labels uint8 `(n, classes)`."""
    number = {name: i for i, name in enumerate(names)}
    if all(len(each) == 1 for each in labels):
        return np.array([number[each[0]] for each in labels], np.int32)
    encoded = np.zeros((len(labels), len(names)), np.uint8)
    for row, each in zip(encoded, labels, strict=True):
        row[[number[label] for label in each]] = 1
    return encoded


class Unreadable(UserError):
    """Too many images cannot be read.

    Attributes:
        skipped: list of `(file, reason)`.
    """

    def __init__(self, message, skipped):
        super().__init__(message)
        self.skipped = skipped


def _check_skipped(where, skipped, count, most):
    """Refuses data of which too many images cannot be read.

    Raises:
        Unreadable: more than a share `most`; of 20 images or more, one is let pass.
    """
    if len(skipped) > max(most * count, 1 if most and count >= 20 else 0):
        names = ", ".join(f"{name} ({reason})" for name, reason in skipped[:3])
        raise Unreadable(
            f"{len(skipped)} of {count} images of {where} cannot be read, more than "
            f"{most:.0%}: {names}{', ...' if len(skipped) > 3 else ''}; mend or remove them, or "
            "raise max_unreadable",
            skipped,
        )
