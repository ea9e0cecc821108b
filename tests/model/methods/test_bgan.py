"""BGAN by hand, and the growth of beta. Its loop is tested in `tests/training`."""

import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf

from dah_tf.errors import UserError
from dah_tf.model import methods


def test_by_hand():
    # beta = 2, so h = tanh u = (1/2, 1/2), (1/2, -1/2), (-1/2, 0), of classes 0, 0, 1. Products
    # by 2 bits: 1/4, 1/4, 1/8 with themselves, against 1: 9/16 + 9/16 + 49/64 = 121/64. Images 0
    # and 1: 0 against 1: 1. 0 and 2: -1/8 against -1: 49/64. 1 and 2: the same. Both ways:
    # 2 (1 + 98/64) = 324/64. All 9 pairs: 445/576. (|h| - 1)^2: five times 1/4 and 1: 2.25 / 6.
    h = np.array([[[0.5, 0.5], [0.5, -0.5], [-0.5, 0.0]]])
    outputs, state = {"logits": np.arctanh(h)}, {"beta": tf.constant(2.0)}
    terms = methods.get("bgan:neighbour=4").terms(np.array([[0, 0, 1]]), outputs, state, 0)
    assert [*terms] == ["loss", "pairs", "quantisation", "beta"]
    expected = [4 * (445 / 576 + 0.375), 445 / 576, 0.375, 2]
    np.testing.assert_allclose([*terms.values()], expected, rtol=1e-6)


def test_products_are_divided_by_the_number_of_bits():
    """The authors' code compares the sums over bits with 1 and -1."""
    codes = np.array([[[1.0] * 8, [1.0] * 8, [-1.0] * 8]]) * 50
    state = {"beta": tf.constant(20.0)}
    terms = methods.get("bgan").terms(np.array([[0, 0, 1]]), {"logits": codes}, state, 0)
    assert float(terms["loss"]) == 0


def test_values_become_signs_as_beta_grows():
    method, known = methods.get("bgan"), parts.facts("bgan")
    state, logits = method.variables(known), parts.logits_of("bgan")
    gaps, found = [], []
    for step in range(known.steps):
        if method.due(step, known):
            state |= method.between(step, None, state, known)
        found.append(float(state["beta"]))
        values = np.array(method.values(logits, state))
        np.testing.assert_allclose(values, np.tanh(state["beta"] * logits / 2), rtol=1e-6)
        gaps.append(np.abs(values - np.where(logits > 0, 1, -1)).mean())
    assert found == [2, 2, 5, 5, 10, 10, 15, 15, 20, 20]
    assert (np.diff(gaps)[1::2] < 0).all() and gaps[-1] < 0.25 * gaps[0]


def test_what_is_refused():
    for text, words in {
        "bgan:neighbour=-1": "neighbour=-1.0 must be at least 0",
        "bgan:rate=0": "rate=0.0 must be above 0",
    }.items():
        with pytest.raises(UserError, match=f"^method bgan: {words}"):
            methods.get(text)
