"""CBAM: attention to channels, then to positions."""

import keras
from keras import ops

from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class ChannelAttention(keras.layers.Layer):
    """Weights each channel by a sigmoid of its average and its maximum over the image.

    Both pooled vectors go through one MLP (`channels / reduction` hidden units, ReLU, biases);
    the two outputs are summed.

    Args:
        reduction: int, ratio of channels to hidden units.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.

    Returns:
        Tensor of the inputs' shape.

    References:
        CBAM (Woo et al., ECCV 2018), eq. 2.
    """

    def __init__(self, reduction=8, **kwargs):
        super().__init__(**kwargs)
        if reduction < 1:
            raise ValueError(f"`reduction` must be at least 1. Received: reduction={reduction}")
        self.reduction = reduction

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = max(1, channels // self.reduction)
        options = {"dtype": self.dtype_policy}
        self.squeeze = keras.layers.Dense(hidden, activation="relu", name="squeeze", **options)
        self.excite = keras.layers.Dense(channels, name="excite", **options)
        self.squeeze.build((None, channels))
        self.excite.build((None, hidden))

    def call(self, inputs):
        average = self.excite(self.squeeze(ops.mean(inputs, axis=(1, 2))))
        maximum = self.excite(self.squeeze(ops.max(inputs, axis=(1, 2))))
        weights = ops.sigmoid(average + maximum)
        return inputs * weights[:, None, None, :]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable(PACKAGE)
class SpatialAttention(keras.layers.Layer):
    """Weights each position by a sigmoid of a convolution over its channel mean and maximum.

    Args:
        kernel_size: int, side of the convolution's window (no bias).

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.

    Returns:
        Tensor of the inputs' shape.

    References:
        CBAM (Woo et al., ECCV 2018), eq. 3.
    """

    def __init__(self, kernel_size=7, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size

    def build(self, input_shape):
        self.conv = keras.layers.Conv2D(
            1,
            self.kernel_size,
            padding="same",
            use_bias=False,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build((*input_shape[:-1], 2))

    def call(self, inputs):
        mean = ops.mean(inputs, axis=-1, keepdims=True)
        maximum = ops.max(inputs, axis=-1, keepdims=True)
        return inputs * ops.sigmoid(self.conv(ops.concatenate([mean, maximum], axis=-1)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable(PACKAGE)
class CBAM(keras.layers.Layer):
    """Channel attention, then spatial attention.

    Args:
        reduction: int, of the channel attention.
        kernel_size: int, of the spatial attention.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.

    Returns:
        Tensor of the inputs' shape.

    References:
        CBAM (Woo et al., ECCV 2018), eq. 1.
    """

    def __init__(self, reduction=8, kernel_size=7, **kwargs):
        super().__init__(**kwargs)
        self.reduction = reduction
        self.kernel_size = kernel_size
        self.channel = ChannelAttention(reduction, dtype=self.dtype_policy, name="channel")
        self.spatial = SpatialAttention(kernel_size, dtype=self.dtype_policy, name="spatial")

    def build(self, input_shape):
        self.channel.build(input_shape)
        self.spatial.build(input_shape)

    def call(self, inputs):
        return self.spatial(self.channel(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"reduction": self.reduction, "kernel_size": self.kernel_size}
        return {**super().get_config(), **config}
