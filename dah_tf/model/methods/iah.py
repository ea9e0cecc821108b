"""This module defines IAH, which describes an image with several labels class by class."""

from keras import ops

from dah_tf import layers, losses
from dah_tf.errors import UserError
from dah_tf.model.methods.base import Method


class IAH(Method):
    """Instance-aware hashing: triplets of codes that are made of the regions of each class.

    This is a reconstruction, because the paper's text could not be read. The head is
    `layers.RegionHash`: the features of the regions of an image are grouped by the classes that
    they show, and the code is computed from all groups. The loss is that of NINH, which is the mean
    over the triplets of a group of `max(0, |F - F+|^2 - |F - F-|^2 + margin)`, plus
    `region_weight` times the mean over images and classes of the logistic loss of
    `max_r p_rc`. Here p_rc is the probability that the region r shows the class c. Images are
    similar if they have a class in common.

    The paper takes regions from a generator of proposals. Here they are the positions of the
    feature map at two scales, which is our choice, as is the logistic loss. The margin and the
    threshold are those of NINH. On images with one label, the method is NINH with attention.

    Args:
        width: int, the number of features of a slice.
        band: float from 0 to 0.5, half the width of the band in which values are not changed.
        margin: float, the squared distance by which dissimilar images must be farther away.
        region_weight: float, the weight of the classification of regions.

    Raises:
        UserError: a value is out of its range.

    References:
        Lai, Yan, Shu, Wei and Yan, "Instance-aware hashing for multi-label image retrieval", IEEE
        TIP 2016.
    """

    name = "iah"
    title = "IAH (2016), a reconstruction"
    source = "reading"
    exact_gradient = False  # it passes straight through the threshold

    def __init__(
        self,
        *,
        width: int = 50,
        band: float = 0.1,
        margin: float = 1.0,
        region_weight: float = 1.0,
    ):
        for name, value in {"width": width, "margin": margin}.items():
            if not value > 0:
                raise UserError(f"method iah: {name}={value} must be above 0")
        if not region_weight >= 0:
            raise UserError(f"method iah: region_weight={region_weight} must be at least 0")
        if not 0 <= band <= 0.5:
            raise UserError(f"method iah: band={band} must lie from 0 to 0.5")
        self.width = width
        self.band = band
        self.margin = margin
        self.region_weight = region_weight

    def head(self, bits, num_classes=1):
        return layers.RegionHash(bits, num_classes, self.width, name="hash_head")

    def head_of(self, bits, num_classes):
        return self.head(bits, num_classes)

    def terms(self, labels, outputs, state, step):
        """Computes the loss and its two parts."""
        values = layers.thresholded(outputs["hash"], self.band)
        triplets = losses.triplet_hinge(values, losses.similarity(labels), self.margin)
        regions = outputs["regions"]
        if len(labels.shape) == 2:
            labels = ops.one_hot(labels, regions.shape[-1])
        region_loss = ops.cast(losses.cross_entropy(labels, regions), triplets.dtype)
        return {
            "loss": triplets + self.region_weight * region_loss,
            "triplets": triplets,
            "region_loss": region_loss,
        }
