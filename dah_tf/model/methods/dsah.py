"""This module defines DSaH, which compares the salient parts of images with their backgrounds."""

from keras import ops

from dah_tf import layers, losses
from dah_tf.losses.floats import in_floats
from dah_tf.losses.pairs import squared_distances
from dah_tf.model.methods.relational import Relational


class DSaH(Relational):
    """Deep saliency hashing: salient parts of similar images are nearer than their backgrounds.

    This is a reconstruction, because the paper's text could not be read, and its constants and the
    form of the mask are ours. The head is `layers.SaliencyHash`. It divides the feature map of an
    image into a salient part and the background. With the values `h = tanh u` and
    `D_ij = |h_i - h_j|^2 / (4 bits)`, the loss is `losses.pair_likelihood` of the logits u, plus
    `saliency` times the mean over the similar pairs of a group of

        max(0, D_ij of the salient parts - D_ij of the backgrounds + margin),

    plus `quantisation` times `losses.quantisation`, plus `class_weight` times a classification
    loss. D is the share of bits in which two codes differ.

    The hinge teaches the network in one step and the mask in the next. The other parts of the loss
    teach the network in every step, and never reach the mask. The code of an image comes from the
    whole image. The mask is used in the training alone.

    Args:
        saliency: float, the weight of the hinge.
        margin: float, the share of bits by which backgrounds must be farther apart.
        quantisation: float, the weight of the quantisation.
        class_weight: float, the weight of the classification loss.

    Raises:
        UserError: a value is out of its range.

    References:
        Jin, Yao, Sun, Zhou, Zhang and Hua, "Deep saliency hashing for fine-grained retrieval", IEEE
        TIP 2020.
    """

    name = "dsah"
    title = "DSaH (2020), a reconstruction"
    source = "reading"

    def __init__(
        self,
        *,
        saliency: float = 1.0,
        margin: float = 0.25,
        quantisation: float = 0.1,
        class_weight: float = 1.0,
    ):
        self.keep(
            saliency=saliency, margin=margin, quantisation=quantisation, class_weight=class_weight
        )

    def head(self, bits):
        return layers.SaliencyHash(bits, self.activation, name="hash_head")

    def compared(self, similar, outputs, state, step):
        """Computes the loss and its three parts."""
        logits = in_floats(outputs["logits"])
        pairs = losses.pair_likelihood(logits, similar)
        quantisation = losses.quantisation(logits)
        network, mask = (
            self._hinge(outputs["salient" + name], outputs["background" + name], similar)
            for name in ("", "_mask")
        )
        # Both have the same value. Of the one that is not chosen, no gradient remains.
        hinge = ops.cast(ops.where(ops.equal(step % 2, 0), network, mask), logits.dtype)
        return {
            "loss": pairs + self.saliency * hinge + self.quantisation * quantisation,
            "pairs": pairs,
            "saliency": hinge,
            "quantisation": quantisation,
        }

    def _hinge(self, salient, background, similar):
        near, far = (self._distances(in_floats(part)) for part in (salient, background))
        similar = ops.cast(similar, near.dtype)
        similar = similar * (1.0 - ops.eye(similar.shape[1], dtype=near.dtype))
        short = ops.sum(similar * ops.relu(near - far + self.margin), axis=(1, 2))
        return ops.mean(short / ops.maximum(ops.sum(similar, axis=(1, 2)), 1.0))

    def _distances(self, logits):
        return squared_distances(ops.tanh(logits)) / (4.0 * logits.shape[-1])
