"""This module defines DRSCH, whose bits have weights, so that codes can be shortened later."""

import numpy as np
from keras import ops

from dah_tf import layers, losses
from dah_tf.errors import UserError
from dah_tf.model.methods.relational import Relational


class DRSCH(Relational):
    """Bit-scalable deep hashing: triplets and similar pairs in weighted distances.

    This is a reconstruction, because the paper's text and the authors' loss layer could not be
    read. With the hash values h, which lie in [0, 1], and a weight w for each bit, the squared
    distance is `D_ij = |w (h_i - h_j)|^2`. The loss is the mean over the triplets of a group of
    `max(-margin, D_ip - D_in)`, up to a constant, plus `laplacian` times the mean over the ordered
    pairs of a group of `s_ij D_ij`. The sums of the paper are means here.

    Codes are compared by the plain Hamming distance, which does not know the weights. `shortened`
    returns a model with fewer bits. DSCH is the same method without weights and without the second
    part: `drsch:weighted=false,laplacian=0`.

    Args:
        margin: float. None stands for `bits / 4`, which is our choice.
        laplacian: float, the weight of the part for similar pairs.
        weighted: bool, whether the bits have weights.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range.

    References:
        Zhang, Lin, Zhang, Zuo and Zhang, "Bit-scalable deep hashing with regularized similarity
        learning for image retrieval and person re-identification", IEEE TIP 2015.
    """

    name = "drsch"
    title = "DRSCH (2015), a reconstruction"
    source = "reading"

    def __init__(
        self,
        *,
        margin: float | None = None,
        laplacian: float = 1e-3,
        weighted: bool = True,
        class_weight: float = 0.0,
    ):
        self.keep(margin=margin, laplacian=laplacian, class_weight=class_weight)
        self.weighted = weighted

    def head(self, bits):
        if self.weighted:
            return layers.WeightedHash(bits, self.activation, name="hash_head")
        return super().head(bits)

    def compared(self, similar, outputs, state, step):
        """Computes the loss and its two parts."""
        values = outputs["hash"]
        if "bit_weights" in outputs:
            values = values * ops.cast(outputs["bit_weights"], values.dtype)
        margin = 0.25 * values.shape[-1] if self.margin is None else self.margin
        triplets = losses.triplet_hinge(values, similar, margin)
        pairs, _ = losses.contrastive(values, similar, 0.0)
        return {
            "loss": triplets + self.laplacian * pairs,
            "triplets": triplets,
            "pairs": pairs,
        }


def shortened(model, bits: int):
    """Returns a model with fewer bits, those with the largest absolute weights.

    Args:
        model: `HashModel` whose method is drsch.
        bits: int, the new code length.

    Returns:
        `HashModel` that is not compiled. Its codes are those of the model without the other bits.
        The class layer loses its part that saw these bits, and is worse than before.

    Raises:
        UserError: the bits of the model have no weights, or there are fewer of them.
    """
    head = model.hash_head
    if not isinstance(head, layers.WeightedHash):
        raise UserError(f"method {model.method.name} has no weights by which to choose bits")
    if not 1 <= bits <= head.bits:
        raise UserError(f"bits={bits} must lie from 1 to {head.bits}")
    kept = head.heaviest(bits)
    shorter = type(model).from_config({**model.get_config(), "bits": bits})
    shorter.backbone.set_weights(model.backbone.get_weights())
    # The bits are the last axis of all weights of the head, and the first of the class layer's
    # kernel.
    shorter.hash_head.set_weights([np.take(w, kept, axis=-1) for w in head.get_weights()])
    kernel, bias = model.classifier.get_weights()
    shorter.classifier.set_weights([kernel[kept], bias])
    return shorter
