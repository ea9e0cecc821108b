"""The optional classification loss of methods that learn from pairs, triplets and rankings."""

import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf

from dah_tf import losses
from dah_tf.errors import UserError
from dah_tf.model import methods
from dah_tf.model.methods import base
from dah_tf.model.methods.relational import Relational

NAMES = [name for name in methods.METHODS if isinstance(methods.get(name), Relational)]
every = pytest.mark.parametrize("name", NAMES)


def test_by_default_only_dsah_has_it():
    assert {name for name in NAMES if methods.get(name).class_weight} == {"dsah"}


@every
def test_without_it_the_class_layer_is_a_probe(name):
    text = f"{name}:class_weight=0"
    assert methods.get(text).has_classifier is False
    terms = parts.Loss(text)(parts.logits_of(name), parts.labels_of(name))
    assert "class_loss" not in terms and "accuracy" not in terms


@every
def test_above_zero_it_is_part_of_the_method(name):
    assert methods.get(f"{name}:class_weight=2").has_classifier is True
    logits, labels = parts.logits_of(name), parts.labels_of(name)
    without, with_it = parts.Loss(f"{name}:class_weight=0"), parts.Loss(f"{name}:class_weight=2")
    ours, terms = without(logits, labels), with_it(logits, labels)
    assert [*terms] == [*ours, "class_loss", "accuracy"]
    # The same random class layer, on tanh u times 8.
    flat = 8.0 * np.tanh(logits.reshape(-1, parts.BITS))
    classes = with_it.classifier(tf.constant(flat))
    expected = losses.cross_entropy(labels.reshape(1, -1), classes[None])
    np.testing.assert_allclose(terms["class_loss"], expected, rtol=1e-6)
    np.testing.assert_allclose(terms["loss"], ours["loss"] + 2 * expected, rtol=1e-6)
    for each in ours.keys() - {"loss"}:
        np.testing.assert_allclose(terms[each], ours[each], rtol=1e-9)


def test_its_gradient_reaches_the_codes():
    probe, part = (methods.get(f"dsh:class_weight={weight}") for weight in (0, 1))
    x = tf.constant([[0.3, -0.2]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        values = probe.head(2).activation(x)
        behind, open_to_all = (method.seen(x, values) for method in (probe, part))
    assert tape.gradient(behind, x) is None
    slope = base.PROBE_SCALE * (1 - np.tanh([[0.3, -0.2]]) ** 2)
    np.testing.assert_allclose(tape.gradient(open_to_all, x), slope, rtol=1e-5)


def test_a_run_logs_it():
    model, log = parts.trained("dsh:class_weight=1")
    terms = ["loss", "similar", "dissimilar", "quantisation", "class_loss", "accuracy"]
    assert [*log[-1]] == terms
    assert str(model.method) == "dsh:alpha=0.01,margin=none,class_weight=1.0"


@every
def test_a_negative_weight_is_refused(name):
    with pytest.raises(UserError, match=f"method {name}: class_weight=-1.0 must be at least 0"):
        methods.get(f"{name}:class_weight=-1")
