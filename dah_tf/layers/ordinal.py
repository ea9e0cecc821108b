"""A hash layer with two branches, one for the whole image and one for its parts."""

import keras
from keras import ops

from dah_tf.layers.hashing import ShiftedTanh
from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class OrdinalHash(keras.layers.Layer):
    """Chooses one of two ways for each bit by comparing two scores, in float32.

    An image is described by the features of the whole image and by local features. The local
    features are a weighted mean over the positions of the feature map, divided by the square root
    of the number of channels. The weights are a softmax over the positions, of a linear function of
    the channels. With both descriptions joined to x, a bit has the scores `w_1 . x` and `w_2 . x`,
    and its logit is their difference. The bit is 1 if the first score is larger.

    Args:
        bits: int, the code length k.

    Attributes:
        takes_map: True, see `Method.head`.
        activation: the layer that turns logits into values.
        span: pair of floats, the lowest and the highest value.

    Call arguments:
        inputs: pair of float tensors of shape `(n, features)` and `(n, h, w, channels)`.

    Returns:
        Pair of float32 tensors of shape `(n, bits)`: logits, and values in [0, 1].

    Raises:
        ValueError: `bits` is below 1.

    References:
        Jin, Shu, Li, Li, Qi and Tang, "Deep ordinal hashing with spatial attention", IEEE TIP 2019.
    """

    takes_map = True

    def __init__(self, bits, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if bits < 1:
            raise ValueError(f"`bits` must be at least 1. Received: bits={bits}")
        self.bits = bits
        options = {"use_bias": False, "dtype": self.dtype_policy}
        self.attention = keras.layers.Dense(1, name="attention", **options)
        self.dense = keras.layers.Dense(2 * bits, name="dense", **options)
        self.activation = ShiftedTanh(name="tanh")

    @property
    def span(self):
        return self.activation.span

    def build(self, input_shape):
        features, found = input_shape
        self.attention.build((None, found[-1]))
        self.dense.build((None, features[-1] + found[-1]))

    def weights_of(self, found):
        """Returns the weights of the positions of a map: a tensor of shape `(n, h * w)`."""
        return ops.softmax(self.attention(_positions(found))[..., 0], axis=-1)

    def scores(self, inputs):
        """Returns the scores of both ways, a float32 tensor of shape `(n, bits, 2)`."""
        features, found = (ops.cast(each, "float32") for each in inputs)
        weights = ops.expand_dims(self.weights_of(found), -1)
        local = ops.sum(_positions(found) * weights, axis=1) / found.shape[-1] ** 0.5
        scores = self.dense(ops.concatenate([features, local], axis=-1))
        return ops.reshape(scores, (-1, self.bits, 2))

    def call(self, inputs):
        scores = self.scores(inputs)
        logits = scores[..., 0] - scores[..., 1]
        return logits, self.activation(logits)

    def compute_output_shape(self, input_shape):
        shape = (*input_shape[0][:-1], self.bits)
        return shape, shape

    def get_config(self):
        return {**super().get_config(), "bits": self.bits}


def _positions(found):
    """Joins the height and the width of a map, so that it has shape `(n, h * w, channels)`."""
    _, height, width, _ = ops.shape(found)
    return ops.reshape(found, (-1, height * width, found.shape[-1]))
