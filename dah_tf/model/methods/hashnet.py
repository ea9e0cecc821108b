"""This module defines HashNet, whose hash values become codes in the course of a run."""

import numpy as np
from keras import ops

from dah_tf import losses
from dah_tf.losses.floats import in_floats
from dah_tf.model.methods.relational import Relational

STAGES = 50  # 10,000 iterations, with a new beta after each 200


class HashNet(Relational):
    """HashNet: the likelihood of pairs by continuation.

    The loss is `losses.balanced_likelihood` of the values `h = tanh(beta u)`, in which similar and
    dissimilar pairs weigh alike. It has no quantisation term. Instead, beta grows during the run,
    so that h approaches the sign of u.

    The constants are those of the authors' code (`thuml/HashNet`): beta is `sqrt(1 + 0.005 t)`,
    renewed after each 200 of 10,000 iterations, and alpha is `10 / bits`. Here, t is the share of
    the run that is done times 10,000, so that a run of any length ends at the same beta. The
    weights of pairs follow from the numbers of pairs in a group, where the authors' PyTorch release
    takes them from an option that is easily left at a wrong value.

    The codes and the hash values `(1 + tanh u) / 2` do not depend on beta. Beta belongs to the
    state and is in checkpoints.

    Args:
        alpha: float, the factor on the products of hash values. None stands for `10 / bits`.
        growth: float, beta is `sqrt(1 + growth)` at the end of the run.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range.

    References:
        Cao, Long, Wang and Yu, "HashNet: deep learning to hash by continuation", ICCV 2017.
    """

    name = "hashnet"
    title = "HashNet (2017)"
    source = "code"

    def __init__(
        self, *, alpha: float | None = None, growth: float = 50.0, class_weight: float = 0.0
    ):
        self.keep(alpha=alpha, growth=growth, class_weight=class_weight, above_zero=["alpha"])

    def variables(self, facts):
        return {"beta": np.ones((), "float32")}

    def due(self, step, facts):
        return step > 0 and _stage(step, facts) != _stage(step - 1, facts)

    def between(self, step, encode, state, facts):
        """Sets beta for the stage of the run that begins at this step."""
        share = _stage(step, facts) / STAGES
        return {"beta": np.sqrt(1.0 + self.growth * share).astype("float32")}

    def compared(self, similar, outputs, state, step):
        """Computes the loss, and shows beta."""
        logits = in_floats(outputs["logits"])
        beta = ops.cast(state["beta"], logits.dtype)
        alpha = 10.0 / logits.shape[-1] if self.alpha is None else self.alpha
        values = ops.tanh(beta * logits)
        return {"loss": losses.balanced_likelihood(values, similar, alpha), "beta": beta}


def _stage(step, facts):
    return step * STAGES // max(facts.steps, 1)
