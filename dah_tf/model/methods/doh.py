"""This module defines DOH, whose bits say which of two scores is larger."""

from keras import ops

from dah_tf import layers, losses
from dah_tf.losses.floats import in_floats
from dah_tf.model.methods.relational import Relational


class DOH(Relational):
    """Deep ordinal hashing: the likelihood of pairs, for codes that order scores.

    This is a reconstruction, because the paper's text could not be read. A code consists of symbols
    that say which of several scores of the image is the largest. Here each symbol has two ways, so
    that it is one bit. The head is `layers.OrdinalHash`, which joins the features of the whole
    image with local features that it chooses by spatial attention.

    The choice is relaxed to a softmax p of the two scores of a symbol, divided by a temperature.
    `p_i . p_j`, summed over the symbols, is then the expected number of equal bits. The loss is
    `losses.pair_likelihood` with `theta_ij = sum p_i . p_j - bits / 2`, which is 0 for two images
    that agree in half of their bits. The temperature and the shift by `bits / 2` are ours, and so
    is the form of the attention.

    Args:
        temperature: float, the divisor of the scores.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range.

    References:
        Jin, Shu, Li, Li, Qi and Tang, "Deep ordinal hashing with spatial attention", IEEE TIP 2019.
    """

    name = "doh"
    title = "DOH (2019), a reconstruction"
    source = "reading"

    def __init__(self, *, temperature: float = 0.25, class_weight: float = 0.0):
        self.keep(temperature=temperature, class_weight=class_weight, above_zero=["temperature"])

    def head(self, bits):
        return layers.OrdinalHash(bits, name="hash_head")

    def compared(self, similar, outputs, state, step):
        """Computes the loss."""
        # The logit is the difference of both scores, so this is the softmax's first value less its
        # second one. The product of two such values, halved, is p_i . p_j - 1/2.
        ways = ops.tanh(in_floats(outputs["logits"]) / (2.0 * self.temperature))
        return {"loss": losses.pair_likelihood(ways, similar)}
