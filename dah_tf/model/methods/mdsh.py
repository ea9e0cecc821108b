"""This module defines MDSH, which classifies by the cosine to centres that are far apart."""

from dah_tf import losses
from dah_tf.codes import codebooks
from dah_tf.errors import UserError
from dah_tf.losses import centres
from dah_tf.model.methods.base import Method


class MDSH(Method):
    """Cross-entropy of each class, and the attraction of similar images.

    The loss is `centres.each_class_cross_entropy` of `sqrt(bits) * centres.cosines`, plus
    `pair_weight * centres.attraction`.

    The authors search centres by an optimisation of their own. This package takes the centres of
    `codes.codebooks`, which reach the same bound. It also takes the mean over the similar pairs of
    a group, and a weight of 1 for it, because the source at hand does not say how the two parts are
    averaged. The method is therefore a reading.

    Args:
        pair_weight: float, the weight of the attraction.

    Raises:
        UserError: the weight is negative, or a run has more classes than there are codes.

    References:
        Wang et al., "Deep hashing with minimal-distance-separated hash centers", CVPR 2023.
    """

    name = "mdsh"
    title = "MDSH (2023)"
    source = "reading"

    def __init__(self, *, pair_weight: float = 1.0):
        if not pair_weight >= 0:
            raise UserError(f"method mdsh: pair_weight={pair_weight} must be at least 0")
        self.pair_weight = pair_weight

    def variables(self, facts):
        """Returns the centres."""
        book = codebooks.codebook(facts.num_classes, facts.bits, facts.seed)
        return {"centres": book.astype("float32")}

    def terms(self, labels, outputs, state, step):
        """Computes the loss and its two parts."""
        logits = outputs["logits"]
        scores = logits.shape[-1] ** 0.5 * centres.cosines(logits, state["centres"])
        central = centres.each_class_cross_entropy(labels, scores)
        pairs = centres.attraction(logits, losses.similarity(labels))
        return {"loss": central + self.pair_weight * pairs, "central": central, "pairs": pairs}
