"""This module defines DHD, in which a second view of an image learns from the first."""

from dah_tf import layers, losses
from dah_tf.errors import UserError
from dah_tf.losses import binarisation, centres
from dah_tf.model.methods.base import Method, Needs


class DHD(Method):
    """Deep hash distillation between two views, with learned directions of the classes.

    The class layer gives `cos(h, p_c) / temperature` for the tanh values h and a learned direction
    p_c of each class. The loss is its cross-entropy on the first view, plus `distillation` times
    `centres.distillation` from the first view to the second, plus `quantisation` times
    `binarisation.gaussian_gap` of the first view.

    The constants are those of the authors' code. There, the second view has a stronger augmentation
    than the first. In this package, both views have the augmentation of the run. Images must have
    one label: the loss of several labels is a softmax, and the class layer of this package is then
    one sigmoid for each class.

    Args:
        temperature: float, the divisor of the cosines.
        distillation: float, the weight of the distillation.
        quantisation: float, the weight of the quantisation.
        deviation: float, the standard deviation of the quantisation's distributions.

    Raises:
        UserError: a value is out of its range.

    References:
        Jang, Gu, Ko, Kang and Cho, "Deep hash distillation for image retrieval", ECCV 2022.
    """

    name = "dhd"
    title = "DHD (2022)"
    source = "code"
    has_classifier = True
    needs = Needs(views=2, several=False)
    exact_gradient = False

    def __init__(
        self,
        *,
        temperature: float = 0.2,
        distillation: float = 0.1,
        quantisation: float = 0.1,
        deviation: float = 0.5,
    ):
        for name, value in {"distillation": distillation, "quantisation": quantisation}.items():
            if not value >= 0:
                raise UserError(f"method dhd: {name}={value} must be at least 0")
        for name, value in {"temperature": temperature, "deviation": deviation}.items():
            if not value > 0:
                raise UserError(f"method dhd: {name}={value} must be above 0")
        self.temperature = temperature
        self.distillation = distillation
        self.quantisation = quantisation
        self.deviation = deviation

    def head(self, bits):
        return layers.LayerNormHead(bits, name="hash_head")

    def classifier(self, num_classes):
        return layers.CosineClassifier(num_classes, self.temperature, name="classifier")

    def seen(self, logits, values):
        return 2.0 * values - 1.0

    def terms(self, labels, outputs, state, step):
        """Computes the loss, its three parts, and the share of images classified correctly."""
        first, second = (2.0 * each["hash"] - 1.0 for each in (outputs, outputs["second"]))
        class_loss = losses.cross_entropy(labels, outputs["classes"])
        distillation = centres.distillation(second, first)
        quantisation = binarisation.gaussian_gap(first, self.deviation)
        return {
            "loss": class_loss
            + self.distillation * distillation
            + self.quantisation * quantisation,
            "class_loss": class_loss,
            "distillation": distillation,
            "quantisation": quantisation,
            "accuracy": losses.accuracy(labels, outputs["classes"]),
        }
