"""The hash layer, which turns features into logits and into values between 0 and 1."""

import keras
from keras import ops

from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class ShrinkSigmoid(keras.layers.Layer):
    """The activation of DAH: `1/4 + 1/(2(1 + exp(-x)))`, from the reals to [1/4, 3/4], in float32.

    Call arguments:
        inputs: float tensor of any shape.

    Returns:
        float32 tensor of the inputs' shape.

    References:
        DAH (IEEE Access 2020), eq. 1.
    """

    span = (0.25, 0.75)

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, inputs):
        return 0.25 + 0.5 * ops.sigmoid(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(PACKAGE)
class ShiftedTanh(keras.layers.Layer):
    """`(1 + tanh(x)) / 2`, from the reals to [0, 1], in float32.

    Methods with codes in {-1, 1} use tanh. This is the same function on the scale of bits.

    Call arguments:
        inputs: float tensor of any shape.

    Returns:
        float32 tensor of the inputs' shape.
    """

    span = (0.0, 1.0)

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, inputs):
        return 0.5 * (1.0 + ops.tanh(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape


ACTIVATIONS = {"shrink_sigmoid": ShrinkSigmoid, "tanh": ShiftedTanh}


@keras.saving.register_keras_serializable(PACKAGE)
class HashHead(keras.layers.Layer):
    """Turns features into hash values by `Dense(bits)` and an activation, in float32.

    A bit is 1 if its logit is above 0. The values increase with the logits and are 1/2 at 0.

    Args:
        bits: int, the code length k.
        activation: a name of `ACTIVATIONS`: "shrink_sigmoid" (that of DAH) or "tanh".

    Attributes:
        activation: the layer that turns logits into values.
        span: pair of floats, the lowest and the highest value.
        use_bias: bool, whether the dense layer has offsets.

    Call arguments:
        inputs: float tensor of shape `(n, features)`.

    Returns:
        Pair of float32 tensors of shape `(n, bits)`: logits, and values within `span`.

    Raises:
        ValueError: `bits` is below 1, or there is no such activation.
    """

    use_bias = True

    def __init__(self, bits, activation="shrink_sigmoid", **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if bits < 1:
            raise ValueError(f"`bits` must be at least 1. Received: bits={bits}")
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {', '.join(ACTIVATIONS)}. "
                f"Received: activation={activation!r}"
            )
        self.bits = bits
        self.dense = keras.layers.Dense(
            bits, use_bias=self.use_bias, dtype=self.dtype_policy, name="dense"
        )
        self.activation = ACTIVATIONS[activation](name=activation)
        self._activation_name = activation

    @property
    def span(self):
        return self.activation.span

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        logits = self.dense(ops.cast(inputs, "float32"))
        return logits, self.activation(logits)

    def compute_output_shape(self, input_shape):
        shape = (*input_shape[:-1], self.bits)
        return shape, shape

    def get_config(self):
        return {**super().get_config(), "bits": self.bits, "activation": self._activation_name}
