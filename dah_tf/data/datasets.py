"""Labelled images by a short name: `load("folder:photos")`."""

import csv
import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from dah_tf.data import sources
from dah_tf.errors import UserError

MAX_SKIPPED = 0.01
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
        fingerprint: 12 hex digits over pixels (or file names) and labels.
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

    def __post_init__(self):
        if not self.fingerprint:
            digest = hashlib.sha256(np.ascontiguousarray(self.labels).tobytes())
            if isinstance(self.images, sources.ArrayImages):
                digest.update(np.ascontiguousarray(self.images.array))
            else:
                digest.update("\n".join(self.images.paths).encode())
            digest.update(np.asarray(self.train, "<i8").tobytes())
            self.fingerprint = digest.hexdigest()[:12]

    @property
    def num_classes(self):
        """int, number of classes."""
        return len(self.class_names)

    @property
    def multi_label(self):
        """bool, whether an image can carry several labels."""
        return self.labels.ndim == 2


def load(spec, *, image_size=None, channels=None, data_dir=None, cache_gib=4.0):
    """Loads labelled images.

    Args:
        spec: `cifar10`; `tfds:NAME`; `folder:PATH`, a folder a class, in optional `train` and
            `test`; `csv:FILE`, rows `path,label[;label...][,train|test]`; `npz:FILE` with
            `x_train`, `y_train` and optional `x_test`, `y_test`, `names`; `digits`, scikit-learn's
            1,797 images of 8x8 pixels, a fixed fifth of them for testing.
        image_size: int, side the images are resized to (`pixels.resize`); None keeps the data's
            own (16 for digits, 32 for folders and lists of files).
        channels: 1, 3 or None for the data's own (3 for files).
        data_dir: where TensorFlow Datasets keeps its data.
        cache_gib: float; decoded files are kept in memory up to this many GiB, else they are
            decoded each time.

    Returns:
        `Dataset`.

    Raises:
        UserError: nothing there, not readable, or not of the kind's form.
    """
    kind, _, value = spec.partition(":")
    options = {"image_size": image_size, "channels": channels}
    if spec == "digits":
        return _digits(spec, **options)
    if spec == "cifar10" or (kind == "tfds" and value):
        return _tfds(spec, value or spec, data_dir, **options)
    if kind == "npz" and value:
        return _npz(spec, pathlib.Path(value), **options)
    if kind == "folder" and value:
        return _files(spec, *_folder(pathlib.Path(value)), cache_gib=cache_gib, **options)
    if kind == "csv" and value:
        return _files(spec, *_csv(pathlib.Path(value)), cache_gib=cache_gib, **options)
    raise UserError(f"unknown --dataset={spec}; known: {KINDS}")


def _arrays(spec, x, y, class_names, train, test, image_size, channels, **more):
    """A data set of pixels in memory, brought to the size and channels asked for."""
    if channels not in (None, x.shape[3]):
        if channels == 3:
            x = np.repeat(x, 3, axis=3)
        else:  # the rule of `pixels.luma`
            total = x.astype(np.int32) @ np.array([[19595], [38470], [7471]], np.int32)
            x = ((total + 32768) >> 16).astype(np.uint8)
    x = sources.resize_array(x, image_size or min(x.shape[1:3]))
    images = sources.ArrayImages(np.ascontiguousarray(x))
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
    return _arrays(spec, x, y, names, train, test, image_size or 16, channels)


def _npz(spec, path, image_size, channels):
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except FileNotFoundError:
        raise UserError(f"{path} is not there; --dataset=npz:FILE takes a .npz file") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is no readable .npz file ({error})") from None
    parts = [part for part in ("train", "test") if f"x_{part}" in arrays]
    if "train" not in parts or any(f"y_{part}" not in arrays for part in parts):
        raise UserError(f"{path} must hold x_train and y_train; it holds {sorted(arrays)}")
    for part in parts:
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        x = arrays[f"x_{part}"] = x[..., None] if x.ndim == 3 else x
        if x.ndim != 4 or x.dtype != np.uint8 or x.shape[3] not in (1, 3):
            raise UserError(
                f"{path}: x_{part} must be uint8 of shape (n, h, w, 1 or 3), it is {x.dtype} of "
                f"shape {x.shape}"
            )
        y = arrays[f"y_{part}"] = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.dtype.kind not in "iub" or y.ndim not in (1, 2) or len(y) != len(x) or not len(x):
            raise UserError(
                f"{path}: y_{part} must be integers of shape ({len(x)},), or 0/1 of shape "
                f"({len(x)}, classes), it is {y.dtype} of shape {y.shape}"
            )
        if x.shape[1:] != arrays["x_train"].shape[1:]:
            raise UserError(f"{path}: x_test has images of another shape than x_train")
    counts = [len(arrays[f"x_{part}"]) for part in parts]
    x = np.concatenate([arrays[f"x_{part}"] for part in parts])
    y = np.concatenate([arrays[f"y_{part}"] for part in parts])
    if y.min() < 0 or (y.ndim == 2 and y.max() > 1):
        raise UserError(f"{path}: labels must count from 0, or be 0/1 for several labels")
    y = y.astype(np.int32 if y.ndim == 1 else np.uint8)
    classes = y.max() + 1 if y.ndim == 1 else y.shape[1]
    names = [str(name) for name in arrays.get("names", np.arange(classes))]
    if len(names) < classes:
        raise UserError(f"{path}: {len(names)} names for {classes} classes")
    train, test = np.arange(counts[0]), np.arange(counts[0], len(x))
    return _arrays(spec, x, y, names, train, test, image_size, channels)


def _tfds(spec, name, data_dir, image_size, channels):
    if data_dir:
        os.environ["TFDS_DATA_DIR"] = str(data_dir)
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(f"--dataset={spec} needs TensorFlow ({error}); npz: does not") from None
    tfds.disable_progress_bar()
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        if not builder.data_path.exists():
            builder.download_and_prepare()
    except (OSError, ValueError, RuntimeError, AssertionError) as error:  # of its download too
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise UserError(
            f"{name} is not in {data_dir or '~/tensorflow_datasets'} and cannot be downloaded "
            f"({reason}); point --data_dir at a prepared folder, or use --dataset=npz:FILE"
        ) from None
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
        raise UserError(f"tfds:{name} has no image and label features")
    decoders = {"image": tfds.decode.SkipDecoding()}
    parts, labels, counts, skipped = [], [], [], []
    for part in ("train", "test"):
        if part not in builder.info.splits:
            counts.append(0)
            continue
        data = builder.as_dataset(split=part, decoders=decoders, shuffle_files=False)
        count = builder.info.splits[part].num_examples
        size = image_size or features["image"].shape[0] or 32
        wanted = channels or features["image"].shape[-1] or 3
        images, kept = sources.decode_all(data.map(lambda row: row["image"]), count, size, wanted)
        lost = np.setdiff1d(np.arange(count), kept)
        skipped += [(f"{part}/{i}", "not a readable image") for i in lost]
        every = data.map(lambda row: row["label"]).batch(4096).as_numpy_iterator()
        parts.append(images)
        labels.append(np.concatenate(list(every))[kept].astype(np.int32))
        counts.append(len(kept))
    x, y = np.concatenate(parts), np.concatenate(labels)
    train, test = np.arange(counts[0]), np.arange(counts[0], len(x))
    _check_skipped(spec, skipped, len(x))
    names = list(features["label"].names)
    return Dataset(spec, sources.ArrayImages(x), y, names, train, test, skipped=skipped)


def _folder(root):
    """Files and labels of a folder a class; returns what `_files` takes."""
    if not root.is_dir():
        raise UserError(f"{root} is no folder; --dataset=folder:PATH wants PATH/CLASS/IMAGE")

    def folders(path):
        return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))

    parts = {"train": root}
    if (root / "train").is_dir():
        parts = {part: root / part for part in ("train", "test") if (root / part).is_dir()}
    rows = []
    for part, base in parts.items():
        for folder in folders(base):
            found = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name[0] != "."]
            if not found:
                raise UserError(f"{folder} holds no images; add some or remove the folder")
            rows += [(str(path), [folder.name], part) for path in found]
    if not rows:
        raise UserError(f"{root} holds no images; it must be laid out as {root}/CLASS/IMAGE")
    return rows, str(root)


def _csv(path):
    """Files and labels of a list; returns what `_files` takes."""
    rows = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row or (number == 1 and row[0].strip().lower() == "path"):
                    continue
                labels = [x.strip() for x in row[1].split(";") if x.strip()] if row[1:] else []
                part = row[2].strip() if len(row) > 2 and row[2].strip() else "train"
                if not labels or part not in ("train", "test") or len(row) > 3:
                    raise UserError(
                        f"{path}:{number}: want path,label[;label...][,train|test], found "
                        f"{','.join(row)!r}"
                    )
                rows.append((str(path.parent / row[0].strip()), labels, part))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a list of images: {error}") from None
    if not rows:
        raise UserError(f"{path} names no images; want rows path,label[;label...]")
    return rows, str(path)


def _files(spec, rows, where, image_size, channels, cache_gib):
    """A data set of image files: `rows` of `(path, labels, part)`."""
    import tensorflow as tf

    size, channels = image_size or 32, channels or 3
    rows.sort(key=lambda row: (row[2] != "train", row[0]))
    paths = [row[0] for row in rows]
    cached = len(rows) * size * size * channels <= cache_gib * 2**30
    files = tf.data.Dataset.from_tensor_slices(paths).map(
        lambda path: _contents(tf, path), num_parallel_calls=tf.data.AUTOTUNE
    )
    # What is not kept in memory is still read once, to find the broken files before training.
    images, kept = sources.decode_all(files, len(rows), size if cached else 1, channels)
    lost = np.setdiff1d(np.arange(len(rows)), kept)
    skipped = [(paths[i], "not a readable image") for i in lost]
    _check_skipped(where, skipped, len(rows))
    rows = [rows[i] for i in kept]
    names = sorted({label for row in rows for label in row[1]})
    number = {name: i for i, name in enumerate(names)}
    if len(names) < 2:
        raise UserError(f"{where} has {len(names)} class; it takes two or more")
    if any(len(row[1]) > 1 for row in rows):
        labels = np.zeros((len(rows), len(names)), np.uint8)
        for i, row in enumerate(rows):
            labels[i, [number[label] for label in row[1]]] = 1
    else:
        labels = np.array([number[row[1][0]] for row in rows], np.int32)
    is_test = np.array([row[2] == "test" for row in rows])
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    if not len(train):
        raise UserError(f"{where} has no training images")
    paths = [row[0] for row in rows]
    if cached:
        source = sources.ArrayImages(images)
    else:
        source = sources.FileImages(paths, size, channels)
    return Dataset(spec, source, labels, names, train, test, ids=paths, skipped=skipped)


def _contents(tf, path):
    """A file's bytes; empty, which no decoder takes, where it cannot be read."""

    def read(name):
        try:
            return pathlib.Path(name.decode()).read_bytes()
        except OSError:
            return b""

    return tf.ensure_shape(tf.numpy_function(read, [path], tf.string), ())


def _check_skipped(where, skipped, count):
    if len(skipped) > MAX_SKIPPED * count:
        names = ", ".join(name for name, _ in skipped[:3])
        raise UserError(
            f"{len(skipped)} of {count} images of {where} cannot be read, more than "
            f"{MAX_SKIPPED:.0%}: {names}{', ...' if len(skipped) > 3 else ''}; mend or remove them"
        )
