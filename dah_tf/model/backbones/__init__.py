"""This package builds networks that turn raw pixels (0..255) into a feature vector.

A backbone is chosen by a text with its name and options, such as `compact:depth=3`. Every backbone
is a functional `keras.Model` that accepts any image size. It takes float or uint8 pixels and
returns a tensor of shape `(n, features)`.

To add a backbone, write a module with a function and with its `FACTS`, and name the function in
`BACKBONES`. The function takes the number of channels, and its keyword-only arguments are the
options of the backbone. It raises `UserError` if an option is out of its range.

The names of Keras Applications are backbones too. They have no options.
"""

import functools
import importlib

import keras
import numpy as np

from dah_tf import parts
from dah_tf.errors import UserError
from dah_tf.model import stored
from dah_tf.model.backbones.facts import Facts

__all__ = ["BACKBONES", "Facts", "facts", "get", "names", "prepare", "resolved"]

BACKBONES = {
    "resnet30": "dah_tf.model.backbones.resnet30:resnet30",
    "compact": "dah_tf.model.backbones.compact:compact",
    "gist": "dah_tf.model.backbones.described:gist",
    "hog": "dah_tf.model.backbones.described:hog",
    "pixels": "dah_tf.model.backbones.described:pixels",
}


def names() -> list[str]:
    """Lists the names that `get` knows, with the backbones of this package first."""
    return [*BACKBONES, *_applications()]


def get(text: str, *, channels: int = 3, weights: str | None = None) -> keras.Model:
    """Builds a backbone.

    Args:
        text: str, one of the names that `names` lists, and options. The names of Keras
            Applications may be written in upper or lower case.
        channels: int, 1 or 3.
        weights: None, "imagenet" (only for Keras Applications) or the path of a `.weights.h5`
            file.

    Raises:
        UserError: the name or an option is unknown, the backbone refuses a value, or the weights
            are missing or do not fit.
        ValueError: the number of channels is neither 1 nor 3.

    Example:
        >>> get("compact:widths=64/128/128,depth=3").output_shape
        (None, 128)
    """
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels}")
    name = parts.parse(text).name
    if weights == "imagenet" and not facts(text).imagenet:
        raise UserError(
            f"backbone_weights=imagenet: there are no ImageNet weights for {name}; name a file or "
            "none"
        )
    if name not in BACKBONES:
        return _application(text, channels, weights)
    backbone = parts.build("backbone", text, BACKBONES, channels)
    if weights:
        stored.load_weights(backbone, weights, f"backbone_weights={weights}")
    return backbone


def _application(text, channels, weights):
    from dah_tf.model.backbones.application import application

    name = _resolved_application(text)
    if weights != "imagenet":
        return application(name, channels=channels, weights=weights)
    try:
        return application(name, channels=channels, weights=weights)
    except Exception as error:
        # Keras raises a plain `Exception` when a download fails.
        if type(error) is Exception or isinstance(error, OSError):
            raise UserError(
                f"the ImageNet weights of {name} cannot be downloaded ({error}); name a file by "
                "backbone_weights"
            ) from error
        raise


def resolved(text: str) -> str:
    """Returns a backbone's text with every option written out.

    Raises:
        UserError: the name or an option is unknown.
    """
    if parts.parse(text).name in BACKBONES:
        return parts.resolved("backbone", text, BACKBONES)
    return _resolved_application(text).lower()


def _resolved_application(text):
    """Returns the name of the constructor in `keras.applications`."""
    spec = parts.parse(text)
    known = _applications()
    if spec.name.lower() not in known:
        raise UserError(f"there is no backbone {spec.name!r}; there are {', '.join(names())}")
    if spec.arguments:
        raise UserError(f"backbone {spec.name} has no options; leave out {text.partition(':')[2]}")
    return known[spec.name.lower()]


@functools.cache
def _applications():
    """Maps the names of Keras Applications in small letters to the constructors' names."""
    from dah_tf.model.backbones.application import names

    return {name.lower(): name for name in names()}


def facts(text: str) -> Facts:
    """Returns the `Facts` of a backbone.

    Raises:
        UserError: there is no such backbone.
    """
    name = parts.parse(text).name
    if name not in BACKBONES:
        _resolved_application(name)
    module = BACKBONES.get(name, "dah_tf.model.backbones.application:").partition(":")[0]
    return importlib.import_module(module).FACTS


def prepare(backbone: keras.Model, text: str, images: np.ndarray):
    """Prepares a new backbone for training, if its kind requires a preparation.

    Args:
        backbone: `keras.Model` that `get` made from `text`.
        text: str, the name and the options of the backbone.
        images: uint8 array of shape `(n, h, w, channels)` with training images. A few thousand
            images are enough.
    """
    if facts(text).prepare:
        facts(text).prepare(backbone, images)
