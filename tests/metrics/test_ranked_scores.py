"""Rankings by float scores, and graded relevance: against scikit-learn and all permutations."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from dah_tf import codes, metrics


def some_features(queries=7, items=60, d=5, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(queries, d)).astype(np.float32),
        rng.integers(0, classes, queries),
        rng.normal(size=(items, d)).astype(np.float32),
        rng.integers(0, classes, items),
    )


def test_cosine_ranking_is_scikit_learns():
    ours, our_labels, theirs, their_labels = some_features(queries=150)
    scores = (ours / np.linalg.norm(ours, axis=1, keepdims=True)) @ (
        theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    ).T
    precision, top = metrics.cosine_ranking(ours, our_labels, theirs, their_labels, top=10)
    expected = [
        average_precision_score(their_labels == label, row)
        for label, row in zip(our_labels, scores, strict=True)
    ]
    assert precision.worst == pytest.approx(np.mean(expected), abs=1e-6)
    assert precision.best == pytest.approx(precision.worst, abs=1e-12)
    order = np.argsort(-scores, axis=1)[:, :10]
    assert top.worst == pytest.approx((their_labels[order] == our_labels[:, None]).mean())


def test_cosine_ranking_bounds_ties():
    # Cosines 1, 1 and -1. Tied at the top: one relevant, one not; the other relevant one is last.
    query, items = np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [5.0, 0.0], [-1.0, 0.0]])
    precision, top = metrics.cosine_ranking(query, np.array([1]), items, np.array([0, 1, 1]), top=1)
    # Worst: relevant at places 2 and 3, (1/2 + 2/3) / 2. Best: 1 and 3, (1 + 2/3) / 2.
    assert precision == (None, pytest.approx(7 / 12), pytest.approx(5 / 6))
    assert top == (None, 0.0, 1.0)


def test_cosine_ranking_without_relevant_items_is_zero():
    precision, _ = metrics.cosine_ranking(
        np.eye(2), np.array([7, 7]), np.eye(2), np.array([0, 1]), top=1
    )
    assert precision.best == 0.0
    with pytest.raises(ValueError, match="do not fit"):
        metrics.cosine_ranking(np.eye(2), np.arange(2), np.ones((2, 3)), np.arange(2))


def graded_case(seed, queries=3, items=7, bits=3, classes=4):
    rng = np.random.default_rng(seed)
    packed = [codes.pack(rng.integers(0, 2, (n, bits))) for n in (queries, items)]
    labels = [rng.integers(0, 2, (n, classes)) for n in (queries, items)]
    return packed[0], labels[0], packed[1], labels[1], bits


def orders(distance):
    """Every ranking that a stable sort of some arrangement of the items can give."""
    groups = [np.flatnonzero(distance == d) for d in np.unique(distance)]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield np.concatenate(parts)


def brute_ndcg(grades, cutoff):
    gains = [(2**g - 1) / math.log2(2 + i) for i, g in enumerate(grades[:cutoff])]
    best = sorted(grades, reverse=True)[:cutoff]
    perfect = sum((2**g - 1) / math.log2(2 + i) for i, g in enumerate(best))
    return sum(gains) / perfect if perfect else 0.0


def brute_weighted(grades):
    values = [sum(grades[: i + 1]) / (i + 1) for i, g in enumerate(grades) if g]
    return sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cutoff", [None, 1, 4])
def test_graded_metrics_are_means_over_all_orders(seed, cutoff):
    case = graded_case(seed)
    graded = metrics.graded_histograms(*case)
    distances = codes.hamming(case[0], case[2])
    for query, distance in enumerate(distances):
        grades = (case[3] @ case[1][query]).tolist()
        ranked = [[grades[i] for i in order] for order in orders(distance)]
        expected = np.mean([brute_ndcg(each, cutoff) for each in ranked])
        assert metrics.ndcg(graded, cutoff)[query] == pytest.approx(expected)
        expected = np.mean([brute_weighted(each) for each in ranked])
        assert metrics.weighted_average_precision(graded)[query] == pytest.approx(expected)


@pytest.mark.parametrize("cutoff", [None, 5])
def test_ndcg_is_scikit_learns_also_with_ties(cutoff):
    case = graded_case(9, queries=20, items=50, bits=9)
    graded = metrics.graded_histograms(*case)
    distances = codes.hamming(case[0], case[2]).astype(float)
    gains = 2.0 ** (case[1] @ case[3].T) - 1
    for query in range(20):
        expected = ndcg_score(gains[query : query + 1], -distances[query : query + 1], k=cutoff)
        assert metrics.ndcg(graded, cutoff)[query] == pytest.approx(expected)


def test_graded_histograms_in_blocks(monkeypatch):
    case = graded_case(4, items=40, bits=10)
    whole = metrics.graded_histograms(*case)
    monkeypatch.setattr("dah_tf.metrics.graded.CELLS", 21)
    for part, again in zip(whole, metrics.graded_histograms(*case), strict=True):
        np.testing.assert_array_equal(part, again)
    relevant, total = metrics.histograms(*case)
    np.testing.assert_array_equal(whole.total, total)
    np.testing.assert_array_equal(whole.relevant, relevant)


def test_grades_need_several_labels():
    case = graded_case(0)
    with pytest.raises(ValueError, match="0/1 labels"):
        metrics.graded_histograms(case[0], np.zeros(3, int), *case[2:])
    with pytest.raises(ValueError, match="at least 1"):
        metrics.ndcg(metrics.graded_histograms(*case), 0)
