"""This module defines DTSH, a method that maximises the likelihood of triplets."""

from dah_tf import losses
from dah_tf.model.methods.relational import Relational


class DTSH(Relational):
    """Deep supervised hashing with the likelihood of triplets and a quantisation term.

    With `theta_ij = u_i . u_j / 2` on the logits u, the loss is the mean over the triplets of a
    group of `log(1 + exp(-(theta_qp - theta_qn - margin)))`, plus eta times the mean over images of
    `|u - sgn u|^2`. All dissimilar images of the group are negatives. A group should have at least
    four images of each class, `--images_per_class=4`.

    The constants are those of the authors' code (`Minione/DTSH`): the margin is half the number of
    bits, and a weight of 100 stands on the quantisation of an image beside the sum of its 50 x 50 x
    9 = 22,500 triplets. On the mean over triplets, this equals a weight of 100 / 22,500 = 0.0044.
    The hash values `(1 + tanh u) / 2` are ours.

    Args:
        eta: float, the weight of the quantisation.
        margin: float. None stands for `bits / 2`.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range.

    References:
        Wang, Shi and Kitani, "Deep supervised hashing with triplet labels", ACCV 2016.
    """

    name = "dtsh"
    title = "DTSH (2016)"
    source = "code"

    def __init__(
        self, *, eta: float = 0.0044, margin: float | None = None, class_weight: float = 0.0
    ):
        self.keep(eta=eta, margin=margin, class_weight=class_weight)

    def compared(self, similar, outputs, state, step):
        """Computes the loss and its two parts."""
        logits = outputs["logits"]
        margin = 0.5 * logits.shape[-1] if self.margin is None else self.margin
        triplets = losses.triplet_likelihood(logits, similar, margin)
        quantisation = losses.quantisation(logits)
        return {
            "loss": triplets + self.eta * quantisation,
            "triplets": triplets,
            "quantisation": quantisation,
        }
