"""This module defines DSH, which holds dissimilar pairs apart up to a margin."""

from dah_tf import losses
from dah_tf.model.methods.relational import Relational


class DSH(Relational):
    """Deep supervised hashing with a contrastive loss on logits, and a pull to -1 and 1.

    With `D_ij = |u_i - u_j|^2` on the logits u, the loss is the mean over the ordered pairs of a
    group of `s_ij D_ij / 2 + (1 - s_ij) max(0, m - D_ij) / 2`, plus alpha times the mean over
    images of the sum of `||u| - 1|`.

    The constants are those of the authors' Caffe files (`lhmRyan/deep-supervised-hashing-DSH`):
    alpha is 0.01, and the margin is 24 for 12 bits, which is twice the number of bits. It grows
    with the number of bits here, because `D = 4 d` if two codes differ in d bits. The files leave
    it at 24 for every length. The hash values `(1 + tanh u) / 2` are ours.

    Args:
        alpha: float, the weight of the pull to -1 and 1.
        margin: float, m in the formula. None stands for `2 bits`.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range.

    References:
        Liu, Wang, Shan and Chen, "Deep supervised hashing for fast image retrieval", CVPR 2016.
    """

    name = "dsh"
    title = "DSH (2016)"
    source = "code"

    def __init__(
        self, *, alpha: float = 0.01, margin: float | None = None, class_weight: float = 0.0
    ):
        self.keep(alpha=alpha, margin=margin, class_weight=class_weight, above_zero=["margin"])

    def compared(self, similar, outputs, state, step):
        """Computes the loss, its parts of similar and of dissimilar pairs, and the pull."""
        logits = outputs["logits"]
        margin = 2.0 * logits.shape[-1] if self.margin is None else self.margin
        near, apart = (0.5 * part for part in losses.contrastive(logits, similar, margin))
        quantisation = losses.absolute_quantisation(logits)
        return {
            "loss": near + apart + self.alpha * quantisation,
            "similar": near,
            "dissimilar": apart,
            "quantisation": quantisation,
        }
