"""This module defines GreedyHash, a classification that sees the signs of the logits."""

import keras
from keras import ops

from dah_tf import losses
from dah_tf.errors import UserError
from dah_tf.losses import binarisation
from dah_tf.model.methods.base import Method, Needs


class GreedyHash(Method):
    """Classification of the binary codes, with a gradient that passes straight through the sign.

    The loss is the cross-entropy of `W b` plus `alpha * binarisation.cubic_gap`. Here b is the sign
    of the logits, and W is a class layer without offsets. In the backward pass, the sign counts as
    the identity. The sign of 0 is -1, because its bit is 0.

    The authors' code has a weight of 0.1 on CIFAR-10 and of 1 on ImageNet. Images must have one
    label: the loss of several labels is a softmax, and the class layer of this package is then one
    sigmoid for each class.

    Args:
        alpha: float, the weight of the cubic penalty.

    Raises:
        UserError: the weight is negative.

    References:
        Su, Zhang, Han and Tian, "Greedy hash: towards fast optimization for accurate hash coding in
        CNN", NeurIPS 2018.
    """

    name = "greedyhash"
    title = "GreedyHash (2018)"
    source = "code"
    has_classifier = True
    needs = Needs(several=False)
    exact_gradient = False

    def __init__(self, *, alpha: float = 0.1):
        if not alpha >= 0:
            raise UserError(f"method greedyhash: alpha={alpha} must be at least 0")
        self.alpha = alpha

    def classifier(self, num_classes):
        return keras.layers.Dense(num_classes, use_bias=False, dtype="float32", name="classifier")

    def seen(self, logits, values):
        """Returns the signs of the logits, exactly -1 or 1, with the gradient of the identity."""
        signs = ops.where(logits > 0, ops.ones_like(logits), -ops.ones_like(logits))
        return ops.stop_gradient(signs) + (logits - ops.stop_gradient(logits))

    def terms(self, labels, outputs, state, step):
        """Computes the loss, its two parts, and the share of images classified correctly."""
        class_loss = losses.cross_entropy(labels, outputs["classes"])
        quantisation = binarisation.cubic_gap(outputs["logits"])
        return {
            "loss": class_loss + self.alpha * quantisation,
            "class_loss": class_loss,
            "quantisation": quantisation,
            "accuracy": losses.accuracy(labels, outputs["classes"]),
        }
