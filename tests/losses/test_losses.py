"""The pairwise loss against a double loop in NumPy, hand values and numerical gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dah_tf import losses


def double_loop(x, similar, phi1=1.0, phi2=1.0, t=None):
    """Eqs. 2, 4 and 6, a pair at a time, in float64."""
    groups, m, k = x.shape
    t = k / 4.8 if t is None else t
    means = []
    for group in range(groups):
        total = 0.0
        for i in range(m):
            for j in range(m):
                if i == j:
                    continue
                a, b = x[group, i], x[group, j]
                if similar(group, i, j):
                    w1 = np.sqrt(np.sum((a - b) ** 2))
                else:
                    w1 = abs(t + np.sum(np.log(1 - np.abs(a - b))))
                w2 = (np.sum(a - 0.5) + np.sum(b - 0.5)) ** 2
                total += phi1 * w1 + phi2 * w2
        means.append(total / (m * (m - 1)))
    return np.mean(means)


@pytest.fixture
def values():
    return np.random.default_rng(0).uniform(0.25, 0.75, (3, 6, 9))


LABELS = np.array([[0, 0, 1, 1, 2, 2], [5, 5, 3, 3, 1, 1], [0, 1, 2, 3, 4, 4]], "int32")


@pytest.mark.parametrize("options", [{}, {"phi1": 0.3, "phi2": 2.0, "t": 1.1}])
def test_equals_the_double_loop(values, options):
    terms = losses.pairwise(values, losses.similarity(LABELS), **options)
    expected = double_loop(values, lambda g, i, j: LABELS[g, i] == LABELS[g, j], **options)
    np.testing.assert_allclose(terms.total, expected, rtol=1e-5)


def test_multi_label_similar_means_a_label_in_common(values):
    labels = np.random.default_rng(1).integers(0, 2, (3, 6, 4)).astype("uint8")
    similar = losses.similarity(labels, multi_label=True)
    expected = double_loop(values, lambda g, i, j: (labels[g, i] & labels[g, j]).any())
    np.testing.assert_allclose(losses.pairwise(values, similar).total, expected, rtol=1e-5)


def test_by_hand():
    # k = 2, t = 0.5. Images a = (.25, .75), b = (.75, .75) of one class, c = (.5, .5) of another.
    # W1(a,b) = 0.5.  W1(a,c) = |0.5 + 2 ln 0.75| = |0.5 - 0.575364| = 0.075364 = W1(b,c).
    # Excess: a 0, b 0.5, c 0, so W2(a,b) = W2(b,c) = 0.25, W2(a,c) = 0.
    # Six ordered pairs: W1 = 2(0.5 + 2 * 0.075364)/6 = 0.216910, W2 = 2 * 0.5/6 = 0.166667.
    # Bits' means: 0.5 and 2/3, so balance = (0 + (1/6)^2)/2 = 0.013889.
    x = np.array([[[0.25, 0.75], [0.75, 0.75], [0.5, 0.5]]])
    similar = losses.similarity(np.array([[7, 7, 8]]))
    terms = losses.pairwise(x, similar, t=0.5, balance_weight=3.0)
    np.testing.assert_allclose(terms.similar, 0.5, rtol=1e-5)
    np.testing.assert_allclose(terms.dissimilar, 0.075364, rtol=1e-4)
    np.testing.assert_allclose(terms.w2, 0.166667, rtol=1e-4)
    np.testing.assert_allclose(terms.balance, 0.013889, rtol=1e-4)
    np.testing.assert_allclose(terms.total, 0.216910 + 0.166667 + 0.041667, rtol=1e-4)
    weighted = losses.pairwise(x, similar, t=0.5, phi2=0.0, similar_weight=0.25)
    np.testing.assert_allclose(weighted.total, 0.25 * 0.5 + 0.75 * 0.075364, rtol=1e-4)


def test_plain_mean_is_a_similar_weight_of_one_nineteenth():
    x = np.random.default_rng(2).uniform(0.25, 0.75, (2, 20, 12))
    similar = losses.similarity(np.tile(np.repeat(np.arange(10), 2), (2, 1)))
    plain = losses.pairwise(x, similar).total
    np.testing.assert_allclose(
        plain, losses.pairwise(x, similar, similar_weight=1 / 19).total, rtol=1e-5
    )


def gradient(x, **options):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = losses.pairwise(x, losses.similarity(LABELS[: x.shape[0]]), **options).total
    return tape.gradient(total, x).numpy()


@pytest.mark.parametrize("options", [{}, {"similar_weight": 0.4, "balance_weight": 5.0}])
def test_gradient_equals_differences(values, options):
    exact = gradient(values.astype("float32"), **options)
    similar = losses.similarity(LABELS)
    for index in [(0, 0, 0), (1, 3, 4), (2, 5, 8)]:
        step = np.zeros_like(values)
        step[index] = 1e-2
        high = float(losses.pairwise(values + step, similar, **options).total)
        low = float(losses.pairwise(values - step, similar, **options).total)
        np.testing.assert_allclose(exact[index], (high - low) / 2e-2, rtol=0.03, atol=2e-3)


@pytest.mark.parametrize("fill", [0.25, 0.5, 0.75])
def test_gradient_is_finite_where_codes_coincide(fill):
    assert np.isfinite(gradient(np.full((1, 6, 9), fill, "float32"))).all()


def test_gradient_is_finite_at_saturation():
    x = np.where(np.random.default_rng(3).random((3, 6, 9)) < 0.5, 0.25, 0.75).astype("float32")
    assert np.isfinite(gradient(x)).all()


@pytest.mark.parametrize("labels", [[[1, 1, 1, 1]], [[1, 2, 3, 4]], [[1]]])
def test_a_kind_of_pair_that_is_missing_counts_zero(labels):
    labels = np.array(labels)
    x = np.random.default_rng(4).uniform(0.25, 0.75, (*labels.shape, 5)).astype("float32")
    terms = losses.pairwise(x, losses.similarity(labels), similar_weight=0.5)
    assert np.isfinite([float(term) for term in terms]).all()
    counts = [len(set(labels[0])) == labels.size, len(set(labels[0])) == 1]
    assert [float(terms.similar) == 0.0, float(terms.dissimilar) == 0.0] == counts


def test_computes_in_float32_whatever_comes_in(values):
    similar = losses.similarity(LABELS)
    half = keras.ops.cast(values, "bfloat16")
    total = losses.pairwise(half, similar).total
    assert keras.backend.standardize_dtype(total.dtype) == "float32"
    exact = losses.pairwise(keras.ops.cast(half, "float32"), similar).total
    np.testing.assert_array_equal(total, exact)


def test_parts_of_a_batch_average_to_the_whole(values):
    options = {"similar_weight": 0.3, "balance_weight": 2.0}
    whole = losses.pairwise(values, losses.similarity(LABELS), **options)
    parts = [
        losses.pairwise(values[i : i + 1], losses.similarity(LABELS[i : i + 1]), **options)
        for i in range(3)
    ]
    for name in losses.PairwiseTerms._fields:
        mean = np.mean([float(getattr(part, name)) for part in parts])
        np.testing.assert_allclose(getattr(whole, name), mean, rtol=1e-5)
