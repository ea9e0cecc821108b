"""Computes hand-made features of images. Texts such as `gist`, `hog:cell=8`, `pixels` name them.

A feature is an object that is called with a batch of images and returns a row for each image.
Features do not learn, so a row depends only on its own image. `extract` processes any number of
images in batches, so that only the rows are kept in memory. `base` describes what a feature is.

Example:
    >>> rows = extract("gist", images)  # uint8 (n, 32, 32, 3) to float32 (n, 512)
"""

from dah_tf import parts
from dah_tf.baselines.features.base import Feature, extract_with
from dah_tf.errors import UserError

__all__ = ["FEATURES", "Feature", "extract", "get"]

FEATURES = {
    "gist": "dah_tf.baselines.features.gist:Gist",
    "hog": "dah_tf.baselines.features.hog:HOG",
    "pixels": "dah_tf.baselines.features.pixels:Pixels",
}


def get(text: str) -> Feature:
    """Returns the feature that a text names.

    Args:
        text: str, `name` or `name:option=value,...`.

    Raises:
        UserError: there is no such feature or option, or a value is out of its range.
    """
    try:
        return parts.build("feature", text, FEATURES)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"feature {text}: {error}") from error


def extract(feature, images, batch: int = 256):
    """Computes the features of many images.

    Args:
        feature: `Feature`, or a text that `get` accepts.
        images: uint8 array of shape `(n, h, w)` or `(n, h, w, 1 or 3)`. It may be mapped from a
            file, because only `batch` images are read at a time.
        batch: int, the number of images that are processed at a time.

    Returns:
        float32 array of shape `(n, d)`.

    Raises:
        UserError: in the same cases as `get`, or if the images have another form.
    """
    return extract_with(get(feature) if isinstance(feature, str) else feature, images, batch)
