"""Losses on pairs, triplets and rankings of a group, against loops and other libraries."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from method_parts import gradient
from sklearn.metrics import mutual_info_score

from dah_tf import codes, losses, metrics

GROUPS, M, BITS = 3, 6, 5


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(GROUPS, M, BITS))


@pytest.fixture
def similar():
    """Similarities of images with several labels, which no single label could have."""
    labels = np.random.default_rng(1).integers(0, 2, (GROUPS, M, 3))
    return np.array(losses.similarity(labels))


def pairs(similar):
    return [
        (g, i, j, bool(similar[g, i, j]))
        for g in range(GROUPS)
        for i in range(M)
        for j in range(M)
        if i != j
    ]


def test_contrastive_against_a_double_loop(points, similar):
    margin, near, apart = 9.0, 0.0, 0.0
    for g, i, j, alike in pairs(similar):
        distance = np.sum((points[g, i] - points[g, j]) ** 2)
        near += distance if alike else 0.0
        apart += 0.0 if alike else max(0.0, margin - distance)
    found = losses.contrastive(points, similar, margin)
    np.testing.assert_allclose(found, np.array([near, apart]) / (GROUPS * M * (M - 1)), rtol=1e-9)
    assert 0 < apart


def test_the_squared_distance_of_codes_is_four_times_the_hamming_distance():
    signs = np.where(np.random.default_rng(2).normal(size=(1, 9, 24)) > 0, 1.0, -1.0)
    packed = codes.pack((signs[0] > 0).astype("uint8"))
    hamming = codes.hamming(packed, packed)
    near, _ = losses.contrastive(signs, np.ones((1, 9, 9)), 0.0)
    np.testing.assert_allclose(near, 4 * hamming.sum() / (9 * 8))


def test_balanced_likelihood_against_explicit_weights(points, similar):
    values, scale, total = np.tanh(points), 0.7, 0.0
    for g in range(GROUPS):
        here = [(i, j, alike) for group, i, j, alike in pairs(similar) if group == g]
        count = {kind: sum(alike is kind for *_, alike in here) for kind in (True, False)}
        assert count[True] and count[False] and count[True] != count[False]
        top = bottom = 0.0
        for i, j, alike in here:
            x, weight = scale * values[g, i] @ values[g, j], len(here) / count[alike]
            top += weight * (np.log1p(np.exp(x)) - alike * x)
            bottom += weight
        total += top / bottom
    found = losses.balanced_likelihood(values, similar, scale)
    np.testing.assert_allclose(found, total / GROUPS, rtol=1e-9)


def test_balanced_likelihood_of_one_kind_is_its_mean(points):
    values = np.tanh(points)
    x = values @ values.swapaxes(1, 2)
    terms = np.log1p(np.exp(x))[:, ~np.eye(M, dtype=bool)]
    found = losses.balanced_likelihood(values, np.zeros((GROUPS, M, M)), 1.0)
    np.testing.assert_allclose(found, terms.mean(), rtol=1e-9)
    assert float(losses.balanced_likelihood(np.ones((2, 1, 3)), np.ones((2, 1, 1)), 1.0)) == 0


@pytest.mark.parametrize("kind", ["likelihood", "hinge"])
def test_triplets_against_a_triple_loop(kind, points, similar):
    margin, means = 1.3, []
    for g in range(GROUPS):
        terms = []
        for q, p, n in itertools.permutations(range(M), 3):
            if not (similar[g, q, p] and not similar[g, q, n]):
                continue
            a, b, c = points[g, q], points[g, p], points[g, n]
            if kind == "likelihood":
                terms.append(np.log1p(np.exp(-(a @ b / 2 - a @ c / 2 - margin))))
            else:
                terms.append(max(0.0, np.sum((a - b) ** 2) - np.sum((a - c) ** 2) + margin))
        means.append(np.mean(terms))
    function = getattr(losses, f"triplet_{kind}")
    np.testing.assert_allclose(function(points, similar, margin), np.mean(means), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_group_without_a_triplet_counts_as_nothing(points, similar, value):
    """An image is no partner of itself, and needs a similar and a dissimilar one."""
    lone = np.full((1, M, M), value)
    lone[0][np.eye(M, dtype=bool)] = 1.0
    for function in (losses.triplet_likelihood, losses.triplet_hinge):
        assert float(function(points[:1], lone, 2.0)) == 0
        # It lowers the mean over groups, as in a batch that is split between groups.
        both = function(points[:2], np.concatenate([lone, similar[1:2]]), 2.0)
        alone = function(points[1:2], similar[1:2], 2.0)
        np.testing.assert_allclose(both, alone / 2, rtol=1e-9)


def test_quantisation_by_hand():
    # ||u| - 1|: 1 + 1, 0.5 + 2; mean 2.25. (|u| - 1)^2: (1 + 1 + 0.25 + 4) / 4 = 1.5625.
    u = np.array([[[0.0, 2.0], [-0.5, 3.0]]])
    value, slope = gradient(losses.absolute_quantisation, u)
    assert value == pytest.approx(2.25)
    # sgn u sgn(|u| - 1) over 2 images. The bit of 0 is 0, so a descent lowers this logit.
    np.testing.assert_allclose(slope, [[[0.5, 0.5], [0.5, 0.5]]])
    value, slope = gradient(losses.squared_quantisation, u)
    assert value == pytest.approx(1.5625)
    # 2 (|u| - 1) sgn u over 4 values.
    np.testing.assert_allclose(slope, [[[0.5, 0.5], [0.25, 1.0]]])


def test_histograms_against_a_loop(points, similar):
    """The bins do not divide the distances evenly into whole bits, and end at the last distance."""
    values, bins = np.tanh(2 * points), 4
    values[0, 1] = -values[0, 0]  # a distance beyond the middle
    positive, total = losses.distance_histograms(values, similar, bins)
    expected = np.zeros((2, GROUPS, M, bins + 1))
    for g, i, j, alike in pairs(similar):
        distance = (BITS - values[g, i] @ values[g, j]) / 2
        for b in range(bins + 1):
            width = BITS / bins
            count = max(0.0, 1 - abs(distance - b * width) / width)
            expected[1, g, i, b] += count
            expected[0, g, i, b] += count * alike
    np.testing.assert_allclose([positive, total], expected, atol=1e-9)
    # Every other image counts once, and the image itself does not.
    np.testing.assert_allclose(np.sum(total, axis=-1), M - 1)


def test_opposite_codes_are_in_the_last_bin():
    values = np.array([[[1.0] * 6, [-1.0] * 6]])
    _, total = losses.distance_histograms(values, np.ones((1, 2, 2)), 4)
    np.testing.assert_allclose(total, [[[0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]], atol=1e-12)


def random_codes(m, bits, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, m)
    centres = rng.integers(0, 2, (3, bits))
    return (centres[labels] ^ (rng.random((m, bits)) < 0.3)).astype("uint8"), labels


def ranked(bits_of_images, labels, bins=None):
    values = 2.0 * bits_of_images[None] - 1
    similar = losses.similarity(labels[None])
    return losses.distance_histograms(values, similar, bins or bits_of_images.shape[1])


def test_mutual_information_of_codes_is_that_of_scikit_learn():
    images, labels = random_codes(30, 8)
    hamming = (images[:, None] != images).sum(axis=2)
    expected = [
        mutual_info_score(np.delete(labels == labels[i], i), np.delete(hamming[i], i))
        for i in range(30)
    ]
    found = losses.mutual_information(*ranked(images, labels))
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-9)


def test_mutual_information_by_hand():
    # Equal histograms say nothing. Disjoint ones say all: the entropy of 1/4 and 3/4 in nats.
    equal = np.array([[[1.0, 2.0, 1.0]]])
    assert float(losses.mutual_information(equal, 3 * equal)) == pytest.approx(0, abs=1e-12)
    positive, total = np.array([[[1.0, 0.0]]]), np.array([[[1.0, 3.0]]])
    found = losses.mutual_information(positive, total)
    assert float(found) == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    # Without similar images, or without others, nothing can be told.
    for kind in (0 * total, total):
        assert float(losses.mutual_information(kind, total)) == pytest.approx(0, abs=1e-12)


def packed_ranking(images, labels):
    """Histograms of `metrics`, in which each image ranks the others."""
    packed, found = codes.pack(images), []
    for i in range(len(images)):
        others = np.delete(np.arange(len(images)), i)
        given = packed[i : i + 1], labels[i : i + 1], packed[others], labels[others]
        found.append(metrics.histograms(*given, images.shape[1]))
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def test_histograms_of_codes_are_those_of_the_metrics():
    images, labels = random_codes(20, 8)
    for ours, theirs in zip(ranked(images, labels), packed_ranking(images, labels), strict=True):
        np.testing.assert_allclose(ours[0], theirs, atol=1e-9)


def test_without_ties_the_precision_is_that_of_the_metrics():
    """For one image, which ranks others at distances that are all different."""
    rng, checked = np.random.default_rng(5), 0
    while checked < 20:
        order = rng.permutation(np.arange(1, 13))[:7]
        alike = rng.random(7) < 0.5
        if not alike.any():
            continue
        positive, total = np.zeros((2, 1, 1, 13))
        total[0, 0, order] = 1
        positive[0, 0, order[alike]] = 1
        expected = metrics.average_precision(positive[0], total[0])
        found = float(losses.relaxed_average_precision(positive, total))
        assert found == pytest.approx(float(expected.expected[0]), rel=1e-9)
        # By hand: the mean precision at the places of the similar ones.
        hits = alike[np.argsort(order)]
        by_hand = [hits[: i + 1].mean() for i in np.flatnonzero(hits)]
        assert found == pytest.approx(np.mean(by_hand), rel=1e-9)
        checked += 1


def test_ties_by_hand_and_by_brute_force():
    # A similar and another image at distance 1, a similar one at 2:
    # 1 (0 + 1 + 1) / (0 + 2 + 1) + 1 (1 + 2 + 1) / (2 + 3 + 1) = 4/3, over 2: 2/3.
    positive, total = np.array([[[0.0, 1.0, 1.0]]]), np.array([[[0.0, 2.0, 1.0]]])
    assert float(losses.relaxed_average_precision(positive, total)) == pytest.approx(2 / 3)
    # Over both orders of the tie, the mean is ((1 + 2/3) / 2 + (1/2 + 2/3) / 2) / 2 = 17/24.
    orders = [[1, 0, 1], [0, 1, 1]]
    brute = [np.mean([np.mean(o[: i + 1]) for i in np.flatnonzero(o)]) for o in orders]
    assert np.mean(brute) == pytest.approx(17 / 24)
    exact = metrics.average_precision(positive[0], total[0])
    assert float(exact.expected[0]) == pytest.approx(17 / 24)
    assert exact.worst[0] <= 2 / 3 <= exact.best[0]


@pytest.mark.parametrize("bits", [4, 8, 24])
def test_with_ties_the_precision_is_close_to_that_of_the_metrics(bits):
    images, labels = random_codes(60, bits)
    score = metrics.mean_average_precision(*packed_ranking(images, labels))
    found = float(losses.relaxed_average_precision(*ranked(images, labels)))
    assert found == pytest.approx(score.expected, abs=0.015)
    assert score.worst < found < score.best


def test_an_image_without_similar_ones_asks_nothing():
    images, labels = random_codes(12, 6)
    labels[3] = 9
    positive, total = (np.array(each) for each in ranked(images, labels))
    assert not positive[0, 3].any()
    found = float(losses.relaxed_average_precision(positive, total))
    expected = losses.relaxed_average_precision(*np.delete([positive, total], 3, axis=2))
    assert found == pytest.approx(float(expected), rel=1e-9)
    # A group in which no image has a similar one counts as 0.
    assert float(losses.relaxed_average_precision(0 * positive, total)) == 0


def test_large_logits_stay_finite():
    x = tf.constant(1e4 * np.array([[[1, 1], [1, 1], [-1, -1]]]), tf.float32)
    similar = np.array([[[1, 1, 0], [1, 1, 0], [0, 0, 1]]], "float32")
    for function in (losses.triplet_likelihood, losses.triplet_hinge):
        for kind in (similar, 1 - similar):
            value, slope = gradient(lambda u, f=function, s=kind: f(u, s, 1.0), x)
            assert np.isfinite(value) and np.isfinite(slope).all()
