"""The hash functions of shallow methods as layers: features to logits and hash values."""

import keras
import numpy as np
from keras import ops

from dah_tf.layers.hashing import ShiftedTanh
from dah_tf.layers.package import PACKAGE


class ShallowHead(keras.layers.Layer):
    """A hash function with constants that another program has learned, in float32.

    Args:
        bits: int, code length k.

    Attributes:
        activation: the layer that turns logits into values.
        span: pair of floats, the lowest and the highest value.

    Call arguments:
        inputs: float tensor of shape `(n, d)`.

    Returns:
        Pair of float32 tensors of shape `(n, bits)`: logits, and values in [0, 1].

    Raises:
        ValueError: no bits.
    """

    def __init__(self, bits, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if bits < 1:
            raise ValueError(f"`bits` must be at least 1. Received: bits={bits}")
        self.bits = bits
        self.activation = ShiftedTanh(name="tanh")

    @property
    def span(self):
        return self.activation.span

    def _constants(self, features):
        """Dict of name to shape of the constants, in the order of the weights."""
        raise NotImplementedError

    def _logits(self, x):
        raise NotImplementedError

    def build(self, input_shape):
        self.constants = {
            name: self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)
            for name, shape in self._constants(input_shape[-1]).items()
        }

    def take(self, estimator):
        """Takes the constants of a fitted method.

        Args:
            estimator: `baselines.base.Hasher` of the same form; its attributes are the constants,
                each with an underscore behind its name.

        Raises:
            ValueError: an array is not of the layer's shape.
        """
        for name, variable in self.constants.items():
            variable.assign(np.asarray(getattr(estimator, f"{name}_"), np.float32))

    def call(self, inputs):
        logits = self._logits(ops.cast(inputs, "float32"))
        return logits, self.activation(logits)

    def compute_output_shape(self, input_shape):
        shape = (*input_shape[:-1], self.bits)
        return shape, shape

    def get_config(self):
        return {**super().get_config(), "bits": self.bits}


@keras.saving.register_keras_serializable(PACKAGE)
class LinearHash(ShallowHead):
    """`(x - mean) components`. Arguments, call and result: `ShallowHead`."""

    def _constants(self, features):
        return {"mean": (features,), "components": (features, self.bits)}

    def _logits(self, x):
        return ops.matmul(x - self.constants["mean"], self.constants["components"])


@keras.saving.register_keras_serializable(PACKAGE)
class CosineHash(ShallowHead):
    """`cos((x - mean) components - phases)`. Arguments, call and result: `ShallowHead`."""

    def _constants(self, features):
        shapes = {"mean": (features,), "components": (features, self.bits)}
        return shapes | {"phases": (self.bits,)}

    def _logits(self, x):
        angles = ops.matmul(x - self.constants["mean"], self.constants["components"])
        return ops.cos(angles - self.constants["phases"])


@keras.saving.register_keras_serializable(PACKAGE)
class KernelHash(ShallowHead):
    """`exp(-gamma |x - anchors|^2) components + intercept`.

    Args:
        bits: int, code length k.
        anchors: int, number of anchors.

    Call arguments, returns and errors: `ShallowHead`.
    """

    def __init__(self, bits, anchors, **kwargs):
        super().__init__(bits, **kwargs)
        self.anchors = anchors

    def take(self, estimator):
        missing = self.anchors - len(estimator.anchors_)
        if missing < 0:
            raise ValueError(f"the layer has {self.anchors} anchors, not {-missing} more")
        # Where the data has fewer rows, the first anchor stands in again, with no say.
        copies = np.repeat(estimator.anchors_[:1], missing, axis=0)
        silent = np.zeros((missing, self.bits))
        found = {
            "anchors": np.concatenate([estimator.anchors_, copies]),
            "gamma": estimator.gamma_,
            "components": np.concatenate([estimator.components_, silent]),
            "intercept": estimator.intercept_,
        }
        for name, variable in self.constants.items():
            variable.assign(np.asarray(found[name], np.float32))

    def _constants(self, features):
        return {
            "anchors": (self.anchors, features),
            "gamma": (),
            "components": (self.anchors, self.bits),
            "intercept": (self.bits,),
        }

    def _logits(self, x):
        anchors = self.constants["anchors"]
        # Distances from a point among the anchors: squares of large numbers would lose digits.
        middle = ops.mean(anchors, axis=0)
        x, anchors = x - middle, anchors - middle
        apart = ops.sum(x * x, axis=1)[:, None] + ops.sum(anchors * anchors, axis=1)
        apart = apart - 2.0 * ops.matmul(x, ops.transpose(anchors))
        near = ops.exp(-self.constants["gamma"] * ops.maximum(apart, 0.0))
        return ops.matmul(near, self.constants["components"]) + self.constants["intercept"]

    def get_config(self):
        return {**super().get_config(), "anchors": self.anchors}
