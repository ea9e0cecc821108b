"""Defines features of images, and computes them for many images. NumPy only."""

import numpy as np

from dah_tf.errors import UserError


class Feature:
    """Describes each image of a batch by d numbers.

    A subclass defines `_describe(images)`, which takes uint8 `(n, h, w, 1 or 3)` with n of at least
    1 and returns float32 `(n, d)`. The keyword-only arguments of its constructor are the options
    of its text.
    """

    name = ""

    def __call__(self, images):
        """Computes the features of a batch.

        Args:
            images: uint8 array of shape `(n, h, w)` or `(n, h, w, 1 or 3)`, at least one image.

        Returns:
            float32 array of shape `(n, d)`.

        Raises:
            UserError: the images have another form.
        """
        return self._describe(checked(images))

    def _describe(self, images):
        raise NotImplementedError


def checked(images):
    """Returns the images with an axis of channels.

    Raises:
        UserError: the images have another form.
    """
    images = np.asarray(images)
    shape = images.shape if images.ndim != 3 else (*images.shape, 1)
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or not images.size:
        raise UserError(
            "images must be a uint8 array of shape (n, h, w) or (n, h, w, 1 or 3) with at least "
            f"one image, but they are {images.dtype} of shape {images.shape}"
        )
    return images.reshape(shape)


def square(images, name):
    """Returns the side of square images.

    Raises:
        UserError: the images are not square.
    """
    height, width = images.shape[1:3]
    if height != width:
        raise UserError(
            f"{name} needs square images, but these have {height} x {width} pixels; resize them"
        )
    return height


def gray(images):
    """Returns the mean of the channels: float64 `(n, h, w)`."""
    return images.mean(axis=3, dtype=np.float64)


def extract_with(feature, images, batch):
    """Does the same as `features.extract`, with a `Feature` object."""
    if batch < 1:
        raise UserError(f"batch={batch} must be at least 1")
    result = None
    for start in range(0, max(len(images), 1), batch):
        rows = feature(images[start : start + batch])
        if result is None:
            result = np.empty((len(images), rows.shape[1]), np.float32)
        result[start : start + batch] = rows
    return result
