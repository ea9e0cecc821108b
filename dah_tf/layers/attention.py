"""CBAM: attention to channels, then to positions."""

import functools

import keras
from keras import ops

from dah_tf.layers import fusion
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
        _, height, width, channels = inputs.shape
        known = None not in (height, width)
        rows = (-1, height * width) if known else (ops.shape(inputs)[0], -1)
        positions = ops.reshape(inputs, (*rows, channels))
        weighted = gated(positions, 1, self._weights, training)
        return ops.reshape(weighted, ops.shape(inputs))

    def _weights(self, average, maximum):
        average, maximum = (self.excite(self.squeeze(each)) for each in (average, maximum))
        return ops.sigmoid(average + maximum)

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
        return gated(inputs, -1, self._weights, training)

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
        reduction: int, of the channel attention.
        kernel_size: int, of the spatial attention.

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


def gated(x, axis, gate, training=False):
    """A tensor times weights that are a function of its mean and maximum over one axis.

    In training on a CPU under TensorFlow each pass over `x` is one compiled loop: two forward,
    and two backward.

    Args:
        x: float tensor.
        axis: int.
        gate: function of the mean and the maximum, whose `axis` has length 1, to the weights,
            likewise.
        training: bool.

    Returns:
        Tensor of the shape and dtype of `x`. Where several values are the maximum, its gradient
        is shared among them.
    """
    if not (training and fusion.pays() and None not in x.shape[1:]):
        return x * gate(ops.mean(x, axis=axis, keepdims=True), ops.max(x, axis, keepdims=True))
    import tensorflow as tf

    pool, weigh, of_weights, of_input = _passes(axis)

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
def _passes(axis):
    """The compiled loops of `gated`."""
    least = fusion.FEWEST_CHANNELS if axis == -1 else fusion.FEWEST_ROWS

    def pool(x):
        wide = ops.cast(x, "float32")
        mean = fusion.total(wide, axis, least) / x.shape[axis]
        return ops.cast(mean, x.dtype), ops.cast(fusion.largest(wide, axis, least), x.dtype)

    def of_weights(x, outputs, maximum):
        product = ops.cast(x, "float32") * ops.cast(outputs, "float32")
        count = fusion.total(ops.cast(x == maximum, "float32"), axis, least)
        return ops.cast(fusion.total(product, axis, least), x.dtype), count

    def of_input(x, outputs, weights, maximum, count, of_mean, of_maximum):
        outputs, weights, of_mean, of_maximum = (
            ops.cast(each, "float32") for each in (outputs, weights, of_mean, of_maximum)
        )
        shared = ops.where(x == maximum, of_maximum / count, 0.0)
        return ops.cast(outputs * weights + of_mean / x.shape[axis] + shared, x.dtype)

    return [fusion.compiled(each) for each in (pool, ops.multiply, of_weights, of_input)]
