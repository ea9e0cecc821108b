"""This module defines RelaHash, which compares relative positions in a batch with centres."""

from keras import ops

from dah_tf import layers
from dah_tf.codes import codebooks
from dah_tf.errors import UserError
from dah_tf.losses import centres
from dah_tf.model.methods.base import Method, Needs


class RelaHash(Method):
    """Cross-entropy between the relative positions of a group's images and fixed centres.

    The loss is `centres.margin_cross_entropy` of the products of `centres.relative_positions` with
    centres of length 1. Images with several labels have equal shares of their classes as targets.

    The constants are those of the authors' code, in which the position is relative to a batch of 16
    images. In this package it is relative to a group, on the scale of a batch of 16. The loss does
    not depend on the number of groups then. The batch normalisation has neither a scale nor an
    offset, and the centres are those of `codes.codebooks`.

    Args:
        beta: float, the factor on the products.
        margin: float from 0 to 2, which is subtracted from the product with the own centre.

    Raises:
        UserError: a value is out of its range, or a run has more classes than there are codes.

    References:
        Minh et al., "RelaHash: deep hashing with relative position", IEEE Access 2023.
    """

    name = "relahash"
    title = "RelaHash (2023)"
    source = "code"
    needs = Needs(smallest_group=2)

    def __init__(self, *, beta: float = 8.0, margin: float = 0.5):
        if not beta > 0:
            raise UserError(f"method relahash: beta={beta} must be above 0")
        if not 0 <= margin <= 2:
            raise UserError(f"method relahash: margin={margin} must lie from 0 to 2")
        self.beta = beta
        self.margin = margin

    def head(self, bits):
        return layers.BatchNormHead(bits, name="hash_head")

    def variables(self, facts):
        """Returns the centres."""
        book = codebooks.codebook(facts.num_classes, facts.bits, facts.seed)
        return {"centres": book.astype("float32")}

    def terms(self, labels, outputs, state, step):
        """Computes the loss."""
        positions = centres.relative_positions(outputs["logits"])
        directions = ops.transpose(centres.unit(ops.cast(state["centres"], positions.dtype)))
        scores = ops.matmul(positions, directions)
        return {"loss": centres.margin_cross_entropy(labels, scores, self.beta, self.margin)}
