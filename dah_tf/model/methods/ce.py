"""This module defines plain classification, the reference that every hash loss has to beat."""

from dah_tf import losses
from dah_tf.errors import UserError
from dah_tf.model.methods.base import Method


class CrossEntropy(Method):
    """Trains a class layer on tanh values with a cross-entropy loss.

    The codes are the signs of the values. The loss has no term about pairs or codes.

    Args:
        label_smoothing: float in [0, 1), the label smoothing of the cross-entropy.
        class_scale: float, the factor on the values in [-1, 1] before the class layer. Its
            effect equals that of a larger class layer with a larger learning rate.

    Raises:
        UserError: a value is out of its range.

    References:
        Lin, Yang, Hsiao and Chen, "Deep learning of binary hash codes for fast image retrieval",
        CVPR workshops 2015. That paper uses a sigmoid in place of tanh.
    """

    name = "ce"
    title = "Cross-entropy and sign"
    source = "reading"
    has_classifier = True

    def __init__(self, *, label_smoothing: float = 0.0, class_scale: float = 1.0):
        if not 0 <= label_smoothing <= 0.99:
            raise UserError(f"method ce: label_smoothing={label_smoothing} must lie from 0 to 0.99")
        if not class_scale >= 0:
            raise UserError(f"method ce: class_scale={class_scale} must be at least 0")
        self.label_smoothing = label_smoothing
        self.class_scale = class_scale

    def seen(self, logits, values):
        return (2.0 * values - 1.0) * self.class_scale

    def terms(self, labels, outputs, state, step):
        """Computes the cross-entropy and the share of images that are classified correctly."""
        classes = outputs["classes"]
        return {
            "loss": losses.cross_entropy(labels, classes, self.label_smoothing),
            "accuracy": losses.accuracy(labels, classes),
        }
