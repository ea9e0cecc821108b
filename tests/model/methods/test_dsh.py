"""DSH by hand, and the mistakes of other versions of it."""

import numpy as np
import pytest
import tensorflow as tf
from method_parts import gradient

from dah_tf.errors import UserError
from dah_tf.model import methods

# Classes 0, 0, 1. D_01 = 1 + 1 = 2; D_02 = 4 + 4 = 8; D_12 = 1 + 9 = 10.
LOGITS = np.array([[[2.0, 0.0], [1.0, 1.0], [0.0, -2.0]]])
LABELS = np.array([[0, 0, 1]])


def terms(spec, logits=LOGITS, labels=LABELS):
    return methods.get(spec).terms(
        np.asarray(labels), {"logits": tf.convert_to_tensor(logits)}, {}, 0
    )


def test_by_hand():
    # With a margin of 9: similar D_01 / 2 = 1, dissimilar (9 - 8) / 2 = 0.5 and 0. Each pair counts
    # twice of 6 ordered ones: 1/3 and 1/6. ||u| - 1|: 1 + 1, 0 + 0, 1 + 1: mean 4/3.
    # The loss with alpha = 0.3 is 1/3 + 1/6 + 0.3 * 4/3 = 0.9.
    found = terms("dsh:alpha=0.3,margin=9")
    assert [*found] == ["loss", "similar", "dissimilar", "quantisation"]
    values = [0.9, 1 / 3, 1 / 6, 4 / 3]
    np.testing.assert_allclose([*found.values()], values, rtol=1e-9)
    # Of several labels, images 1 and 2 share one: D_12 / 2 = 5, (9 - 2) / 2 = 3.5 and 0.5.
    found = terms("dsh:margin=9", labels=[[[1, 0, 0], [0, 1, 0], [0, 1, 1]]])
    np.testing.assert_allclose([found["similar"], found["dissimilar"]], [5 / 3, 4 / 3], rtol=1e-9)


def test_the_margin_is_two_for_each_bit():
    """Left at the 24 of 12 bits, as in the published files, 36 bits would differ in 6 at most."""
    for bits in (12, 36):
        codes = np.ones((1, 2, bits))
        for different in range(bits // 2 + 2):
            codes[0, 1, :different] = -1
            left = float(terms("dsh", codes, [[0, 1]])["dissimilar"])
            # D is 4 for each different bit.
            assert left == pytest.approx(0.5 * max(0, 2 * bits - 4 * different))
    assert left == 0


def test_defaults_are_those_of_the_authors():
    method = methods.get("dsh")
    assert (method.alpha, method.margin, method.source) == (0.01, None, "code")
    assert float(terms("dsh")["loss"]) == pytest.approx(1 / 3 + 0 + 0.01 * 4 / 3)


def test_a_group_of_one_class_is_only_drawn_together():
    """Other versions compare with a bank that is empty at first, and push the codes outwards."""
    logits = np.random.default_rng(0).normal(size=(1, 4, 8))
    labels = np.zeros((1, 4), int)
    found = terms("dsh", logits, labels)
    assert float(found["dissimilar"]) == 0 and methods.get("dsh").variables(None) == {}
    _, slope = gradient(lambda u: terms("dsh:alpha=0", u, labels)["loss"], logits)
    # A descent moves every logit towards the mean of the group.
    assert ((slope > 0) == (logits > logits.mean(axis=1, keepdims=True))).all()


@pytest.mark.parametrize(
    "spec, words",
    [
        ("dsh:margin=0", "method dsh: margin=0.0 must be above 0"),
        ("dsh:alpha=-1", "method dsh: alpha=-1.0 must be at least 0"),
    ],
)
def test_what_is_refused(spec, words):
    with pytest.raises(UserError, match=words):
        methods.get(spec)
