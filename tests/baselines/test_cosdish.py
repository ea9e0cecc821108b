"""COSDISH against brute force and scikit-learn's ridge regression."""

import itertools

import numpy as np
import pytest
from shallow_data import blobs
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from dah_tf import baselines, codes
from dah_tf.baselines import cosdish
from dah_tf.baselines.labels import Supervision


def problem(seed, size=8):
    rng = np.random.default_rng(seed)
    Q = rng.normal(size=(size, size))
    Q = Q + Q.T
    np.fill_diagonal(Q, 0)
    start = np.where(rng.normal(size=size) > 0, 1.0, -1.0)
    return Q, rng.normal(size=size) * 3, start, rng


def value(Q, p, b):
    return b @ Q @ b + b @ p


@pytest.mark.parametrize("seed", range(20))
def test_signs_are_those_of_brute_force(seed):
    Q, p, start, rng = problem(seed)
    found = cosdish.minimise(Q, p, start, 30, rng)
    every = (np.array(b) for b in itertools.product((-1.0, 1.0), repeat=8))
    assert value(Q, p, found) == pytest.approx(min(value(Q, p, b) for b in every))
    assert set(found) <= {-1.0, 1.0}


@pytest.mark.parametrize("seed", range(20))
def test_a_minimum_is_never_above_its_start(seed):
    Q, p, start, rng = problem(seed, 40)
    before = start.copy()
    alone = cosdish.minimise(Q, p, start, 0, rng)
    np.testing.assert_array_equal(start, before)
    assert value(Q, p, alone) < value(Q, p, start)
    for i in range(40):  # no single flip is better
        flipped = alone.copy()
        flipped[i] *= -1
        assert value(Q, p, flipped) >= value(Q, p, alone) - 1e-9
    assert value(Q, p, cosdish.minimise(Q, p, start, 20, rng)) <= value(Q, p, alone)
    np.testing.assert_array_equal(cosdish.minimise(Q, p, alone, 0, rng), alone)


def test_nothing_to_choose_leaves_the_start():
    start = np.array([1.0, -1.0, 1.0])
    rng = np.random.default_rng(0)
    found = cosdish.minimise(np.zeros((3, 3)), np.zeros(3), start, 9, rng)
    np.testing.assert_array_equal(found, start)


def test_dissimilar_entries_are_negative_and_weigh_as_much():
    y = np.array([0, 0, 1, 2, 2, 2])
    S = cosdish.similarities(Supervision(y, 6, "COSDISH"), np.array([0, 3]))
    # Similar to row 0: 2 rows; to row 3: 3 rows. So 5 entries of 12, the ratio is 5 / 7.
    np.testing.assert_allclose(S[:, 0], [1, 1, -5 / 7, -5 / 7, -5 / 7, -5 / 7])
    np.testing.assert_allclose(S[:, 1], [-5 / 7, -5 / 7, -5 / 7, 1, 1, 1])
    assert S.sum() == pytest.approx(0, abs=1e-5)
    several = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    S = cosdish.similarities(Supervision(several, 4, "COSDISH"), np.array([1]))
    np.testing.assert_allclose(S[:, 0], [1, 1, 1, -3])


def alternated(seed, n=30, bits=4):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    B = (2 * rng.integers(0, 2, (n, bits)) - 1).astype(np.int8)
    drawn = np.sort(rng.permutation(n)[:bits])
    # S of 1 and -1, for which the rows' step is exact.
    S = np.where(y[:, None] == y[drawn], 1.0, -1.0).astype(np.float32)
    before = B.copy()
    cosdish.alternate(B, S, drawn, 40, rng)
    return before, B, drawn, S


@pytest.mark.parametrize("seed", range(8))
def test_the_other_rows_bits_are_the_best_ones(seed):
    _, B, drawn, S = alternated(seed)
    rows = np.array(list(itertools.product((-1.0, 1.0), repeat=4)))
    for i in np.setdiff1d(np.arange(30), drawn):
        errors = np.abs(4 * S[i] - rows @ B[drawn].T.astype(float)).sum(axis=1)
        assert np.abs(4 * S[i] - B[drawn].astype(float) @ B[i]).sum() == pytest.approx(errors.min())


@pytest.mark.parametrize("seed", range(8))
def test_the_drawn_rows_bits_are_the_best_ones_in_turn(seed):
    before, B, drawn, S = alternated(seed)
    others = np.setdiff1d(np.arange(30), drawn)
    rest, S_rest, S_drawn = before[others].astype(float), S[others], S[drawn]
    columns = [np.array(b) for b in itertools.product((-1.0, 1.0), repeat=4)]
    left, square = 4.0 * S_rest, 4.0 * S_drawn
    for r in range(4):  # the residues with each bit tried, as the objective has them

        def error(b, r=r, left=left, square=square):
            off = ~np.eye(4, dtype=bool)
            return (
                np.square(left - np.outer(rest[:, r], b)).sum()
                + np.square((square - np.outer(b, b))[off]).sum()
            )

        chosen = B[drawn, r].astype(float)
        assert error(chosen) == pytest.approx(min(error(b) for b in columns))
        left = left - np.outer(rest[:, r], chosen)
        square = square - np.outer(chosen, chosen)


def test_a_bit_that_nothing_decides_stays():
    B = np.array([[1, 1], [-1, 1], [1, -1]], np.int8)
    S = np.zeros((3, 2), np.float32)  # the last row has no similarity to the drawn ones
    cosdish.alternate(B, S, np.array([0, 1]), 3, np.random.default_rng(0))
    np.testing.assert_array_equal(B[2], [1, -1])


def test_rows_of_a_class_have_one_code_and_classes_far_ones():
    x, y = blobs(600)
    method = baselines.get("cosdish", 24).fit(x, y)
    B = codes.unpack(method.learned_codes_, 24)
    centres = np.stack([np.median(B[y == c], axis=0) for c in range(4)])
    # The rows that were drawn last have codes of their own.
    assert (B == centres[y]).all(axis=1).sum() >= 600 - 24
    distance = (centres[:, None] != centres).sum(axis=2)
    assert distance[np.triu_indices(4, 1)].min() >= 10


def test_a_larger_sample_tells_all_classes_apart():
    x, y = blobs(600, classes=8)

    def distinct(text):
        method = baselines.get(text, 4).fit(x, y)
        B = codes.unpack(method.learned_codes_, 4)
        return len(np.unique([np.median(B[y == c], axis=0) for c in range(8)], axis=0))

    # 4 drawn rows are of 4 classes at most; the others share a code.
    assert distinct("cosdish") <= 5
    assert distinct("cosdish:columns=64") == 8


@pytest.mark.parametrize("ridge", [1.0, 30.0])
def test_the_hash_function_is_ridge_regression_on_standardised_features(ridge):
    x, y = blobs()
    x = x * np.logspace(-2, 2, 12) + 5
    method = baselines.get(f"cosdish:ridge={ridge}", 10).fit(x, y)
    scaled = StandardScaler().fit_transform(x)
    B = codes.unpack(method.learned_codes_, 10) * 2.0 - 1
    expected = Ridge(ridge, fit_intercept=False).fit(scaled, B).predict(scaled)
    np.testing.assert_allclose(method.decision_function(x), expected, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_feature_that_does_not_vary_says_nothing(dtype):
    x, y = blobs()
    with_constant = np.insert(x, 3, 0.1, axis=1).astype(dtype)
    method = baselines.get("cosdish", 10).fit(with_constant, y)
    assert not method.components_[3].any()
    alone = baselines.get("cosdish", 10).fit(x.astype(dtype), y)
    np.testing.assert_allclose(
        method.decision_function(with_constant), alone.decision_function(x.astype(dtype)), atol=1e-9
    )
    other = with_constant.copy()
    other[:, 3] = 1e6
    np.testing.assert_array_equal(method.transform(other), method.transform(with_constant))
