"""A hash layer with a weight for each bit, which says how much the bit counts in a distance."""

import keras
import numpy as np
from keras import ops

from dah_tf.layers.hashing import HashHead
from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class WeightedHash(HashHead):
    """A `HashHead` whose bits have weights that are trained, starting at 1.

    The weights do not change the logits and the values. A loss multiplies the values by them. Bits
    with small weights say little, so that a shorter code can leave them out.

    Args:
        bits: int, the code length k.
        activation: as in `HashHead`.

    Attributes:
        bit_weights: float32 variable of shape `(bits,)`.

    Call arguments, returns and errors: `HashHead`.

    References:
        Zhang, Lin, Zhang, Zuo and Zhang, "Bit-scalable deep hashing with regularized similarity
        learning for image retrieval and person re-identification", IEEE TIP 2015.
    """

    def __init__(self, bits, activation="tanh", **kwargs):
        super().__init__(bits, activation, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.bit_weights = self.add_weight(
            name="bit_weights", shape=(self.bits,), initializer="ones"
        )

    def heaviest(self, count):
        """Returns the places of the bits with the largest absolute weights, in their order.

        Args:
            count: int from 1 to `bits`. Of equal weights, those of the first bits count more.

        Returns:
            int array of shape `(count,)`.

        Raises:
            ValueError: the count is out of its range.
        """
        if not 1 <= count <= self.bits:
            raise ValueError(f"`count` must lie from 1 to {self.bits}. Received: count={count}")
        weights = np.abs(ops.convert_to_numpy(self.bit_weights))
        return np.sort(np.argsort(-weights, kind="stable")[:count])
