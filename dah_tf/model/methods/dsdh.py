"""This module defines DSDH, whose codes shall also tell the classes by a linear map."""

import numpy as np
from keras import ops

from dah_tf import losses
from dah_tf.baselines import sdh
from dah_tf.baselines.labels import Supervision
from dah_tf.baselines.rows import signs
from dah_tf.errors import UserError
from dah_tf.losses.floats import in_floats
from dah_tf.model.methods.base import Needs
from dah_tf.model.methods.relational import Relational


class DSDH(Relational):
    """Deep supervised discrete hashing: the likelihood of pairs, and codes that tell the classes.

    Besides the weights of the network there are codes B of all training images, with values -1
    and 1, and a linear map W to the classes. Before each epoch, with the logits U of all images and
    their labels Y of 0 and 1, they are renewed so that they lower

        |Y - B W|^2 + ridge |W|^2 + pull |B - U|^2.

    W is a ridge regression, and B is found by discrete cyclic coordinate descent, as in SDH. The
    first B consists of the signs of U, and later ones start from the B before. During the epoch the network minimises `losses.pair_likelihood`
    plus eta times the mean over images of `|u - b|^2`.

    The constants are those of the authors' code (`liqi-casia/DSDH-HashingCode`). Its weight of 55
    stands beside sums over n = 5,000 images. On means, this equals a weight eta of 55 / 5,000 =
    0.011. The code renews the B of a batch in each step; as in the paper, B belongs to all images
    here. The state holds B with one byte for each image and bit.

    Args:
        eta: float, the weight of the distance of logits to codes in the network's loss.
        pull: float, the same weight where B is chosen.
        ridge: float, the weight of `|W|^2`.
        sweeps: int, the largest number of sweeps over the bits.
        renew_epochs: float, the number of epochs between two renewals of B.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range, or all images have the same labels.

    References:
        Li, Sun, He and Tan, "Deep supervised discrete hashing", NIPS 2017.
    """

    name = "dsdh"
    title = "DSDH (2017)"
    source = "code"
    needs = Needs(rows=True)

    def __init__(
        self,
        *,
        eta: float = 0.011,
        pull: float = 55.0,
        ridge: float = 0.1,
        sweeps: int = 10,
        renew_epochs: float = 1.0,
        class_weight: float = 0.0,
    ):
        if sweeps < 1:
            raise UserError(f"method dsdh: sweeps={sweeps} must be at least 1")
        self.keep(
            eta=eta,
            pull=pull,
            ridge=ridge,
            sweeps=sweeps,
            renew_epochs=renew_epochs,
            class_weight=class_weight,
            above_zero=["ridge", "renew_epochs"],
        )

    def variables(self, facts):
        """Returns codes of 0, which the first call of `between` replaces."""
        return {"codes": np.zeros((len(facts.labels), facts.bits), "int8")}

    def due(self, step, facts):
        return step % max(1, round(self.renew_epochs * facts.steps_per_epoch)) == 0

    def between(self, step, encode, state, facts):
        """Finds W and then B for the present logits of all training images."""
        logits = encode(np.arange(len(facts.labels)))["logits"].astype(np.float64)
        labels = Supervision(facts.labels, len(facts.labels), "method dsdh").targets
        known = state["codes"].astype(np.float64)
        start = known if known.any() else signs(logits)
        W = self._regress(start, labels)
        wanted = self.pull * logits + labels @ W.T
        return {"codes": sdh.descend(start, wanted, W, self.sweeps).astype("int8")}

    def _regress(self, codes, labels):
        gram = codes.T @ codes + self.ridge * np.eye(codes.shape[1])
        return np.linalg.solve(gram, codes.T @ labels)

    def compared(self, similar, outputs, state, step):
        """Computes the loss and its two parts."""
        logits = in_floats(outputs["logits"])
        codes = ops.cast(ops.take(state["codes"], outputs["rows"], axis=0), logits.dtype)
        pairs = losses.pair_likelihood(logits, similar)
        quantisation = ops.mean(ops.sum(ops.square(logits - codes), axis=-1))
        return {
            "loss": pairs + self.eta * quantisation,
            "pairs": pairs,
            "quantisation": quantisation,
        }
