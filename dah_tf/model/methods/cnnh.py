"""This module defines CNNH, which first chooses a code for each image and then learns it."""

import numpy as np
from keras import ops

from dah_tf.baselines.labels import Supervision
from dah_tf.codes import factors
from dah_tf.errors import UserError
from dah_tf.losses.floats import in_floats
from dah_tf.model.methods.base import Needs
from dah_tf.model.methods.relational import Relational


class CNNH(Relational):
    """CNN hashing: target codes from the similarities, and a network that learns these codes.

    Before the first step, `codes.factors.factorised` finds rows whose products approximate the
    similarities of the training images. Their signs are the target codes. The paper gives each
    image a row of its own, which takes a matrix of n x n similarities. Here all images with the
    same labels have one row, which is a restriction. The targets of ten classes then take
    milliseconds.

    The loss is the mean over images and bits of the logistic loss of a bit against its target. The
    paper does not state this loss, and the logistic one is our choice. With `class_weight=1`, the
    network also learns the classes, as in the paper's CNNH+. The number of sweeps is our choice too.

    Args:
        sweeps: int, the number of sweeps over the values of the rows.
        class_weight: float, the weight of a classification loss.

    Raises:
        UserError: a value is out of its range, all images have the same labels, or there are too
            many distinct sets of labels.

    References:
        Xia, Pan, Lai, Liu and Yan, "Supervised hashing for image retrieval via image representation
        learning", AAAI 2014.
    """

    name = "cnnh"
    title = "CNNH (2014)"
    source = "paper"
    needs = Needs(rows=True)

    def __init__(self, *, sweeps: int = 10, class_weight: float = 0.0):
        if sweeps < 1:
            raise UserError(f"method cnnh: sweeps={sweeps} must be at least 1")
        self.keep(sweeps=sweeps, class_weight=class_weight)

    def variables(self, facts):
        """Returns the targets of the sets of labels, and the set of each training image."""
        supervision = Supervision(facts.labels, len(facts.labels), "method cnnh")
        # This order is the same whether labels are numbers or rows of 0 and 1.
        order = np.lexsort(-supervision.sets.T[::-1])
        counts = np.bincount(supervision.groups, minlength=len(order))[order]
        similar = supervision.similar()[np.ix_(order, order)]
        rows, _ = factors.factorised(similar, counts, facts.bits, facts.seed, self.sweeps)
        targets = np.where(rows > 0, 1, -1).astype("int8")
        return {"targets": targets, "sets": np.argsort(order)[supervision.groups].astype("int32")}

    def compared(self, similar, outputs, state, step):
        """Computes the loss, and the share of bits that are those of their targets.

        The similarities of the group are not used, because the targets hold what is known of them.
        """
        logits = in_floats(outputs["logits"])
        sets = ops.take(state["sets"], outputs["rows"], axis=0)
        targets = ops.cast(ops.take(state["targets"], sets, axis=0), logits.dtype)
        right = ops.cast((logits > 0) == (targets > 0), "float32")
        return {"loss": ops.mean(ops.softplus(-targets * logits)), "right_bits": ops.mean(right)}
