"""DAH's hash layer."""

import keras
from keras import ops

from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class ShrinkSigmoid(keras.layers.Layer):
    """`1/4 + 1/(2(1 + exp(-x)))`, from the reals to [1/4, 3/4], in float32.

    Call arguments:
        inputs: float tensor of any shape.

    Returns:
        float32 tensor of the inputs' shape.

    References:
        DAH (IEEE Access 2020), eq. 1.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, inputs):
        return 0.25 + 0.5 * ops.sigmoid(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(PACKAGE)
class HashHead(keras.layers.Layer):
    """Features to hash values: `Dense(bits)` and the shrink-sigmoid, in float32.

    A bit is 1 where its logit is above 0, which is where its value is above 1/2.

    Args:
        bits: int, code length k.

    Call arguments:
        inputs: float tensor of shape `(n, features)`.

    Returns:
        Pair of float32 tensors of shape `(n, bits)`: logits, and values in [1/4, 3/4].
    """

    def __init__(self, bits, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if bits < 1:
            raise ValueError(f"`bits` must be at least 1. Received: bits={bits}")
        self.bits = bits
        self.dense = keras.layers.Dense(bits, dtype=self.dtype_policy, name="dense")
        self.activation = ShrinkSigmoid(name="shrink_sigmoid")

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        logits = self.dense(ops.cast(inputs, "float32"))
        return logits, self.activation(logits)

    def compute_output_shape(self, input_shape):
        shape = (*input_shape[:-1], self.bits)
        return shape, shape

    def get_config(self):
        return {**super().get_config(), "bits": self.bits}
