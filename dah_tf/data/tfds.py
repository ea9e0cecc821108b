"""Loads data sets of TensorFlow Datasets (TFDS)."""

import contextlib
import io
import logging
import os
import socket
import urllib.parse
import urllib.request

import numpy as np

from dah_tf.data import dataset, image_sources
from dah_tf.errors import UserError


def load(spec, name, data_dir, *, image_size, channels, cache_gib, max_unreadable):
    """Loads a TFDS data set. `dah_tf.data.datasets.load` explains the arguments."""
    tf = dataset.tensorflow(spec)
    import tensorflow_datasets as tfds

    builder = builder_of(name, data_dir)
    features, splits = builder.info.features, builder.info.splits
    names, size, channels = _about(spec, features, image_size, channels)
    if "train" not in splits:
        raise UserError(f"{spec} has no train split; it has {', '.join(splits)}")
    own = features["image"].shape
    sizes = np.array([own[:2]]) if None not in own[:2] else np.zeros((0, 2), int)
    shape = (size, size, channels)
    parts = [part for part in ("train", "test") if part in splits]
    counts = [splits[part].num_examples for part in parts]
    if sum(counts) * size * size * channels > cache_gib * 2**30:
        need = sum(counts) * size * size * channels / 2**30
        raise UserError(f"{spec} needs {need:.1f} GiB of memory; raise cache_gib={cache_gib:g}")
    pixels, labels, skipped = [], [], []
    for part, count in zip(parts, counts, strict=True):
        raw = {"image": tfds.decode.SkipDecoding()}
        items = builder.as_dataset(split=part, decoders=raw, shuffle_files=False).enumerate()
        items = items.map(lambda i, row: (tf.stack([i, row["label"]]), row["image"]))
        images, tags = image_sources.decode_all(
            items, image_sources.decoder(size, channels), count, shape
        )
        own = tags.reshape(-1, 2)[:, 1].astype(np.int32)
        if len(own) and own.min() < 0:  # TFDS stores -1 if labels are secret.
            if part == "test" and own.max() < 0:
                continue
            raise UserError(
                f"{spec}: {np.sum(own < 0):,} images of its {part} part have no label; choose "
                "another data set"
            )
        pixels.append(images)
        labels.append(own)
        lost = np.setdiff1d(np.arange(count), tags.reshape(-1, 2)[:, 0])
        skipped += [(f"{part}/{i}", "not a readable image") for i in lost]
    dataset.check_skipped(spec, skipped, sum(counts), max_unreadable)
    train = np.arange(len(pixels[0]))
    test = np.arange(len(pixels[0]), sum(len(each) for each in pixels))
    x, y = np.concatenate(pixels), np.concatenate(labels)
    return dataset.of_arrays(
        spec, x, y, names, train, test, image_size, channels, skipped=skipped, sizes=sizes
    )


def outline(spec, name, data_dir, *, image_size, channels):
    """Returns the outline: class names, image size and channels. Nothing is downloaded."""
    return _about(spec, find(name, data_dir).info.features, image_size, channels)


def _about(spec, features, image_size, channels):
    keys = features.keys() if hasattr(features, "keys") else ()
    if not {"image", "label"} <= set(keys) or not hasattr(features["label"], "num_classes"):
        raise UserError(f"{spec} has no image and label; choose a data set of labelled images")
    names = [features["label"].int2str(i) for i in range(features["label"].num_classes)]
    own = features["image"].shape
    size = image_size or (min(own[:2]) if None not in own[:2] else 32)
    return names, size, channels or (1 if own[2] == 1 else 3)


def builder_of(name, data_dir=None):
    """Returns the prepared builder of a TFDS name, and downloads the data if it is missing.

    Args:
        name: str, such as `cifar10`.
        data_dir: path of the folder in which TensorFlow Datasets keeps its data. If it is None,
            TensorFlow Datasets uses its default folder.

    Raises:
        UserError: there is no such data set, or it cannot be downloaded or prepared.
    """
    builder = find(name, data_dir)
    if builder.data_path.exists():
        return builder
    try:
        _check_network(getattr(builder, "url_infos", {}))
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except _faults() as error:
        folder = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
        raise UserError(
            f"{name} is not in {folder} and cannot be downloaded ({_line(error)}); point "
            "data_dir at a prepared folder, or take data of another kind, such as npz:FILE"
        ) from error
    return builder


def find(name, data_dir=None):
    """Returns the builder of a TFDS name. It may be unprepared: its `info` describes the data.

    Args:
        name, data_dir: the same as for `builder_of`.

    Raises:
        UserError: the data set, or the requested version or configuration, does not exist.
    """
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logging.getLogger("tensorflow_datasets").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise UserError(
            f"TensorFlow Datasets has no data set {name}, and data_dir does not contain it; check "
            "the name"
        ) from None
    except (AssertionError, ValueError) as error:  # A part of the name is wrong.
        raise UserError(f"TensorFlow Datasets has no {name}: {_line(error)}") from error
    except (OSError, ImportError) as error:
        raise UserError(f"TensorFlow Datasets cannot open {name}: {_line(error)}") from error


def _faults():
    """Returns a tuple of the exceptions that TFDS raises when a data set cannot be had."""
    import tensorflow as tf
    from tensorflow_datasets.core.download import download_manager, extractor, util

    return (
        OSError,
        tf.errors.OpError,
        ImportError,  # A package is missing that only this data set needs.
        AssertionError,  # Some files have to be downloaded by hand.
        util.DownloadError,
        extractor.ExtractError,
        download_manager.NonMatchingChecksumError,
    )


def _line(error):
    """Returns the first line of an error's message, shortened so that it fits the screen."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line.rpartition('}": ')[2][:120]  # TFDS puts the arguments before the message.


def _check_network(urls):
    """Fails at once if no download can succeed, because TFDS would retry for minutes.

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
