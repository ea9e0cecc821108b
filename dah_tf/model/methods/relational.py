"""This module defines what the methods have in common that learn from relations between images.

The relations are pairs, triplets and rankings within a group. Such a loss starts slowly if the
network is not trained yet. An optional classification loss helps.
"""

from dah_tf import losses
from dah_tf.errors import UserError
from dah_tf.model.methods.base import PROBE_SCALE, Method


class Relational(Method):
    """A method that compares the images of a group, with a classification loss if asked for.

    A subclass has the argument `class_weight` with the default 0, which is the method of its
    authors, and writes `compared` in place of `terms`. Above 0, the class layer is no probe but
    part of the method. It sees the hash values on the scale from -1 to 1, times 8, and `class_loss`
    is logged as a term of its own.
    """

    @property
    def has_classifier(self):
        return self.class_weight > 0

    def keep(self, above_zero=(), **options):
        """Keeps options as attributes.

        Args:
            above_zero: names of the options that must not be 0.
            **options: numbers, or None for a value that is chosen later.

        Raises:
            UserError: a value is out of its range.
        """
        for name, value in options.items():
            if name in above_zero and value is not None and not value > 0:
                raise UserError(f"method {self.name}: {name}={value} must be above 0")
            if value is not None and not value >= 0:
                raise UserError(f"method {self.name}: {name}={value} must be at least 0")
            setattr(self, name, value)

    def seen(self, logits, values):
        if self.has_classifier:
            return PROBE_SCALE * (2.0 * values - 1.0)
        return super().seen(logits, values)

    def compared(self, similar, outputs, state, step):
        """Computes the loss without classification, and its parts.

        Args:
            similar: float32 tensor of shape `(groups, m, m)` from `losses.similarity`.
            outputs, state, step: as in `Method.terms`.

        Returns:
            Dict of float scalars with `loss` first.
        """
        raise NotImplementedError

    def terms(self, labels, outputs, state, step):
        """Computes the loss and its parts, with the classification loss if there is one."""
        found = self.compared(losses.similarity(labels), outputs, state, step)
        if not self.has_classifier:
            return found
        class_loss = losses.cross_entropy(labels, outputs["classes"])
        found["loss"] = found["loss"] + self.class_weight * class_loss
        accuracy = losses.accuracy(labels, outputs["classes"])
        return {**found, "class_loss": class_loss, "accuracy": accuracy}
