"""Networks from raw pixels (0..255) to a feature vector, by name: `compact:depth=3`.

Every backbone is a functional `keras.Model` for any image size, float or uint8 pixels in, shape
`(n, features)` out. To add one, write a module with a function of the channels, whose
keyword-only arguments are its options, and with its `FACTS`; and name it in `BACKBONES`. It raises
`UserError` where an option is out of its range. The names of Keras Applications are backbones too;
they have no options.
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
    """Names that `get` knows, ours first."""
    return [*BACKBONES, *_applications()]


def get(text: str, *, channels: int = 3, weights: str | None = None) -> keras.Model:
    """Builds a backbone.

    Args:
        text: str, a name of `names`, in any case for Keras Applications, and options.
        channels: int, 1 or 3.
        weights: None, "imagenet" (Applications only) or the path of a `.weights.h5` file.

    Raises:
        UserError: an unknown name or option, a value that the backbone refuses, or weights that
            are not there or do not fit.
        ValueError: another number of channels.

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
        # Keras raises its bare class where a download fails.
        if type(error) is Exception or isinstance(error, OSError):
            raise UserError(
                f"the ImageNet weights of {name} cannot be had ({error}); name a file by "
                "backbone_weights"
            ) from error
        raise


def resolved(text: str) -> str:
    """A backbone's text with every option written out.

    Raises:
        UserError: an unknown name or option.
    """
    if parts.parse(text).name in BACKBONES:
        return parts.resolved("backbone", text, BACKBONES)
    return _resolved_application(text).lower()


def _resolved_application(text):
    """The constructor's name in `keras.applications`."""
    spec = parts.parse(text)
    known = _applications()
    if spec.name.lower() not in known:
        raise UserError(f"there is no backbone {spec.name!r}; there are {', '.join(names())}")
    if spec.arguments:
        raise UserError(f"backbone {spec.name} has no options; leave out {text.partition(':')[2]}")
    return known[spec.name.lower()]


@functools.cache
def _applications():
    """Names of Keras Applications in small letters, and their constructors' names."""
    from dah_tf.model.backbones.application import names

    return {name.lower(): name for name in names()}


def facts(text: str) -> Facts:
    """What a backbone says of itself: `Facts`.

    Raises:
        UserError: there is no such backbone.
    """
    name = parts.parse(text).name
    if name not in BACKBONES:
        _resolved_application(name)
    module = BACKBONES.get(name, "dah_tf.model.backbones.application:").partition(":")[0]
    return importlib.import_module(module).FACTS


def prepare(backbone: keras.Model, text: str, images: np.ndarray):
    """Readies a new backbone for training, where its kind asks for that.

    Args:
        backbone: `keras.Model` that `get` made of `text`.
        text: str.
        images: uint8 array of shape `(n, h, w, channels)`, training images; some thousands do.
    """
    if facts(text).prepare:
        facts(text).prepare(backbone, images)
