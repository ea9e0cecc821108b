"""This module defines MIHash, whose distances shall say as much as possible about similarity."""

from keras import ops

from dah_tf import losses
from dah_tf.losses.floats import in_floats
from dah_tf.model.methods.relational import Relational


class MIHash(Relational):
    """MIHash maximises the mutual information between the distance and the similarity of images.

    Each image of a group ranks all others by the distance of the values `v = 2 sigmoid(slope u) -
    1`. The loss is the mutual information with the opposite sign, in nats. A histogram needs many
    images: a group should have about 100, such as `--images_per_class=10 --groups=1` for ten
    classes.

    The constants are those of the authors' code (`fcakir/deep-mihash`): the slope is 1 with 32 bins
    for training on 5,000 images, and 30 with 12 bins at 32 bits for training on all of CIFAR-10,
    both from a network that is trained already. The number of bins is half the number of bits here,
    unless you set it. The hash values `(1 + tanh u) / 2` are ours.

    Args:
        slope: float, the slope of the sigmoid.
        bins: int, the number of parts into which the distances are divided. None stands for
            `bits / 2`.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range.

    References:
        Cakir, He, Bargal and Sclaroff, "Hashing with mutual information", IEEE TPAMI 2019.
    """

    name = "mihash"
    title = "MIHash (2017)"
    source = "code"

    def __init__(self, *, slope: float = 1.0, bins: int | None = None, class_weight: float = 0.0):
        self.keep(slope=slope, bins=bins, class_weight=class_weight, above_zero=["slope", "bins"])

    def compared(self, similar, outputs, state, step):
        """Computes the loss and the mutual information."""
        logits = in_floats(outputs["logits"])
        bins = max(logits.shape[-1] // 2, 1) if self.bins is None else self.bins
        values = ops.tanh(0.5 * self.slope * logits)
        histograms = losses.distance_histograms(values, similar, bins)
        information = losses.mutual_information(*histograms)
        return {"loss": -information, "information": information}
