"""A hash layer that divides its features into one slice for each bit, and the threshold of NINH."""

import keras
from keras import ops

from dah_tf.layers.hashing import ShiftedTanh
from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class SlicedHash(keras.layers.Layer):
    """Computes each bit from its own slice of intermediate features, in float32.

    A dense layer with ReLU makes `bits * width` features, which are divided into `bits` slices. A
    dense layer with one unit turns each slice into a logit. Its weights change no other bit.

    Args:
        bits: int, the code length k.
        width: int, the number of features of a slice.

    Attributes:
        activation: the layer that turns logits into values.
        span: pair of floats, the lowest and the highest value.

    Call arguments:
        inputs: float tensor of shape `(n, features)`.

    Returns:
        Pair of float32 tensors of shape `(n, bits)`: logits, and values in [0, 1].

    Raises:
        ValueError: `bits` or `width` is below 1.

    References:
        Lai, Pan, Liu and Yan, "Simultaneous feature learning and hash coding with deep neural
        networks", CVPR 2015, section 3.2.
    """

    def __init__(self, bits, width=50, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if bits < 1 or width < 1:
            raise ValueError(
                f"`bits` and `width` must be at least 1. Received: bits={bits}, width={width}"
            )
        self.bits = bits
        self.width = width
        self.dense = keras.layers.Dense(
            bits * width, activation="relu", dtype=self.dtype_policy, name="dense"
        )
        self.activation = ShiftedTanh(name="tanh")

    @property
    def span(self):
        return self.activation.span

    def build(self, input_shape):
        self.dense.build(input_shape)
        # The limit of Glorot and Bengio for `width` inputs and one output.
        limit = (6.0 / (self.width + 1)) ** 0.5
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.bits, self.width),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.bias = self.add_weight(name="bias", shape=(self.bits,), initializer="zeros")

    def call(self, inputs):
        features = self.dense(ops.cast(inputs, "float32"))
        slices = ops.reshape(features, (-1, self.bits, self.width))
        logits = ops.sum(slices * self.kernel, axis=-1) + self.bias
        return logits, self.activation(logits)

    def compute_output_shape(self, input_shape):
        shape = (*input_shape[:-1], self.bits)
        return shape, shape

    def get_config(self):
        return {**super().get_config(), "bits": self.bits, "width": self.width}


def thresholded(values, band):
    """Sets values to 0 or 1 if they are far from 1/2, with the gradient of the values themselves.

    The result is 0 below `1/2 - band`, 1 above `1/2 + band`, and the value itself in between.

    Args:
        values: float tensor of any shape, in [0, 1].
        band: float.
    """
    rounded = ops.where(values > 0.5 + band, ops.ones_like(values), values)
    rounded = ops.where(values < 0.5 - band, ops.zeros_like(values), rounded)
    return values + ops.stop_gradient(rounded - values)
