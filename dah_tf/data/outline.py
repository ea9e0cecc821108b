"""What a network must know of a data set, without decoding its images."""

import dataclasses

from dah_tf.data import arrays, datasets, files, folders, tfds
from dah_tf.errors import UserError

# Classes, the images' side and channels of data that every installation has or can download.
KNOWN = {"cifar10": (10, 32, 3), "digits": (10, 16, 1)}


@dataclasses.dataclass(frozen=True)
class Outline:
    """A data set's outline.

    Attributes:
        num_classes: int.
        image_size: int, side of the images that the network gets, in pixels.
        channels: int, 1 or 3.
        multi_label: bool; an image can have several labels.
    """

    num_classes: int
    image_size: int
    channels: int
    multi_label: bool


def outline(
    spec: str,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    data_dir: str | None = None,
) -> Outline:
    """What `dah_tf.data.load` would find, from names, headers and labels alone.

    Images are not decoded, so that an image or a class that cannot be read is not noticed; data of
    TensorFlow Datasets is not downloaded.

    Args:
        spec, image_size, channels, data_dir: as of `dah_tf.data.load`.

    Returns:
        `Outline`.

    Raises:
        UserError: nothing there, or not of the kind's form.

    Example:
        >>> outline("digits", channels=3)
        Outline(num_classes=10, image_size=16, channels=3, multi_label=False)
    """
    kind, _, value = spec.partition(":")
    several = False
    if spec in KNOWN:
        classes, size, own = KNOWN[spec]
    elif kind == "npz" and value:
        (height, width, own), labels, names = arrays.npz_outline(value)
        classes, size, several = len(names), min(height, width), labels.ndim == 2
    elif kind == "tfds" and value:
        options = {"image_size": image_size, "channels": channels}
        names, size, own = tfds.outline(spec, value, data_dir, **options)
        classes = len(names)
    elif kind in ("folder", "csv") and value:
        rows = (folders.from_folder if kind == "folder" else folders.from_csv)(value).rows
        classes = len({label for _, labels, _ in rows for label in labels})
        several = any(len(labels) > 1 for _, labels, _ in rows)
        size, own = files.SIZE, files.CHANNELS
    else:
        raise datasets.unknown(spec)
    if classes < 2:
        raise UserError(f"{spec} has {classes} class; it takes two or more")
    return Outline(classes, image_size or size, channels or own, several)
