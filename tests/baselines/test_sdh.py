"""SDH against brute force and scikit-learn's ridge regression."""

import itertools

import numpy as np
import pytest
from shallow_data import blobs, one_hot
from sklearn.linear_model import Ridge

from dah_tf import baselines, codes
from dah_tf.baselines import sdh


def kernel(method, x):
    distances = ((x[:, None] - method.anchors_) ** 2).sum(axis=2)
    return np.hstack([np.exp(-method.gamma_ * distances), np.ones((len(x), 1))])


def learned(method):
    return codes.unpack(method.learned_codes_, method.n_bits) * 2.0 - 1


def value(B, wanted, W):
    """The part of the objective that depends on B."""
    return np.square(B @ W).sum() - 2 * np.sum(B * wanted)


@pytest.mark.parametrize("seed", range(10))
def test_each_column_is_the_best_for_the_others(seed):
    rng = np.random.default_rng(seed)
    W, wanted = rng.normal(size=(3, 5)), rng.normal(size=(4, 3)) * 3
    B = np.where(rng.normal(size=(4, 3)) > 0, 1.0, -1.0)
    columns = np.array(list(itertools.product((-1.0, 1.0), repeat=4)))
    expected = B.copy()
    for r in range(3):  # one sweep, each column by trying all 16
        trials = np.repeat(expected[None], 16, axis=0)
        trials[:, :, r] = columns
        expected = min(trials, key=lambda each: value(each, wanted, W))
    np.testing.assert_array_equal(sdh.descend(B.copy(), wanted, W, 1), expected)
    end = sdh.descend(B.copy(), wanted, W, 50)
    assert value(end, wanted, W) <= value(expected, wanted, W) <= value(B, wanted, W)
    np.testing.assert_array_equal(sdh.descend(end.copy(), wanted, W, 1), end)


def test_no_bit_is_zero():
    B = sdh.descend(np.ones((2, 2)), np.zeros((2, 2)), np.zeros((2, 3)), 5)
    np.testing.assert_array_equal(B, -np.ones((2, 2)))


@pytest.mark.parametrize("options", ["", ",nu=1", ",nu=0.01,l2_labels=10,l2_kernel=1"])
def test_the_objective_never_rises_and_is_what_it_says(options):
    x, y = blobs(spread=2.0)
    method = baselines.get(f"sdh:anchors=40,rounds=6{options}", 10).fit(x, y)
    assert len(method.objectives_) == 7
    assert (np.diff(method.objectives_) <= 1e-8 * method.objectives_[0]).all()
    assert method.objectives_[1] < method.objectives_[0]
    B, F, Y = learned(method), kernel(method, x), one_hot(y)
    W = Ridge(method.l2_labels, fit_intercept=False).fit(B, Y).coef_.T
    P = np.vstack([method.components_, method.intercept_])
    expected = np.square(Y - B @ W).sum() + method.l2_labels * np.square(W).sum()
    expected += method.nu * (np.square(B - F @ P).sum() + method.l2_kernel * np.square(P).sum())
    assert method.objectives_[-1] == pytest.approx(expected, rel=1e-6)


def test_the_hash_function_is_the_ridge_regression_of_the_learned_codes():
    x, y = blobs()
    method = baselines.get("sdh:anchors=30,sigma=2", 10).fit(x, y)
    assert method.gamma_ == 1 / 8
    F = kernel(method, x)
    ridge = Ridge(1e-2, fit_intercept=False, solver="svd").fit(F, learned(method))
    np.testing.assert_allclose(method.decision_function(x), F @ ridge.coef_.T, atol=1e-5)


def test_the_width_is_the_mean_distance_to_the_anchors():
    x, y = blobs()
    method = baselines.get("sdh:anchors=30", 4).fit(x, y)
    distances = np.sqrt(((x[:, None] - method.anchors_) ** 2).sum(axis=2))
    assert method.gamma_ == pytest.approx(1 / (2 * distances.mean() ** 2))


def test_codes_are_a_codebook_of_the_classes():
    # With nu = 1e-5 the labels decide, and the kernel only where they leave a bit open.
    x, y = blobs(600)
    method = baselines.get("sdh", 24).fit(x, y)
    B = learned(method)
    centres = np.stack([np.sign(B[y == c].mean(axis=0)) for c in range(4)])
    assert (B == centres[y]).mean() > 0.95
    distance = (centres[:, None] != centres).sum(axis=2)
    assert distance[np.triu_indices(4, 1)].min() >= 6
