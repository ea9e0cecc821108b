"""This module makes backbones from the networks of Keras Applications."""

import importlib

import keras
from keras import layers

from dah_tf.layers import PixelTransform
from dah_tf.model import stored
from dah_tf.model.backbones.facts import Facts

FACTS = Facts(
    smallest=32,
    imagenet=True,
    advice="this backbone takes long on a CPU; backbone=compact is a network made for CPUs",
)


def names() -> list[str]:
    """Lists, sorted, the constructors of `keras.applications` that allow any image size.

    The constructors of NASNet are left out: a network that they make without a known image size
    fails on every size.
    """
    return sorted(
        name
        for name, value in vars(keras.applications).items()
        if callable(value) and name[:1].isupper() and not name.startswith("NASNet")
    )


def application(name: str, channels: int = 3, weights: str | None = None) -> keras.Model:
    """Builds a Keras Applications network with average pooling and its own preprocessing.

    Args:
        name: str, a constructor of `keras.applications`, such as "ResNet50".
        channels: int, 1 or 3. A single channel is repeated three times.
        weights: None, "imagenet" or the path of a weights file.

    Returns:
        `keras.Model`.

    Raises:
        UserError: the file of weights cannot be read or belongs to another network.
    """
    constructor = getattr(keras.applications, name)
    ready = weights if weights == "imagenet" else None
    network = constructor(
        include_top=False, weights=ready, input_shape=(None, None, 3), pooling="avg"
    )
    if weights and not ready:
        stored.load_weights(network, weights, f"backbone_weights={weights}")
    preprocess = importlib.import_module(constructor.__module__).preprocess_input

    # === Functional Model ===
    inputs = keras.Input((None, None, channels), name="pixels")
    x = layers.Concatenate(name="grey_to_rgb")([inputs] * 3) if channels == 1 else inputs
    x = PixelTransform.like(preprocess, name="preprocess")(x)
    return keras.Model(inputs, network(x), name=name.lower())
