"""This module defines CSQ, a method that draws codes to fixed centres of the classes."""

import numpy as np

from dah_tf.codes import codebooks
from dah_tf.errors import UserError
from dah_tf.losses import binarisation, centres
from dah_tf.model.methods.base import Method


class CSQ(Method):
    """Central similarity quantisation with one fixed code for each class.

    The loss is `centres.bit_cross_entropy + quantisation * binarisation.tanh_gap`. The target of an
    image with several labels is the majority vote of its centres, and the bits of a tied vote are
    those of one fixed random code.

    The loss and the weight of the quantisation are those of the paper. The released code adds a
    pairwise loss with weight 0.2 and has a weight of 0.05 for the quantisation. The paper's centres
    are rows of a Hadamard matrix, or random codes if there is no such matrix. The centres of this
    package are those of `codes.codebooks`, which are at least as far apart.

    Args:
        quantisation: float, the weight of the quantisation.

    Raises:
        UserError: the weight is negative, or a run has more classes than there are codes.

    References:
        Yuan, Wang, Zhang, Tay, Jie, Liu and Feng, "Central similarity quantization for efficient
        image and video retrieval", CVPR 2020.
    """

    name = "csq"
    title = "CSQ (2020)"
    source = "paper"

    def __init__(self, *, quantisation: float = 1e-4):
        if not quantisation >= 0:
            raise UserError(f"method csq: quantisation={quantisation} must be at least 0")
        self.quantisation = quantisation

    def variables(self, facts):
        """Returns the centres, and the code that decides tied votes."""
        book = codebooks.codebook(facts.num_classes, facts.bits, facts.seed)
        ties = np.random.default_rng(facts.seed).choice([-1.0, 1.0], size=facts.bits)
        return {"centres": book.astype("float32"), "ties": ties.astype("float32")}

    def terms(self, labels, outputs, state, step):
        """Computes the loss and its two parts."""
        targets = centres.majority(labels, state["centres"], state["ties"])
        central = centres.bit_cross_entropy(outputs["logits"], targets)
        quantisation = binarisation.tanh_gap(outputs["logits"])
        return {
            "loss": central + self.quantisation * quantisation,
            "central": central,
            "quantisation": quantisation,
        }
