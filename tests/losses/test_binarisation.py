"""Penalties of logits that are far from a code, by hand and by their gradients."""

import numpy as np
import pytest
from method_parts import check_gradient, gradient

from dah_tf.losses import binarisation

LOGITS = np.random.default_rng(0).normal(size=(2, 4, 3))


def test_tanh_gap_by_hand():
    # tanh(0.5 ln 3) = 1/2; |+-1/2| - 1 = -1/2: 1/4. tanh 0: 1. Mean (1/4 + 1/4 + 1) / 3 = 1/2.
    half = 0.5 * np.log(3.0)
    assert float(binarisation.tanh_gap(np.array([[[half, -half, 0.0]]]))) == pytest.approx(0.5)


def test_cubic_gap_by_hand():
    # ||u| - 1|^3 of 3, -1, 0 and 0.5: 8, 0, 1 and 1/8; mean 9.125 / 4.
    found = binarisation.cubic_gap(np.array([[[3.0, -1.0, 0.0, 0.5]]]))
    assert float(found) == pytest.approx(9.125 / 4)


def test_the_slope_of_the_cubic_gap_vanishes_at_a_code():
    _, found = gradient(binarisation.cubic_gap, np.array([[[1.0, -1.0, 3.0, -3.0]]]))
    # 3 (|u| - 1)^2 sgn(u) / 4 at 3 is 3.
    np.testing.assert_allclose(found, [[[0.0, 0.0, 3.0, -3.0]]])


def test_excess_by_hand():
    # Beyond 1.1: 0.9 and 0, 0.4 and 1.9; sums 0.9 and 2.3; mean over two images 1.6.
    logits = np.array([[[2.0, -1.0], [-1.5, 3.0]]])
    assert float(binarisation.excess(logits)) == pytest.approx(1.6)
    assert float(binarisation.excess(logits, limit=3.0)) == 0.0


def test_gaussian_gap_by_hand():
    # s = 1/2, so that g = exp(-2 d^2). At h = 0.5: g+ = exp(-1/2), g- = exp(-9/2), b = 1:
    # 1/2 - log(1 - exp(-4.5)) = 0.511171. At h = -0.5 the signs change places: the same.
    for h in (0.5, -0.5):
        found = binarisation.gaussian_gap(np.array([[[h]]]))
        assert float(found) == pytest.approx(0.511171, abs=1e-6)
    # The definition, with both cross-entropies written out.
    h, s = np.tanh(LOGITS), 0.8
    b = (h > 0).astype(float)
    near, far = (np.exp(-np.square(h - sign) / (2 * s * s)) for sign in (1, -1))
    expected = -b * np.log(near) - (1 - b) * np.log1p(-near)
    expected += -(1 - b) * np.log(far) - b * np.log1p(-far)
    assert float(binarisation.gaussian_gap(h, s)) == pytest.approx(expected.mean(), rel=1e-12)
    # It is least at a code.
    at = [float(binarisation.gaussian_gap(np.full((1, 1, 1), x))) for x in (0.2, 0.9, 1.0)]
    assert at == sorted(at, reverse=True)


@pytest.mark.parametrize("name", ["tanh_gap", "cubic_gap", "excess", "gaussian_gap"])
def test_gradients(name):
    check_gradient(getattr(binarisation, name), LOGITS)
