"""This module defines SDHP, a paired and quantised loss, as a reconstruction."""

from dah_tf import losses
from dah_tf.model.methods.relational import Relational


class SDHP(Relational):
    """Supervised deep hashing with pairs and quantisation. This is a reconstruction.

    The text of the paper could not be read. What is known of it is that its loss has a part for
    pairs and one for quantisation. The formula and the constants are therefore ours, and results
    must not be taken for those of the authors' method.

    With `h = tanh u` and `D_ij = |h_i - h_j|^2 / 4`, which is the Hamming distance if h is -1 or 1,
    the loss is the mean over the ordered pairs of a group of `s_ij D_ij + (1 - s_ij) max(0, m -
    D_ij)`, plus alpha times the mean over images and bits of `(|h| - 1)^2`.

    Args:
        alpha: float, the weight of the quantisation.
        margin: float, m in the formula. None stands for `bits / 2`.
        class_weight: float, the weight of a classification loss that is not part of the method.

    Raises:
        UserError: a value is out of its range.

    References:
        Yan, Xie, Yang, Yin, Zhang and Dai, "Supervised hash coding with deep neural network for
        environment perception of intelligent vehicles", IEEE T-ITS 2018.
    """

    name = "sdhp"
    title = "SDHP (2018), a reconstruction"
    source = "reading"

    def __init__(
        self, *, alpha: float = 0.1, margin: float | None = None, class_weight: float = 0.0
    ):
        self.keep(alpha=alpha, margin=margin, class_weight=class_weight, above_zero=["margin"])

    def compared(self, similar, outputs, state, step):
        """Computes the loss, its parts of similar and of dissimilar pairs, and quantisation."""
        values = 2.0 * outputs["hash"] - 1.0
        margin = 0.5 * values.shape[-1] if self.margin is None else self.margin
        near, apart = losses.contrastive(0.5 * values, similar, margin)
        quantisation = losses.squared_quantisation(values)
        return {
            "loss": near + apart + self.alpha * quantisation,
            "similar": near,
            "dissimilar": apart,
            "quantisation": quantisation,
        }
