"""This module defines PGDH, which trains random codes by the policy gradient."""

import numpy as np

from dah_tf import losses
from dah_tf.errors import UserError
from dah_tf.model.methods.base import Needs
from dah_tf.model.methods.relational import Relational


class PGDH(Relational):
    """Relaxation-free hashing: codes are drawn at random and rewarded. This is a reconstruction.

    The text of the paper could not be read. The reward, the number of samples and the constants
    are therefore ours, and results must not be taken for those of the authors' method.

    A bit is 1 with probability `sigmoid(u)`. The reward of an image compares the products of these
    codes with the similarities of its group, see `losses.policy_gradient`. The codes that a model
    makes are not random: a bit is 1 if its logit is above 0. The random numbers depend on the seed,
    on the step and on the image, so that a run that resumes draws the same ones.

    Only the gradient of `loss` has a meaning. `reward` shows how well the random codes fit. It is 0
    at best.

    Args:
        samples: int, the number of random codes of an image in a step, at least 2.
        entropy_weight: float, the weight of a bonus for the entropy of the bits.
        class_weight: float, the weight of a classification loss that is not part of the method.

    Raises:
        UserError: a value is out of its range.

    References:
        Yuan, Ren, Lu and Zhou, "Relaxation-free deep hashing via policy gradient", ECCV 2018.
    """

    name = "pgdh"
    title = "PGDH (2018), a reconstruction"
    source = "reading"
    needs = Needs(rows=True)

    def __init__(
        self, *, samples: int = 4, entropy_weight: float = 1e-3, class_weight: float = 0.0
    ):
        if samples < 2:
            raise UserError(f"method pgdh: samples={samples} must be at least 2")
        self.keep(samples=samples, entropy_weight=entropy_weight, class_weight=class_weight)

    def variables(self, facts):
        return {"seed": np.array(facts.seed % (1 << 31), "int32")}

    def compared(self, similar, outputs, state, step):
        """Computes the loss, the mean reward and the entropy of the bits of an image."""
        logits = outputs["logits"]
        noise = losses.uniform(state["seed"], step, outputs["rows"], self.samples, logits.shape[-1])
        objective, reward = losses.policy_gradient(logits, similar, noise)
        entropy = losses.bit_entropy(logits)
        return {
            "loss": objective - self.entropy_weight * entropy,
            "reward": reward,
            "entropy": entropy,
        }
