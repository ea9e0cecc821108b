"""This module defines NINH, which computes each bit from its own features and learns from triplets."""

from dah_tf import layers, losses
from dah_tf.errors import UserError
from dah_tf.model.methods.relational import Relational


class NINH(Relational):
    """Network-in-network hashing with divided features and a triplet loss. It is also named DNNH.

    The head is `layers.SlicedHash`: the features of an image are divided into slices, and each bit
    sees only its own slice. Its values become 0 or 1 outside a band round 1/2. With the results F,
    the loss is the mean over the triplets of a group of `max(0, |F - F+|^2 - |F - F-|^2 + 1)`.

    The margin of one bit and the band are the paper's. The paper does not state the width of the
    band. It is our choice, and so is the gradient outside the band, which is that of the value
    itself, because it would be 0 otherwise. The width of 50 of a slice is quoted from other work.
    The values `(1 + tanh u) / 2` are those of a sigmoid of twice the logit.

    Args:
        width: int, the number of features of a slice.
        band: float from 0 to 0.5, half the width of the band in which values are not changed.
        margin: float, the squared distance by which dissimilar images must be farther away.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range.

    References:
        Lai, Pan, Liu and Yan, "Simultaneous feature learning and hash coding with deep neural
        networks", CVPR 2015.
    """

    name = "ninh"
    title = "NINH (2015)"
    source = "paper"
    exact_gradient = False  # it passes straight through the threshold

    def __init__(
        self,
        *,
        width: int = 50,
        band: float = 0.1,
        margin: float = 1.0,
        class_weight: float = 0.0,
    ):
        self.keep(
            width=width,
            band=band,
            margin=margin,
            class_weight=class_weight,
            above_zero=["width", "margin"],
        )
        if band > 0.5:
            raise UserError(f"method ninh: band={band} must lie from 0 to 0.5")

    def head(self, bits):
        return layers.SlicedHash(bits, self.width, name="hash_head")

    def compared(self, similar, outputs, state, step):
        """Computes the loss."""
        values = layers.thresholded(outputs["hash"], self.band)
        return {"loss": losses.triplet_hinge(values, similar, self.margin)}
