"""This module defines DPSH, a method that maximises the likelihood of pairs."""

from dah_tf import losses
from dah_tf.model.methods.relational import Relational


class DPSH(Relational):
    """Deep pairwise-supervised hashing with the likelihood of pairs and a quantisation term.

    The loss is `losses.pair_likelihood + eta * losses.quantisation` on the logits.

    The authors' PyTorch port (`jiangqy/DPSH-pytorch`) pairs a batch with a bank of the latest
    outputs of all n = 5,000 training images. It divides both sums by the batch size times n. The
    port puts a weight of 50 on the sum over a batch's images. On their mean, this equals a weight
    of 50 / 5,000 = 0.01. This package uses the pairs of a group in place of the bank. It also adds
    the hash values `(1 + tanh u) / 2`, because the method itself does not define hash values.

    Args:
        eta: float, the weight of the quantisation.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is negative.

    References:
        Li, Wang and Kang, "Feature learning based deep supervised hashing with pairwise labels",
        IJCAI 2016.
    """

    name = "dpsh"
    title = "DPSH (2016)"
    source = "code"

    def __init__(self, *, eta: float = 0.01, class_weight: float = 0.0):
        self.keep(eta=eta, class_weight=class_weight)

    def compared(self, similar, outputs, state, step):
        """Computes the loss and its two parts."""
        pairs = losses.pair_likelihood(outputs["logits"], similar)
        quantisation = losses.quantisation(outputs["logits"])
        return {
            "loss": pairs + self.eta * quantisation,
            "pairs": pairs,
            "quantisation": quantisation,
        }
