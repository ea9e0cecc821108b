"""This module defines BGAN, whose codes must also suffice to draw the image again."""

import numpy as np
from keras import ops

from dah_tf import losses
from dah_tf.losses.floats import in_floats
from dah_tf.model.methods.base import Needs
from dah_tf.model.methods.relational import Relational

BETAS = (2.0, 5.0, 10.0, 15.0, 20.0)


class BGAN(Relational):
    """Binary generative adversarial networks, with similarities from the labels.

    With `h = tanh(beta u / 2)` and `S_ij = 1` for similar images and -1 for others, the loss of the
    codes is `neighbour` times the sum of the mean over all pairs of a group of
    `(h_i . h_j / bits - S_ij)^2` and the mean of `(h - sgn h)^2`. The run, `training.adversarial`,
    adds the difference between an image and the image that a generator draws from h. The generator
    learns to deceive a discriminator. Both are dropped at the end. beta grows from 2 to 20 in five
    equal parts of the run.

    The weights and beta are those of the authors' code (`htconquer/BGAN`). It trains the generator
    and the discriminator by Adam with an epsilon of 1, with which they hardly learn here. Their
    learning rate and Adam's first factor are those of DCGAN instead. Their method is unsupervised: it takes similarities from the
    neighbours of features of a trained network. Here they come from the labels. The products are
    divided by the number of bits, as in the paper and unlike in the code. The sizes of the two
    networks are ours, because the images are smaller, and so is the length of the parts.

    Args:
        neighbour: float, the weight of the loss of the codes.
        rate: float, the learning rate of the generator and the discriminator.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range.

    References:
        Song, He, Gao, Xu, Hanjalic and Shen, "Binary generative adversarial networks for image
        retrieval", AAAI 2018.
    """

    name = "bgan"
    title = "BGAN (2018), with labels"
    source = "reading"
    needs = Needs(splits=False)
    loop = "dah_tf.training.adversarial:Adversarial"

    def __init__(self, *, neighbour: float = 10.0, rate: float = 2e-4, class_weight: float = 0.0):
        self.keep(neighbour=neighbour, rate=rate, class_weight=class_weight, above_zero=["rate"])

    def variables(self, facts):
        return {"beta": np.array(BETAS[0], "float32")}

    def due(self, step, facts):
        return step > 0 and _part(step, facts) != _part(step - 1, facts)

    def between(self, step, encode, state, facts):
        """Sets beta for the part of the run that begins at this step."""
        return {"beta": np.array(BETAS[_part(step, facts)], "float32")}

    def values(self, logits, state):
        """Returns the values h, which lie from -1 to 1."""
        logits = in_floats(logits)
        return ops.tanh(0.5 * ops.cast(state["beta"], logits.dtype) * logits)

    def compared(self, similar, outputs, state, step):
        """Computes the loss of the codes and its two parts, and shows beta."""
        h = self.values(outputs["logits"], state)
        products = ops.matmul(h, ops.swapaxes(h, 1, 2)) / h.shape[-1]
        wanted = 2.0 * ops.cast(similar, h.dtype) - 1.0
        pairs = ops.mean(ops.square(products - wanted))
        quantisation = losses.squared_quantisation(h)
        return {
            "loss": self.neighbour * (pairs + quantisation),
            "pairs": pairs,
            "quantisation": quantisation,
            "beta": ops.cast(state["beta"], h.dtype),
        }


def _part(step, facts):
    return min(step * len(BETAS) // max(facts.steps, 1), len(BETAS) - 1)
