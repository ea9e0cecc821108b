"""DPSH and plain cross-entropy, computed by hand."""

import numpy as np
import pytest

from dah_tf.model import methods


def test_dpsh_by_hand():
    # u is (2, 0), (1, 1), (0, -2) with classes 0, 0, 1. theta = u.u / 2 gives theta_01 = 1,
    # theta_02 = 0 and theta_12 = -1. The three pairs cost log(1 + e) - 1 = 0.313262,
    # log 2 = 0.693147 and log(1 + 1/e) = 0.313262.
    # Each counts twice among 6 ordered pairs, so that their mean is 1.319670 / 3 = 0.439890.
    # The signs are (1, -1), (1, 1), (-1, -1), as 0 has sign -1. The mean squared error is 4/3.
    # The loss with eta = 0.3 is 0.439890 + 0.3 * 4/3 = 0.839890.
    logits = np.array([[[2.0, 0.0], [1.0, 1.0], [0.0, -2.0]]])
    labels = np.array([[0, 0, 1]])
    terms = methods.get("dpsh:eta=0.3").terms(labels, {"logits": logits}, {}, 0)
    assert [*terms] == ["loss", "pairs", "quantisation"]
    assert float(terms["pairs"]) == pytest.approx(0.439890, abs=1e-6)
    assert float(terms["quantisation"]) == pytest.approx(4 / 3)
    assert float(terms["loss"]) == pytest.approx(0.839890, abs=1e-6)
    # With several labels, images 0 and 2 share one. The second pair costs log 2 - 0, as before.
    several = np.array([[[1, 1], [1, 0], [0, 1]]])
    again = methods.get("dpsh:eta=0.3").terms(several, {"logits": logits}, {}, 0)
    assert float(again["pairs"]) == pytest.approx(0.439890, abs=1e-6)
    # Images 1 and 2 share one. Their pair costs log(1 + 1/e) + 1 = 1.313262; the mean is 0.773223.
    several = np.array([[[1, 1], [1, 0], [1, 0]]])
    again = methods.get("dpsh:eta=0.3").terms(several, {"logits": logits}, {}, 0)
    assert float(again["pairs"]) == pytest.approx(0.773223, abs=1e-6)


def test_ce_by_hand():
    # The classifier sees the values (1 + tanh u) / 2 as tanh u, here times 8.
    method = methods.get("ce:class_scale=8")
    seen = method.seen(None, np.array([[0.75, 0.5]]))
    np.testing.assert_allclose(seen, [[4.0, 0.0]])
    # softmax(ln 3, 0) = (3/4, 1/4), and the loss of classes 0 and 1 is
    # -(ln 3/4 + ln 1/4) / 2 = 0.836988.
    classes = np.log(np.array([[[3.0, 1.0], [3.0, 1.0]]]))
    terms = method.terms(np.array([[0, 1]]), {"classes": classes}, {}, 0)
    assert [*terms] == ["loss", "accuracy"] and float(terms["accuracy"]) == 0.5
    assert float(terms["loss"]) == pytest.approx(0.836988, abs=1e-6)
