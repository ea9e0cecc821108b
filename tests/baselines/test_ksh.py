"""KSH against dense matrices and finite differences."""

import numpy as np
import pytest
import scipy.linalg
from shallow_data import blobs, one_hot

from dah_tf import baselines, codes
from dah_tf.baselines import ksh
from dah_tf.baselines.labels import Supervision


def dense(y, bits):
    """k S as a matrix: `(n, n)`."""
    similar = y[:, None] == y if y.ndim == 1 else y @ y.T > 0
    return bits * np.where(similar, 1.0, -1.0)


def several_labels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (n, 4))


def some_kernel(n=80, m=12, seed=0):
    K = np.random.default_rng(seed).normal(size=(n, m))
    return K - K.mean(axis=0)


@pytest.mark.parametrize("y", [blobs(80)[1], several_labels(80)], ids=["classes", "several"])
def test_the_residue_is_the_dense_one(y):
    K, expected = some_kernel(), dense(y, 6)
    residue = ksh.Residue(Supervision(y, 80, "KSH"), 6)
    rng = np.random.default_rng(1)
    np.testing.assert_allclose(residue.between(K), K.T @ expected @ K, atol=1e-9)
    for _ in range(3):
        vector = rng.normal(size=80)
        np.testing.assert_allclose(residue.times(vector), expected @ vector, atol=1e-9)
        bit = np.where(rng.normal(size=80) > 0, 1.0, -1.0)
        residue.take_out(bit)
        expected = expected - np.outer(bit, bit)
    np.testing.assert_allclose(residue.times(vector), expected @ vector, atol=1e-9)


def test_rows_without_labels_are_similar_to_none():
    y = np.array([[1, 0], [0, 0], [0, 0], [1, 1]])
    residue = ksh.Residue(Supervision(y, 4, "KSH"), 1)
    S = np.stack([residue.times(each) for each in np.eye(4)])
    np.testing.assert_array_equal(S > 0, y @ y.T > 0)


def test_the_gradient_is_that_of_finite_differences():
    K, y = some_kernel(), blobs(80)[1]
    residue = ksh.Residue(Supervision(y, 80, "KSH"), 6)
    residue.take_out(np.where(K[:, 0] > 0, 1.0, -1.0))
    a = np.random.default_rng(2).normal(size=12) * 0.3
    _, f, product = ksh.relaxed(residue, K @ a)
    # f is the paper's 2 / (1 + exp(-v)) - 1.
    np.testing.assert_allclose(f, 2 / (1 + np.exp(-(K @ a))) - 1)
    slopes = []
    for step in np.eye(12) * 1e-5:
        high, low = (ksh.relaxed(residue, K @ (a + sign * step))[0] for sign in (1, -1))
        slopes.append((high - low) / 2e-5)
    np.testing.assert_allclose(ksh.gradient(K, f, product), slopes, rtol=1e-5, atol=1e-3)


def test_descent_ends_where_the_gradient_is_small():
    K, y = some_kernel(), blobs(80)[1]
    residue = ksh.Residue(Supervision(y, 80, "KSH"), 6)
    a = np.random.default_rng(2).normal(size=12) * 0.1

    def at(a):
        cost, f, product = ksh.relaxed(residue, K @ a)
        return cost, np.linalg.norm(ksh.gradient(K, f, product))

    end = ksh.descend(K, residue, a, 500, 0)
    assert at(end)[0] < at(a)[0]
    assert at(end)[1] < at(a)[1] * 1e-3
    np.testing.assert_array_equal(ksh.descend(K, residue, a, 0, 0), a)


def test_the_first_bit_is_the_first_generalised_eigenvector():
    x, y = blobs(120)
    method = baselines.get("ksh:anchors=20,steps=0", 1).fit(x, y)
    K = np.exp(-method.gamma_ * ((x[:, None] - method.anchors_) ** 2).sum(axis=2))
    K -= K.mean(axis=0)
    # The scale: half the mean squared distance to the anchors.
    squared = ((x[:, None] - method.anchors_) ** 2).sum(axis=2).mean()
    assert method.gamma_ == pytest.approx(1 / (2 * squared))
    values, vectors = scipy.linalg.eig(K.T @ dense(y, 1) @ K, K.T @ K)
    top = vectors[:, values.real.argmax()].real
    a = method.components_[:, 0]
    cosine = (K @ top) @ (K @ a) / np.linalg.norm(K @ top) / np.linalg.norm(K @ a)
    assert abs(cosine) == pytest.approx(1, abs=1e-4)
    assert np.square(K @ a).sum() == pytest.approx(120, rel=1e-4)
    np.testing.assert_allclose(method.decision_function(x)[:, 0], K @ a, atol=1e-6)


def test_descent_brings_more_than_the_eigenvector():
    x, y = blobs(200, spread=2.0)
    start, end = (
        baselines.get(f"ksh:anchors=30,steps={steps}", 1).fit(x, y).gains_[0] for steps in (0, 500)
    )
    assert end > start * 1.01


def test_a_descent_that_brings_less_is_dropped(monkeypatch):
    x, y = blobs(200)
    expected = baselines.get("ksh:anchors=30,steps=0", 3).fit(x, y)
    monkeypatch.setattr(ksh, "descend", lambda K, residue, a, *rest: np.roll(a, 1))
    found = baselines.get("ksh:anchors=30", 3).fit(x, y)
    np.testing.assert_array_equal(found.components_, expected.components_)
    np.testing.assert_array_equal(found.gains_, expected.gains_)


@pytest.mark.parametrize("y", [blobs(200)[1], several_labels(200)], ids=["classes", "several"])
def test_gains_add_up_to_the_objective(y):
    x = blobs(200)[0] if y.ndim == 1 else y @ np.random.default_rng(1).normal(size=(4, 12))
    method = baselines.get("ksh:anchors=60", 8).fit(x, y)
    H = np.where(method.decision_function(x) > 0, 1.0, -1.0)
    # |R - h hᵀ|² = |R|² - 2 hᵀ R h + n², bit by bit from |k S|² = k² n².
    expected = np.square(H @ H.T - dense(y, 8)).mean()
    assert 64 - 2 * method.gains_.sum() + 8 == pytest.approx(expected, rel=1e-3)
    assert expected < 40


def test_labels_that_matter_are_those_of_the_drawn_rows():
    x, y = blobs(400)
    method = baselines.get("ksh:samples=100,anchors=40", 8).fit(x, y)
    assert method.anchors_.shape == (40, 12)
    H = np.where(method.decision_function(x) > 0, 1.0, -1.0)
    assert np.mean((H @ H.T > 0) == (y[:, None] == y)) > 0.9
    rows = {tuple(row) for row in x}
    assert all(tuple(anchor) in rows for anchor in method.anchors_)


def test_fewer_and_equal_rows_than_anchors():
    x, y = blobs(50)
    x, y = np.repeat(x, 3, axis=0), np.repeat(y, 3)  # anchors three times each
    method = baselines.get("ksh", 8).fit(x, y)
    assert method.anchors_.shape == (150, 12)
    bits = codes.unpack(method.transform(x), 8)
    assert np.mean((bits[:, None] == bits).mean(axis=2)[y[:, None] == y]) > 0.9


def test_single_labels_are_the_flags_of_one_class_each():
    y = blobs(60)[1]
    one, other = (Supervision(each, 60, "KSH") for each in (y, one_hot(y)))
    vector = np.random.default_rng(0).normal(size=60)
    np.testing.assert_allclose(
        ksh.Residue(one, 4).times(vector), ksh.Residue(other, 4).times(vector), atol=1e-9
    )
