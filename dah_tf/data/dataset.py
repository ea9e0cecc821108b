"""Defines what a data set is, and makes one from pixels in memory."""

import dataclasses
import hashlib

import numpy as np

from dah_tf.data import image_sources
from dah_tf.errors import UserError
from dah_tf.images import luma

UNLABELLED = "image"
"""The name of the only class in a data set without labels."""


@dataclasses.dataclass
class Dataset:
    """A data set: its images, their labels, and its training and test parts.

    Attributes:
        name: str, the specification that was passed to `load`.
        images: `ArrayImages` or `FileImages`.
        labels: int32 array `(n,)`. For multi-label data it is a uint8 array `(n, classes)`.
        class_names: list of str.
        train: int64 array, the rows of the training part. It holds all rows if the data has no
            parts.
        test: int64 array, the rows of the test part. It may be empty.
        ids: list of str, or None.
        skipped: list of `(file, reason)`, the images that cannot be read.
        ignored: dict from a kind of file to a number. It counts the files that are not images.
        warnings: list of str, what the loader noticed. Each entry is a sentence.
        sizes: int array `(k, 2)`, the heights and widths of the original images or of a sample of
            them. It is empty if the sizes are not known.
        hashes: int64 array `(n,)`, the hashes of the contents of the image files. If it is None,
            the pixels are hashed when `row_hashes` is called.
        fingerprint: str, 12 hex digits. They depend on the labels and on the pixels or the
            contents of the image files.
        mirrored: bool, whether the mirror image of an image shows the same thing. This is False
            for digits, for example.
        labelled: bool. If it is False, all images belong to one class, `UNLABELLED`.
    """

    name: str
    images: object
    labels: np.ndarray
    class_names: list
    train: np.ndarray
    test: np.ndarray
    ids: list = None
    skipped: list = dataclasses.field(default_factory=list)
    ignored: dict = dataclasses.field(default_factory=dict)
    warnings: list = dataclasses.field(default_factory=list)
    sizes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2), int))
    hashes: np.ndarray = None
    fingerprint: str = ""
    mirrored: bool = True
    labelled: bool = True

    def __post_init__(self):
        if self.labelled and len(self.class_names) < 2:
            raise UserError(
                f"{self.name} has {len(self.class_names)} class, but at least two are needed; add "
                "images of other classes"
            )
        if not self.fingerprint:
            self.fingerprint = fingerprint_of(self.labels, self.images.array, self.train)

    @property
    def num_classes(self):
        """int, the number of classes."""
        return len(self.class_names)

    @property
    def multi_label(self):
        """bool, whether an image can have several labels."""
        return self.labels.ndim == 2

    def without_labels(self):
        """Returns a `Dataset` of the same images, all in the training part and in one class."""
        labels, every = np.zeros(len(self.labels), np.int32), np.arange(len(self.labels))
        return dataclasses.replace(
            self,
            labels=labels,
            class_names=[UNLABELLED],
            train=every,
            test=every[:0],
            fingerprint=fingerprint_of(labels, self.row_hashes(), every),
            labelled=False,
        )

    def row_hashes(self):
        """Returns an int64 array `(n,)`. Two values are equal if the images' contents are equal."""
        if self.hashes is None:
            rows = np.ascontiguousarray(self.images.array).reshape(len(self.images), -1)
            digests = [hashlib.blake2b(row, digest_size=8).digest() for row in rows]
            self.hashes = np.frombuffer(b"".join(digests), np.int64)
        return self.hashes


def fingerprint_of(labels, contents, train):
    """Returns 12 hex digits computed from the labels, the pixels or file hashes, and `train`."""
    digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes())
    digest.update(np.ascontiguousarray(contents))
    digest.update(np.asarray(train, "<i8").tobytes())
    return digest.hexdigest()[:12]


def of_arrays(spec, x, y, class_names, train, test, image_size, channels, **more):
    """Makes a data set from pixels in memory, and converts them to the given size and channels.

    Args:
        spec: str, the name of the data set.
        x: uint8 array of shape `(n, h, w, 1 or 3)`.
        y, class_names, train, test: the attributes `labels`, `class_names`, `train` and `test` of
            `Dataset`.
        image_size, channels: int, or None to keep those of the data.
        **more: further attributes of `Dataset`.
    """
    more.setdefault("sizes", np.array([x.shape[1:3]]))
    if channels not in (None, x.shape[3]):
        if channels == 3:
            x = np.repeat(x, 3, axis=3)
        else:
            x = luma(x)
    x = image_sources.resize_array(x, image_size or min(x.shape[1:3]))
    source = image_sources.ArrayImages(np.ascontiguousarray(x))
    return Dataset(spec, source, y, class_names, train, test, **more)


def tensorflow(spec):
    """Returns the module TensorFlow. Raises `UserError` if it is not installed."""
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":  # The installation is broken.
            raise
        raise UserError(
            f"dataset={spec} needs TensorFlow, which is not installed; arrays, npz:FILE and digits "
            "do not need it"
        ) from None
    return tf


class Unreadable(UserError):
    """Raised if too many images, or all images of a class, cannot be read.

    Attributes:
        skipped: list of `(file, reason)`.
    """

    def __init__(self, message, skipped):
        super().__init__(message)
        self.skipped = skipped


def check_skipped(where, skipped, count, most):
    """Raises an error if too many images of the data cannot be read.

    Args:
        where: str, the name of the data in the message.
        skipped: list of `(file, reason)`.
        count: int, the number of images including the unreadable ones.
        most: float, the share of the images that may be unreadable. If it is above 0, one
            unreadable image is always allowed, even in a small data set. If it is 0, none is.

    Raises:
        Unreadable: more images than that are unreadable.
    """
    if len(skipped) > max(most * count, 1 if most else 0):
        names = ", ".join(f"{name} ({reason})" for name, reason in skipped[:3])
        raise Unreadable(
            f"{len(skipped)} of {count} images of {where} cannot be read, which is more than "
            f"{100 * most:g}%: {names}{', ...' if len(skipped) > 3 else ''}; repair or remove them, "
            "or raise max_unreadable",
            skipped,
        )
