"""This module defines DAH, the method that this package was written for."""

from dah_tf import losses
from dah_tf.errors import UserError
from dah_tf.model.methods.base import Method


class DAH(Method):
    """Deep attention hashing with pairwise logarithmic loss, code balance and classification.

    Args:
        phi1: float, the weight of W1, the term for the distances of pairs (eq. 6).
        phi2: float, the weight of W2, the term for the number of ones in a pair's codes (eq. 6).
        t: float, the distance at which dissimilar pairs are held (eq. 2). None stands for
            `bits / 4.8`.
        similar_weight: float from 0 to 1, the share of similar pairs in W1. None stands for the
            plain mean over pairs (eq. 6).
        balance_weight: float, the weight of the balance of each bit over a group. This term is
            not in the paper.
        label_smoothing: float in [0, 1), the label smoothing of the classification loss.
        class_scale: float, the factor on the centred hash values before the class layer. Its
            effect equals that of a larger class layer with a larger learning rate. The paper's
            value is 1.

    Raises:
        UserError: a value is out of its range.

    References:
        DAH (IEEE Access 2020), Fig. 1 and eqs. 1 to 6.
    """

    name = "dah"
    title = "DAH (2020)"
    source = "paper"
    activation = "shrink_sigmoid"
    has_classifier = True

    def __init__(
        self,
        *,
        phi1: float = 1.0,
        phi2: float = 1.0,
        t: float | None = None,
        similar_weight: float | None = None,
        balance_weight: float = 0.0,
        label_smoothing: float = 0.0,
        class_scale: float = 1.0,
    ):
        at_least_zero = {
            "phi1": phi1,
            "phi2": phi2,
            "t": t,
            "balance_weight": balance_weight,
            "class_scale": class_scale,
        }
        for name, value in at_least_zero.items():
            if value is not None and not value >= 0:
                raise UserError(f"method dah: {name}={value} must be at least 0")
        if similar_weight is not None and not 0 <= similar_weight <= 1:
            raise UserError(f"method dah: similar_weight={similar_weight} must lie from 0 to 1")
        if not 0 <= label_smoothing <= 0.99:
            raise UserError(
                f"method dah: label_smoothing={label_smoothing} must lie from 0 to 0.99"
            )
        self.phi1 = phi1
        self.phi2 = phi2
        self.t = t
        self.similar_weight = similar_weight
        self.balance_weight = balance_weight
        self.label_smoothing = label_smoothing
        self.class_scale = class_scale

    def seen(self, logits, values):
        return values if self.class_scale == 1.0 else (values - 0.5) * self.class_scale

    def terms(self, labels, outputs, state, step):
        """Computes the loss and its parts, which `losses.PairwiseTerms` describes.

        The loss is W (eq. 6) plus the classification loss.
        """
        classes = outputs["classes"]
        pairs = losses.pairwise(
            outputs["hash"],
            losses.similarity(labels),
            phi1=self.phi1,
            phi2=self.phi2,
            t=self.t,
            similar_weight=self.similar_weight,
            balance_weight=self.balance_weight,
        )
        class_loss = losses.cross_entropy(labels, classes, self.label_smoothing)
        return {
            "loss": class_loss + pairs.total,
            "class_loss": class_loss,
            "w1_similar": pairs.similar,
            "w1_dissimilar": pairs.dissimilar,
            "w2": pairs.w2,
            "balance": pairs.balance,
            "accuracy": losses.accuracy(labels, classes),
        }
