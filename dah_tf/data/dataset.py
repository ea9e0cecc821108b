"""What a data set is, and how one is made of pixels in memory."""

import dataclasses
import hashlib

import numpy as np

from dah_tf.data import image_sources
from dah_tf.errors import UserError
from dah_tf.images import luma

UNLABELLED = "image"
"""The class of all images where none has a label."""


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
        skipped: list of `(file, reason)`, the images that cannot be read.
        ignored: dict of kind to number, the files that are no images.
        warnings: list of str, what the loader noticed, a sentence each.
        sizes: int array `(k, 2)`, heights and widths of the originals, or of a sample of them;
            empty where not known.
        hashes: int64 array `(n,)`, of the contents of image files; None hashes the pixels when
            `row_hashes` is asked for.
        fingerprint: 12 hex digits over pixels, or contents of image files, and labels.
        mirrored: bool; an image's mirror image shows the same thing, which it does not of digits.
        labelled: bool; where it is False, all images are of one class, `UNLABELLED`.
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
            raise UserError(f"{self.name} has {len(self.class_names)} class; it takes two or more")
        if not self.fingerprint:
            self.fingerprint = fingerprint_of(self.labels, self.images.array, self.train)

    @property
    def num_classes(self):
        """int, number of classes."""
        return len(self.class_names)

    @property
    def multi_label(self):
        """bool, whether an image can carry several labels."""
        return self.labels.ndim == 2

    def without_labels(self):
        """The same images, all of them in the training part and of one class: `Dataset`."""
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
        """int64 array `(n,)`, equal where the same image is there again, by its content."""
        if self.hashes is None:
            rows = np.ascontiguousarray(self.images.array).reshape(len(self.images), -1)
            digests = [hashlib.blake2b(row, digest_size=8).digest() for row in rows]
            self.hashes = np.frombuffer(b"".join(digests), np.int64)
        return self.hashes


def fingerprint_of(labels, contents, train):
    """12 hex digits over three arrays: labels; pixels, or hashes of files; training rows."""
    digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes())
    digest.update(np.ascontiguousarray(contents))
    digest.update(np.asarray(train, "<i8").tobytes())
    return digest.hexdigest()[:12]


def of_arrays(spec, x, y, class_names, train, test, image_size, channels, **more):
    """A data set of pixels in memory, brought to the size and channels asked for.

    Args:
        spec: str, its name.
        x: uint8 array of shape `(n, h, w, 1 or 3)`.
        y, class_names, train, test: as `Dataset` has them.
        image_size, channels: int, or None for the data's own.
        **more: of `Dataset`.
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
    """TensorFlow, for data that needs it. Raises `UserError` where it is not installed."""
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":  # a broken installation
            raise
        raise UserError(
            f"dataset={spec} needs TensorFlow, which is not installed; arrays, npz: and digits do not"
        ) from None
    return tf


class Unreadable(UserError):
    """Images cannot be read, too many of them or all of a class.

    Attributes:
        skipped: list of `(file, reason)`.
    """

    def __init__(self, message, skipped):
        super().__init__(message)
        self.skipped = skipped


def check_skipped(where, skipped, count, most):
    """Refuses data of which too many images cannot be read.

    Args:
        where: str, names the data.
        skipped: list of `(file, reason)`.
        count: int, images with the unreadable ones.
        most: float, the share that may be unreadable. Above 0 it lets one image pass however few
            there are; 0 lets none.

    Raises:
        Unreadable: more than that.
    """
    if len(skipped) > max(most * count, 1 if most else 0):
        names = ", ".join(f"{name} ({reason})" for name, reason in skipped[:3])
        raise Unreadable(
            f"{len(skipped)} of {count} images of {where} cannot be read, more than "
            f"{100 * most:g}%: {names}{', ...' if len(skipped) > 3 else ''}; mend or remove them, or "
            "raise max_unreadable",
            skipped,
        )
