"""DHD by hand, and which view learns from which."""

import numpy as np
import pytest
import tensorflow as tf
from method_parts import Loss, check_gradient, gradient, labels_of, logits_of

from dah_tf import layers
from dah_tf.errors import UserError
from dah_tf.model import methods


def test_by_hand():
    # Hash values (3/4, 3/4) and (3/4, 1/4) are h = (1/2, 1/2) and (1/2, -1/2), with cosine 0.
    # Class logits ln 3, 0, of class 0: -ln 3/4 = 0.287682. The gap at 1/2 is 0.511171.
    # 0.287682 + 0.2 * (1 - 0) + 0.1 * 0.511171 = 0.538799.
    outputs = {
        "hash": np.array([[[0.75, 0.75]]]),
        "classes": np.log([[[3.0, 1.0]]]),
        "second": {"hash": np.array([[[0.75, 0.25]]])},
    }
    terms = methods.get("dhd:distillation=0.2").terms(np.array([[0]]), outputs, {}, 0)
    assert [*terms] == ["loss", "class_loss", "distillation", "quantisation", "accuracy"]
    assert float(terms["class_loss"]) == pytest.approx(0.287682, abs=1e-6)
    assert float(terms["distillation"]) == pytest.approx(1.0)
    assert float(terms["quantisation"]) == pytest.approx(0.511171, abs=1e-6)
    assert float(terms["loss"]) == pytest.approx(0.538799, abs=1e-6)
    assert float(terms["accuracy"]) == 1.0


def test_the_gradient_of_each_view():
    """The second learns from the distillation alone, and the first from all but it."""
    first, second, labels = logits_of("dhd"), logits_of("dhd", seed=1), labels_of("dhd")
    loss = Loss("dhd")
    check_gradient(lambda x: loss(first, labels, second=x)["loss"], second)
    _, alone = gradient(lambda x: loss(x, labels, second=second)["loss"], first)
    without = Loss("dhd:distillation=0")
    check_gradient(lambda x: without(x, labels, second=second)["loss"], first)
    _, expected = gradient(lambda x: without(x, labels, second=second)["loss"], first)
    np.testing.assert_allclose(alone, expected, rtol=1e-12)
    with tf.GradientTape() as tape:
        x = tf.constant(first)
        tape.watch(x)
        value = loss(x, labels, second=second)["distillation"]
    found = tape.gradient(value, x)
    assert found is None or not np.array(found).any()


def test_the_class_layer_compares_directions():
    method = methods.get("dhd:temperature=0.5")
    layer = method.classifier(3)
    assert isinstance(layer, layers.CosineClassifier) and layer.temperature == 0.5
    logits = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    head = method.head(6)
    seen = method.seen(logits, head.activation(logits))
    np.testing.assert_allclose(seen, np.tanh(logits), atol=1e-6)
    np.testing.assert_allclose(layer(seen), layer(3.0 * seen), rtol=1e-5)
    assert np.abs(np.array(layer(seen))).max() <= 2.0


def test_equal_views_cost_nothing():
    logits, labels = logits_of("dhd"), labels_of("dhd")
    assert float(Loss("dhd")(logits, labels, second=logits)["distillation"]) < 1e-12


def test_what_is_refused():
    for text, words in {
        "dhd:temperature=0": "temperature=0.0 must be above 0",
        "dhd:deviation=-1": "deviation=-1.0 must be above 0",
        "dhd:distillation=-1": "distillation=-1.0 must be at least 0",
        "dhd:quantisation=-1": "quantisation=-1.0 must be at least 0",
    }.items():
        with pytest.raises(UserError, match=f"^method dhd: {words}"):
            methods.get(text)
