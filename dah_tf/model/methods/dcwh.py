"""This module defines DCWH, whose centres are the means of the codes of the classes."""

import numpy as np
from keras import ops

from dah_tf import losses
from dah_tf.errors import UserError
from dah_tf.losses import binarisation, centres
from dah_tf.model.methods.base import Method


class DCWH(Method):
    """Deep class-wise hashing with centres that are renewed from all training images.

    The loss is the cross-entropy of `centres.class_scores`, plus `excess * binarisation.excess`. In
    the second stage of a run, the loss also includes `quantisation * |u - sgn u|^2`.

    The centre of a class is the mean of the logits of its training images. The centres are computed
    before the first step, and again every few epochs. A class without training images keeps the
    centre 0. Images with several labels count for each of their classes, and have equal shares of
    their classes as targets.

    The constants are those of the reimplementation `mzhang367/dcwh`, which also renews the centres
    every 2 epochs. Both penalties are means over images here. The begin of the second stage is our
    own choice, because no source states it. The method is therefore a reading.

    Args:
        inverse_variance: float, the factor t on the squared distances.
        excess: float, the weight of logits beyond 1.1.
        quantisation: float, the weight of the quantisation in the second stage.
        first_stage: float from 0 to 1, the share of the steps in the first stage.
        renew_epochs: float, the number of epochs between two computations of the centres.

    Raises:
        UserError: a value is out of its range.

    References:
        Zhe, Chen and Yan, "Deep class-wise hashing: semantics-preserving hashing via class-wise
        loss", arXiv 1803.04137.
    """

    name = "dcwh"
    title = "DCWH (2018)"
    source = "reading"

    def __init__(
        self,
        *,
        inverse_variance: float = 0.5,
        excess: float = 10.0,
        quantisation: float = 0.01,
        first_stage: float = 0.5,
        renew_epochs: float = 2.0,
    ):
        for name, value in {"excess": excess, "quantisation": quantisation}.items():
            if not value >= 0:
                raise UserError(f"method dcwh: {name}={value} must be at least 0")
        above = {"inverse_variance": inverse_variance, "renew_epochs": renew_epochs}
        for name, value in above.items():
            if not value > 0:
                raise UserError(f"method dcwh: {name}={value} must be above 0")
        if not 0 <= first_stage <= 1:
            raise UserError(f"method dcwh: first_stage={first_stage} must lie from 0 to 1")
        self.inverse_variance = inverse_variance
        self.excess = excess
        self.quantisation = quantisation
        self.first_stage = first_stage
        self.renew_epochs = renew_epochs

    def variables(self, facts):
        """Returns centres that the first call of `between` replaces, and the second stage's step."""
        return {
            "centres": np.zeros((facts.num_classes, facts.bits), "float32"),
            "second_stage": np.array(round(self.first_stage * facts.steps), "int32"),
        }

    def due(self, step, facts):
        return step % max(1, round(self.renew_epochs * facts.steps_per_epoch)) == 0

    def between(self, step, encode, state, facts):
        """Computes the mean logits of the classes over all training images."""
        logits = encode(np.arange(len(facts.labels)))["logits"].astype("float64")
        labels = np.asarray(facts.labels)
        if labels.ndim == 1:
            labels = labels[:, None] == np.arange(facts.num_classes)
        labels = labels.astype("float64")
        counts = np.maximum(labels.sum(axis=0), 1.0)
        return {"centres": (labels.T @ logits / counts[:, None]).astype("float32")}

    def terms(self, labels, outputs, state, step):
        """Computes the loss and its three parts. The quantisation counts in the second stage."""
        logits = outputs["logits"]
        scores = centres.class_scores(logits, state["centres"], self.inverse_variance)
        class_loss = centres.margin_cross_entropy(labels, scores)
        excess = binarisation.excess(logits)
        quantisation = losses.quantisation(logits)
        second = ops.cast(step >= ops.convert_to_tensor(state["second_stage"]), logits.dtype)
        return {
            "loss": class_loss + self.excess * excess + self.quantisation * second * quantisation,
            "class_loss": class_loss,
            "excess": excess,
            "quantisation": quantisation,
        }
