"""This module builds a plain network that is designed for CPUs."""

import keras
import numpy as np
from keras import layers

from dah_tf.errors import UserError
from dah_tf.layers import CBAM, Activation, BatchNorm, Conv3x3, PartialIdentity
from dah_tf.model.backbones.facts import Facts

PATCHES = 1 << 20  # the number of patches that `whiten` holds at a time


def compact(
    channels: int = 3,
    *,
    widths: tuple[int, ...] = (64, 256, 256),
    depth: int = 2,
    attention: bool = False,
) -> keras.Model:
    """Builds a plain network of 3x3 convolutions with a frozen whitening stem and three stages.

    The network is designed for CPUs. The filters of the stem are the whitened principal
    directions of 2x2 patches, and their negatives. `whiten` computes them from images. A stage
    begins with a convolution, a 2x2 max-pooling, batch normalisation and GELU. The rest of its
    depth repeats convolution, batch normalisation and GELU. A global max-pooling follows the
    last stage. Each convolution starts as the identity on as many channels as possible. If the
    depth is 3 or more, a shortcut leads around all convolutions of a stage except the first.

    Args:
        channels: int, 1 or 3.
        widths: three ints, the numbers of channels of the stages.
        depth: int, the number of convolutions in each stage.
        attention: bool, whether a CBAM block follows each stage.

    Returns:
        `keras.Model` with `widths[-1]` features.

    Raises:
        UserError: `widths` does not hold three values, or a width or the depth is below 1.
    """
    if len(widths) != 3 or min(widths) < 1:
        given = "/".join(map(str, widths))
        raise UserError(f"backbone compact: widths={given} must be three positive numbers")
    if depth < 1:
        raise UserError(f"backbone compact: depth={depth} must be at least 1")
    # === Functional Model ===
    inputs = keras.Input((None, None, channels), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(inputs)
    x = layers.Conv2D(8 * channels, 2, use_bias=False, trainable=False, name="whiten")(x)
    x = Activation("relu", name="whiten_relu")(x)
    for stage, width in enumerate(widths, start=1):
        for part in range(1, depth + 1):
            name = f"stage{stage}_{part}"
            x = Conv3x3(width, kernel_initializer=PartialIdentity(), name=f"{name}_conv")(x)
            if part == 1:
                x = layers.MaxPooling2D(name=f"{name}_pool")(x)
            x = BatchNorm(momentum=0.6, name=f"{name}_norm")(x)
            x = Activation("gelu", name=f"{name}_gelu")(x)
            if part == 1:
                shortcut = x
        if depth > 2:
            x = layers.Add(name=f"stage{stage}_add")([x, shortcut])
        if attention:
            x = CBAM(name=f"stage{stage}_cbam")(x)
    x = layers.GlobalMaxPooling2D(name="pool")(x)
    # This keeps the norm of the features near 1, and with it the first hash logits.
    x = layers.Rescaling(1 / np.sqrt(widths[-1]), name="scale")(x)
    return keras.Model(inputs, x, name="compact")


def whiten(backbone: keras.Model, images: np.ndarray, epsilon: float = 5e-4):
    """Computes the filters of the frozen stem from images.

    Args:
        backbone: `keras.Model` from `compact`.
        images: uint8 or float array of shape `(n, h, w, channels)` with values from 0 to 255.
            A few thousand images are enough.
        epsilon: float that is added to the eigenvalues of the covariance of the patches.
    """
    n, height, width, channels = images.shape
    covariance = np.zeros((4 * channels, 4 * channels))
    few = max(1, PATCHES // (height * width))
    for first in range(0, n, few):
        x = np.asarray(images[first : first + few], np.float64) / 127.5 - 1.0
        patches = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(1, 2))
        patches = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 4 * channels)
        covariance += patches.T @ patches / (n * (height - 1) * (width - 1))
    values, vectors = np.linalg.eigh(covariance)
    filters = vectors / np.sqrt(np.maximum(values, 0.0) + epsilon)
    kernel = np.concatenate([filters, -filters], axis=1).reshape(2, 2, channels, -1)
    backbone.get_layer("whiten").kernel.assign(kernel)


FACTS = Facts(smallest=16, prepare=whiten)
