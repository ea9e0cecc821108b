"""This module defines OrthoHash, a classification by the cosine to fixed binary centres."""

from dah_tf import layers
from dah_tf.codes import codebooks
from dah_tf.errors import UserError
from dah_tf.losses import centres
from dah_tf.model.methods.base import Method


class OrthoHash(Method):
    """One loss, the cross-entropy of cosines between batch-normalised logits and fixed centres.

    The loss is `centres.margin_cross_entropy` of `centres.cosines`. The logits are the outputs of a
    batch normalisation, so that the mean of a bit over a batch is 0. Images with several labels
    have equal shares of their classes as targets.

    The scale is that of the authors' code. So is the margin, which their configuration for CIFAR-10
    sets to 0.3. The normalisation of this package has neither a scale nor an offset, which keeps
    the mean at 0. The centres are those of `codes.codebooks`; the authors take random codes.

    Args:
        scale: float, the factor on the cosines.
        margin: float from 0 to 2, which is subtracted from the cosine to the own centre.

    Raises:
        UserError: a value is out of its range, or a run has more classes than there are codes.

    References:
        Hoe, Ng, Zhang, Chan, Song and Xiang, "One loss for all: deep hashing with a single cosine
        similarity based learning objective", NeurIPS 2021.
    """

    name = "orthohash"
    title = "OrthoHash (2021)"
    source = "code"

    def __init__(self, *, scale: float = 8.0, margin: float = 0.2):
        if not scale > 0:
            raise UserError(f"method orthohash: scale={scale} must be above 0")
        if not 0 <= margin <= 2:
            raise UserError(f"method orthohash: margin={margin} must lie from 0 to 2")
        self.scale = scale
        self.margin = margin

    def head(self, bits):
        return layers.BatchNormHead(bits, name="hash_head")

    def variables(self, facts):
        """Returns the centres."""
        book = codebooks.codebook(facts.num_classes, facts.bits, facts.seed)
        return {"centres": book.astype("float32")}

    def terms(self, labels, outputs, state, step):
        """Computes the loss."""
        scores = centres.cosines(outputs["logits"], state["centres"])
        return {"loss": centres.margin_cross_entropy(labels, scores, self.scale, self.margin)}
