"""CBAM: attention to channels, then to positions."""

import functools

import keras
import numpy as np
from keras import ops

from dah_tf.layers.cpu import fusion
from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class ChannelAttention(keras.layers.Layer):
    """Weights each channel by a sigmoid of its average and its maximum over the image.

    Both pooled vectors go through the same MLP (`channels / reduction` hidden units, ReLU,
    biases), and the two outputs are added.

    Args:
        reduction: int, the ratio of channels to hidden units.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.
        training: bool.

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

    def call(self, inputs, training=None):
        return gated(inputs, (1, 2), self._weights, training)

    def _weights(self, average, maximum):
        return ops.sigmoid(self._mlp(average) + self._mlp(maximum))

    def _mlp(self, pooled):
        # The MLP is written as 1x1 convolutions, so that a converted model keeps one memory layout
        # from block to block.
        for layer in (self.squeeze, self.excite):
            kernel = ops.cast(layer.kernel, pooled.dtype)[None, None]
            outputs = ops.conv(pooled, kernel, data_format="channels_last")
            pooled = layer.activation(outputs + ops.cast(layer.bias, pooled.dtype))
        return pooled

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable(PACKAGE)
class SpatialAttention(keras.layers.Layer):
    """Weights each position by a sigmoid of a convolution over its channel mean and maximum.

    Args:
        kernel_size: int, the side of the window of the convolution, which has no bias.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.
        training: bool.

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

    def call(self, inputs, training=None):
        return gated(inputs, (3,), self._weights, training)

    def _weights(self, mean, maximum):
        return ops.sigmoid(self.conv(ops.concatenate([mean, maximum], axis=-1)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable(PACKAGE)
class CBAM(keras.layers.Layer):
    """Channel attention, then spatial attention.

    Args:
        reduction: int, the argument of `ChannelAttention`.
        kernel_size: int, the argument of `SpatialAttention`.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.
        training: bool.

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

    def call(self, inputs, training=None):
        return self.spatial(self.channel(inputs, training=training), training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"reduction": self.reduction, "kernel_size": self.kernel_size}
        return {**super().get_config(), **config}


def gated(x, axes, gate, training=False):
    """Multiplies a tensor by weights that depend on its mean and maximum over some axes.

    In training on a CPU under TensorFlow, the passes over `x` are compiled loops, forward and
    backward. The last of them also adds up the gradients from all uses of `x`.

    Args:
        x: float tensor of shape `(n, h, w, channels)`.
        axes: (1, 2) or (3,).
        gate: function that takes the mean and the maximum, and returns the weights. In all three,
            `axes` have length 1.
        training: bool.

    Returns:
        Tensor of the shape and dtype of `x`. If several values are equal to the maximum, they
        share its gradient.
    """
    if not (training and fusion.pays() and None not in x.shape):
        return x * gate(ops.mean(x, axes, keepdims=True), ops.max(x, axes, keepdims=True))
    import tensorflow as tf

    pool, weigh, of_weights, of_input = _passes(axes)

    @tf.custom_gradient
    def attend(x):
        mean, maximum = pool(x)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([mean, maximum])
            weights = gate(mean, maximum)

        def gradient(outputs, variables=()):
            found, count = of_weights(x, outputs, maximum)
            of_mean, of_maximum, *others = tape.gradient(
                weights, [mean, maximum, *variables], found
            )
            return of_input(x, outputs, weights, maximum, count, of_mean, of_maximum), others

        return weigh(x, weights), gradient

    return attend(x)


@functools.cache
def _passes(axes):
    """Returns the compiled loops of `gated`."""
    least = fusion.FEWEST_CHANNELS if axes == (3,) else fusion.FEWEST_ROWS

    def reduced(x, reduction):
        if axes == (3,):
            return reduction(x, 3, least)
        n, height, width, channels = x.shape
        rows = ops.reshape(x, (n, height * width, channels))
        return ops.expand_dims(reduction(rows, 1, least), 1)

    def total(x):
        return reduced(x, fusion.total)

    def size(x):
        return float(np.prod([x.shape[axis] for axis in axes]))

    def pool(x):
        wide = ops.cast(x, "float32")
        mean, maximum = total(wide) / size(x), reduced(wide, fusion.largest)
        return ops.cast(mean, x.dtype), ops.cast(maximum, x.dtype)

    def of_weights(x, outputs, maximum):
        product = ops.cast(x, "float32") * ops.cast(outputs, "float32")
        return ops.cast(total(product), x.dtype), total(ops.cast(x == maximum, "float32"))

    def of_input(x, outputs, weights, maximum, count, of_mean, of_maximum):
        outputs, weights, of_mean, of_maximum = (
            ops.cast(each, "float32") for each in (outputs, weights, of_mean, of_maximum)
        )
        shared = ops.where(x == maximum, of_maximum / count, 0.0)
        return ops.cast(outputs * weights + of_mean / size(x) + shared, x.dtype)

    return [fusion.compiled(each) for each in (pool, ops.multiply, of_weights, of_input)]
