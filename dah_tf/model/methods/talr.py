"""This module defines TALR, which maximises the average precision that evaluations report."""

from keras import ops

from dah_tf import losses
from dah_tf.losses.floats import in_floats
from dah_tf.model.methods.relational import Relational


class TALR(Relational):
    """Tie-aware learning to rank with average precision.

    Each image of a group ranks all others by the distance of the values `v = 2 sigmoid(slope u) -
    1`. The loss is 1 minus `losses.relaxed_average_precision`. If the codes are -1 and 1 and no
    distances are tied, this precision is the one of `dah_tf.metrics`. For ties it is close to it,
    but without the sum over the ranks of a tied group, which has no gradient. A ranking needs many
    images: a group should have about 100, such as `--images_per_class=10 --groups=1` for ten
    classes.

    The formula is that of the paper and the authors' code (`kunhe/TALR`). The slope is our choice,
    and the number of bins is the number of bits, so that each Hamming distance has its own bin. The
    hash values `(1 + tanh u) / 2` are ours too.

    Args:
        slope: float, the slope of the sigmoid.
        bins: int, the number of parts into which the distances are divided. None stands for `bits`.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range.

    References:
        He, Cakir, Bargal and Sclaroff, "Hashing as tie-aware learning to rank", CVPR 2018.
    """

    name = "talr"
    title = "TALR (2018)"
    source = "paper"

    def __init__(self, *, slope: float = 1.0, bins: int | None = None, class_weight: float = 0.0):
        self.keep(slope=slope, bins=bins, class_weight=class_weight, above_zero=["slope", "bins"])

    def compared(self, similar, outputs, state, step):
        """Computes the loss and the average precision."""
        logits = in_floats(outputs["logits"])
        bins = logits.shape[-1] if self.bins is None else self.bins
        values = ops.tanh(0.5 * self.slope * logits)
        histograms = losses.distance_histograms(values, similar, bins)
        precision = losses.relaxed_average_precision(*histograms)
        return {"loss": 1.0 - precision, "average_precision": precision}
