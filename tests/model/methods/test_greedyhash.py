"""GreedyHash by hand, and its gradient through the sign, which is that of the identity."""

import numpy as np
import pytest
import tensorflow as tf
from method_parts import Loss, check_gradient, gradient, labels_of, logits_of

from dah_tf.errors import UserError
from dah_tf.losses import binarisation
from dah_tf.model import methods


def test_by_hand():
    # Classes with logits ln 3 and 0: (3/4, 1/4), of class 1: ln 4 = 1.386294. Gaps of 2 and -1:
    # |1|^3 and 0: mean 1/2. The loss with alpha = 0.3 is 1.536294.
    outputs = {"classes": np.log([[[3.0, 1.0]]]), "logits": np.array([[[2.0, -1.0]]])}
    terms = methods.get("greedyhash:alpha=0.3").terms(np.array([[1]]), outputs, {}, 0)
    assert [*terms] == ["loss", "class_loss", "quantisation", "accuracy"]
    assert float(terms["class_loss"]) == pytest.approx(1.386294, abs=1e-6)
    assert float(terms["quantisation"]) == pytest.approx(0.5)
    assert float(terms["loss"]) == pytest.approx(1.536294, abs=1e-6)
    assert float(terms["accuracy"]) == 0.0


def test_the_class_layer_sees_exact_signs():
    logits = np.array([[0.0, -0.0, 1e-30, -1e-30, 0.3, -0.7, 1e4, -1e4]], "float32")
    seen = np.array(methods.get("greedyhash").seen(logits, None))
    # That of 0 is -1: its bit is 0. The class layer never sees a 0.
    np.testing.assert_array_equal(seen, [[-1, -1, 1, -1, 1, -1, 1, -1]])


def test_the_class_layer_has_no_offsets():
    layer = methods.get("greedyhash").classifier(4)
    layer.build((None, 6))
    assert [tuple(weight.shape) for weight in layer.weights] == [(6, 4)]


def test_the_gradient_of_the_logits_is_that_of_the_signs():
    """dCE/du is dCE/db, where b stands for u without the sign, and not 0."""
    logits, labels = logits_of("greedyhash"), labels_of("greedyhash")
    loss = Loss("greedyhash")

    def class_loss(signs):
        flat = tf.reshape(signs, (-1, signs.shape[-1]))
        classes = tf.reshape(loss.classifier(flat), (*signs.shape[:2], -1))
        outputs = {"classes": classes, "logits": tf.constant(logits)}
        return loss.method.terms(labels, outputs, {}, 0)["class_loss"]

    signs = np.where(logits > 0, 1.0, -1.0)
    check_gradient(class_loss, signs)
    value, of_signs = gradient(class_loss, signs)
    ours, of_logits = gradient(lambda x: loss(x, labels)["class_loss"], logits)
    assert ours == value
    np.testing.assert_allclose(of_logits, of_signs, rtol=1e-12)
    # The whole gradient adds that of the penalty.
    _, of_penalty = gradient(binarisation.cubic_gap, logits)
    _, of_all = gradient(lambda x: loss(x, labels)["loss"], logits)
    np.testing.assert_allclose(of_all, of_signs + 0.1 * of_penalty, rtol=1e-12)


def test_what_is_refused():
    with pytest.raises(UserError, match=r"method greedyhash: alpha=-0.1 must be at least 0"):
        methods.get("greedyhash:alpha=-0.1")
