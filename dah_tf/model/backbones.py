"""Networks from raw pixels (0..255) to a feature vector.

Every backbone is a functional `keras.Model` for any image size, float or uint8 pixels in, shape
`(n, features)` out. To add one, write a function with the arguments of `resnet30` and name it in
`BACKBONES`.
"""

import keras
import numpy as np
from keras import layers

from dah_tf.layers import (
    CBAM,
    Activation,
    BatchNorm,
    Conv3x3,
    PartialIdentity,
    PixelTransform,
    SeparableBottleneck,
)


def resnet30(channels=3, attention=True):
    """DAH's network: three stages of three separable bottleneck blocks, CBAM after each.

    Args:
        channels: int, 1 or 3.
        attention: bool; False is the paper's NoneA-DAH.

    Returns:
        `keras.Model`, 1,024 features.

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


def compact(channels=3, attention=False, widths=(64, 256, 256), depth=2):
    """A plain 3x3 network for CPUs: a frozen whitening stem and three stages.

    The stem's filters are the whitened principal directions of 2x2 patches, and their negatives;
    `whiten` sets them from images. A stage is convolution, 2x2 max-pooling, BN, GELU, then
    convolution, BN, GELU for the rest of its depth; a global max-pooling follows. Each convolution
    starts as the identity on as many channels as it can. From a depth of 3 on, a shortcut leads
    around all convolutions of a stage but the first.

    Args:
        channels: int, 1 or 3.
        attention: bool, CBAM after each stage.
        widths: ints, channels of the stages.
        depth: int, convolutions in each stage.

    Returns:
        `keras.Model`, `widths[-1]` features.
    """
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
    # Keeps the features' norm, and with it the first hash logits, near 1.
    x = layers.Rescaling(1 / np.sqrt(widths[-1]), name="scale")(x)
    return keras.Model(inputs, x, name="compact")


def application(name, channels=3, weights=None):
    """A Keras Applications network with average pooling and its own pixel preprocessing.

    Args:
        name: str, a constructor of `keras.applications`, such as "ResNet50".
        channels: int; one channel is repeated three times.
        weights: None, "imagenet" or the path of a weights file.

    Returns:
        `keras.Model`.
    """
    import importlib

    constructor = getattr(keras.applications, name)
    network = constructor(
        include_top=False, weights=weights, input_shape=(None, None, 3), pooling="avg"
    )
    preprocess = importlib.import_module(constructor.__module__).preprocess_input

    # === Functional Model ===
    inputs = keras.Input((None, None, channels), name="pixels")
    x = layers.Concatenate(name="grey_to_rgb")([inputs] * 3) if channels == 1 else inputs
    x = PixelTransform.like(preprocess, name="preprocess")(x)
    return keras.Model(inputs, network(x), name=name.lower())


PATCHES = 1 << 20  # that `whiten` holds at a time

BACKBONES = {"resnet30": resnet30, "compact": compact}


def names():
    """Names `get` knows, ours first."""
    return [*BACKBONES, "resnet50", *_application_names()]


def get(name, *, channels=3, attention=True, widths=None, depth=None, weights=None):
    """Builds a backbone by name.

    Args:
        name: str, a key of `BACKBONES`, "resnet50", or a constructor of `keras.applications`.
        channels: int, 1 or 3.
        attention: bool, CBAM in the backbones that have it.
        widths: ints, channels of the three stages of `compact`; None for its own.
        depth: int, convolutions in each stage of `compact`; None for its own.
        weights: None, "imagenet" (Applications only) or the path of a `.weights.h5` file.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: unknown name, widths or depth of another network, or weights that do not fit.
    """
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels}")
    options = {"attention": attention}
    if widths is not None:
        if name != "compact" or len(widths) != 3 or min(widths) < 1:
            raise ValueError(
                "`widths` are three positive numbers of channels, of compact only. "
                f"Received: widths={tuple(widths)} of {name}"
            )
        options["widths"] = tuple(widths)
    if depth is not None:
        if name != "compact" or depth < 1:
            raise ValueError(
                "`depth` is a positive number of convolutions, of compact only. "
                f"Received: depth={depth} of {name}"
            )
        options["depth"] = depth
    if name in BACKBONES:
        if weights == "imagenet":
            raise ValueError(f"There are no ImageNet weights for {name}; pass a file or none.")
        backbone = BACKBONES[name](channels=channels, **options)
        if weights:
            backbone.load_weights(weights)
        return backbone
    known = {each.lower(): each for each in _application_names()}
    if name.lower() not in known:
        raise ValueError(f"Unknown backbone. Received: {name!r}. Known: {', '.join(names())}")
    return application(known[name.lower()], channels=channels, weights=weights)


def _application_names():
    return sorted(
        name
        for name, value in vars(keras.applications).items()
        if callable(value) and name[:1].isupper()
    )


def whiten(backbone, images, epsilon=5e-4):
    """Sets the frozen stem of `compact` from images; other backbones are left alone.

    Args:
        backbone: `keras.Model` from `compact`.
        images: uint8 or float array of shape `(n, h, w, channels)`, 0..255; some thousands do.
        epsilon: float, added to the eigenvalues of the patches' covariance.
    """
    if "whiten" not in {layer.name for layer in backbone.layers}:
        return
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
