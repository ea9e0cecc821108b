"""This module builds the network of the DAH paper."""

import keras
from keras import layers

from dah_tf.layers import CBAM, Activation, BatchNorm, SeparableBottleneck
from dah_tf.model.backbones.facts import Facts

FACTS = Facts(
    smallest=32,
    paper=True,
    advice="this backbone takes long on a CPU; backbone=compact is a network made for CPUs",
)


def resnet30(channels: int = 3, *, attention: bool = True) -> keras.Model:
    """Builds the network of the DAH paper.

    It has three stages of three separable bottleneck blocks, and CBAM after each.

    Args:
        channels: int, 1 or 3.
        attention: bool, whether CBAM is used. False gives the variant that the paper calls
            NoneA-DAH.

    Returns:
        `keras.Model` with 1,024 features.

    References:
        DAH (IEEE Access 2020), Table 1.
    """
    # === Functional Model ===
    inputs = keras.Input((None, None, channels), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(inputs)
    x = layers.Conv2D(64, 3, padding="same", use_bias=False, name="stem")(x)
    x = Activation("relu", name="stem_relu")(BatchNorm(name="stem_norm")(x))
    for stage, (width, stride) in enumerate([(64, 1), (128, 2), (256, 2)], start=1):
        for block in (1, 2, 3):
            first = block == 1
            x = SeparableBottleneck(
                width, stride if first else 1, project=first, name=f"stage{stage}_block{block}"
            )(x)
        if attention:
            x = CBAM(name=f"stage{stage}_cbam")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, x, name="resnet30")
