"""Finds what a network must know about a data set, without decoding its images."""

import dataclasses

from dah_tf.data import arrays, datasets, files, folders, tfds
from dah_tf.errors import UserError

# These are the classes, the image size and the channels of the data sets that every installation
# has or can download.
KNOWN = {"cifar10": (10, 32, 3), "digits": (10, 16, 1)}


@dataclasses.dataclass(frozen=True)
class Outline:
    """The facts about a data set that a network needs.

    Attributes:
        num_classes: int, the number of classes.
        image_size: int, the side in pixels of the images that the network gets.
        channels: int, 1 or 3.
        multi_label: bool, whether an image can have several labels.
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
    """Returns what `dah_tf.data.load` would find, from names, headers and labels alone.

    The images are not decoded, so images or classes that cannot be read are not noticed. Data of
    TensorFlow Datasets is not downloaded.

    Args:
        spec, image_size, channels, data_dir: the same as for `dah_tf.data.load`.

    Returns:
        `Outline`.

    Raises:
        UserError: the data does not exist, or does not have the form that its kind requires.

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
        raise UserError(
            f"{spec} has {classes} class, but at least two are needed; add images of other classes"
        )
    return Outline(classes, image_size or size, channels or own, several)
