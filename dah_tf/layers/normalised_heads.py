"""Hash layers whose logits are normalised, and a class layer that compares directions."""

import keras
from keras import ops

from dah_tf.layers.hashing import HashHead
from dah_tf.layers.normalization import BatchNorm
from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNormHead(HashHead):
    """Turns features into hash values by a product, batch normalisation and an activation.

    The logits are the outputs of the normalisation. It has neither a scale nor an offset, so that
    in training the mean of each logit over the batch is 0. The batch is that of all devices.
    Outside of training, the moving statistics are multiplied into the matrix, and the layer is one
    product with an offset.

    Args:
        bits: int, the code length k.
        activation: a name of `layers.hashing.ACTIVATIONS`.

    Call arguments:
        inputs: float tensor of shape `(n, features)`.
        training: bool. True normalises with the statistics of the batch.

    Returns:
        Pair of float32 tensors of shape `(n, bits)`: logits, and values within `span`.
    """

    use_bias = False

    def __init__(self, bits, activation="tanh", **kwargs):
        super().__init__(bits, activation, **kwargs)
        self.norm = BatchNorm(center=False, scale=False, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.norm.build((*input_shape[:-1], self.bits))

    def call(self, inputs, training=False):
        inputs = ops.cast(inputs, "float32")
        if training:
            logits = self.norm(self.dense(inputs), training=True)
        else:
            factor = ops.rsqrt(self.norm.moving_variance + self.norm.epsilon)
            kernel = ops.convert_to_tensor(self.dense.kernel) * factor
            logits = ops.matmul(inputs, kernel) - self.norm.moving_mean * factor
        return logits, self.activation(logits)


@keras.saving.register_keras_serializable(PACKAGE)
class LayerNormHead(HashHead):
    """Turns features into hash values by a dense layer, layer normalisation and an activation.

    The logits are the outputs of the normalisation, which has a scale and an offset for each bit.

    Args:
        bits: int, the code length k.
        activation: a name of `layers.hashing.ACTIVATIONS`.

    Call arguments:
        inputs: float tensor of shape `(n, features)`.

    Returns:
        Pair of float32 tensors of shape `(n, bits)`: logits, and values within `span`.
    """

    def __init__(self, bits, activation="tanh", **kwargs):
        super().__init__(bits, activation, **kwargs)
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-5, dtype=self.dtype_policy, name="norm"
        )

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.norm.build((*input_shape[:-1], self.bits))

    def call(self, inputs):
        logits = self.norm(self.dense(ops.cast(inputs, "float32")))
        return logits, self.activation(logits)


@keras.saving.register_keras_serializable(PACKAGE)
class CosineClassifier(keras.layers.Layer):
    """Compares inputs with one learned direction for each class.

    The outputs are `cos(x, p_c) / temperature`. The cosine of an input of length 0 is 0.

    Args:
        classes: int, the number of classes.
        temperature: float.

    Call arguments:
        inputs: float tensor of shape `(n, d)`.

    Returns:
        Float tensor of shape `(n, classes)` in the layer's dtype, which is float32 by default.
    """

    def __init__(self, classes, temperature=0.2, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.classes = classes
        self.temperature = temperature

    def build(self, input_shape):
        self.proxies = self.add_weight(
            name="proxies", shape=(input_shape[-1], self.classes), initializer="glorot_uniform"
        )

    def call(self, inputs):
        found = ops.matmul(_unit(inputs, -1), _unit(ops.convert_to_tensor(self.proxies), 0))
        return found / self.temperature

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.classes)

    def get_config(self):
        own = {"classes": self.classes, "temperature": self.temperature}
        return {**super().get_config(), **own}


def _unit(vectors, axis):
    """Divides vectors along an axis by their lengths. Vectors of length 0 remain 0."""
    squares = ops.sum(ops.square(vectors), axis=axis, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squares, 1e-24))
