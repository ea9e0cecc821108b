"""Metrics against hand arithmetic, all orders of tied items, slow loops and scikit-learn."""

import fractions
import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from dah_tf import codes, metrics
from dah_tf.metrics import grouping, ranking

F = fractions.Fraction


def packed(rng, n, bits, distinct=None):
    """Random codes, from a pool of `distinct` ones if given."""
    if distinct:
        return codes.pack(rng.integers(0, 2, (distinct, bits)))[rng.integers(0, distinct, n)]
    return codes.pack(rng.integers(0, 2, (n, bits)))


def histogram(distances, relevant, length):
    """Histograms of one query."""
    total = np.bincount(distances, minlength=length)[None]
    return np.bincount(distances, relevant, length).astype(int)[None], total


def precision_of(order, cutoff=None):
    """Average precision of a list of 0 and 1."""
    order = list(order)[:cutoff]
    hits = np.cumsum(order)
    found = [hits[i] / (i + 1) for i, one in enumerate(order) if one]
    return sum(found) / len(found) if found else 0.0


def all_orders(distances, relevant):
    """The ranked relevance in every order of tied items."""
    for permutation in itertools.permutations(range(len(distances))):
        yield [relevant[i] for i in sorted(permutation, key=lambda i: distances[i])]


# Distances and relevance of a query's items: cut-off: expected, worst, best.
HAND = [
    # Orders 1 1 0 and 1 0 1: (1 + 2/2) / 2 = 1 and (1 + 2/3) / 2 = 5/6.
    ([0, 1, 1], [1, 1, 0], None, F(11, 12), F(5, 6), 1),
    # Cut after two: 1 1 -> (1 + 1) / 2, 1 0 -> 1 / 1.
    ([0, 1, 1], [1, 1, 0], 2, 1, 1, 1),
    # 0 1 -> (1/2) / 1, 0 0 -> 0.
    ([0, 1, 1], [0, 1, 0], 2, F(1, 4), 0, F(1, 2)),
    # 1 0 1 -> (1 + 2/3) / 2 = 5/6, 1 0 0 -> 1 / 1: retrieving less can be better.
    ([0, 1, 2, 2], [1, 0, 1, 0], 3, F(11, 12), F(5, 6), 1),
    # All tied: 1 at place 1, 2 or 3: (1 + 1/2 + 1/3) / 3 = 11/18.
    ([3, 3, 3], [0, 1, 0], None, F(11, 18), F(1, 3), 1),
    # Nothing relevant, with and without cut-off.
    ([0, 1], [0, 0], None, 0, 0, 0),
    ([0, 1], [0, 0], 1, 0, 0, 0),
    # The one relevant item lies beyond the cut-off: nothing is retrieved.
    ([0, 1], [0, 1], 1, 0, 0, 0),
    # One item; a cut-off beyond the last item changes nothing.
    ([2], [1], None, 1, 1, 1),
    ([0, 1, 1], [1, 1, 0], 10, F(11, 12), F(5, 6), 1),
]


@pytest.mark.parametrize("distances, relevant, cutoff, expected, worst, best", HAND)
def test_average_precision_by_hand(distances, relevant, cutoff, expected, worst, best):
    got = metrics.mean_average_precision(*histogram(distances, relevant, 4), cutoff)
    np.testing.assert_allclose(got, [float(expected), float(worst), float(best)], rtol=1e-14)


@pytest.mark.parametrize("seed", range(40))
def test_every_order_of_ties(seed):
    rng = np.random.default_rng(seed)
    items = rng.integers(1, 7)
    distances, relevant = rng.integers(0, 3, items), rng.integers(0, 2, items)
    histograms = histogram(distances, relevant, 3)
    orders = list(all_orders(distances, relevant))
    curve = metrics.top_curve(*histograms, int(items))
    for cutoff in [None, *range(1, 9)]:
        values = [precision_of(order, cutoff) for order in orders]
        got = metrics.mean_average_precision(*histograms, cutoff)
        np.testing.assert_allclose(got, [np.mean(values), min(values), max(values)], atol=1e-14)
        if cutoff:
            values = [np.mean(order[:cutoff]) for order in orders]
            got = metrics.precision_at(*histograms, cutoff)
            np.testing.assert_allclose(got, [np.mean(values), min(values), max(values)], atol=1e-14)
        if cutoff and cutoff <= items:
            recall = np.mean([sum(order[:cutoff]) for order in orders]) / max(sum(relevant), 1)
            assert curve.precision[cutoff - 1] == pytest.approx(np.mean(values), abs=1e-14)
            assert curve.recall[cutoff - 1] == pytest.approx(recall, abs=1e-14)


@pytest.mark.parametrize("seed", range(10))
def test_scikit_learn_without_ties(seed):
    # One item at each distance 0 .. 64: the query's code with that many bits flipped.
    rng = np.random.default_rng(seed)
    query = rng.integers(0, 2, 64)
    flips = np.tril(np.ones((65, 64), int), -1)[:, rng.permutation(64)]
    distance = flips.sum(axis=1)
    labels = rng.integers(0, 3, 65)
    labels[0] = 1
    histograms = metrics.histograms(
        codes.pack(query[None]), np.array([1]), codes.pack(query ^ flips), labels, 64
    )
    got = metrics.mean_average_precision(*histograms)
    np.testing.assert_allclose(got, average_precision_score(labels == 1, -distance), rtol=1e-13)
    for cutoff in (1, 7, 30):
        near = distance < cutoff
        expected = average_precision_score(labels[near] == 1, -distance[near])
        got = metrics.mean_average_precision(*histograms, cutoff)
        np.testing.assert_allclose(got, expected, rtol=1e-13)


@pytest.mark.parametrize("distinct", [None, 30])
def test_bounds_against_sorting(distinct):
    rng = np.random.default_rng(1)
    ours, theirs = packed(rng, 40, 12, distinct), packed(rng, 500, 12, distinct)
    query_labels, labels = rng.integers(0, 4, 40), rng.integers(0, 4, 500)
    histograms = metrics.histograms(ours, query_labels, theirs, labels, 12)
    got = metrics.average_precision(*histograms)
    for query, distance in enumerate(codes.hamming(ours, theirs).astype(int)):
        fits = labels == query_labels[query]
        worst = precision_of(fits[np.lexsort([fits, distance])])
        best = precision_of(fits[np.lexsort([~fits, distance])])
        assert got.worst[query] == pytest.approx(worst, rel=1e-12)
        assert got.best[query] == pytest.approx(best, rel=1e-12)
        # Random orders scatter around the expectation.
        shuffled = [fits[np.lexsort([rng.random(500), distance])] for _ in range(200)]
        values = [precision_of(order) for order in shuffled]
        error = 5 * np.std(values) / math.sqrt(200) + 1e-12
        assert abs(got.expected[query] - np.mean(values)) < error


def slow_cut(groups, cutoff):
    """Exact expected and worst, best AP by rational arithmetic, place by place."""
    sums = {"expected": F(0), "worst": F(0), "best": F(0)}
    before = hits = 0

    def spread(r, n):
        slope = F(r - 1, max(n - 1, 1))
        return sum(F(r, n) * (hits + 1 + i * slope) / (before + 1 + i) for i in range(n))

    def at(r, first):
        return sum(F(hits + j, first + j) for j in range(1, r + 1))

    for r, n in groups:
        left = min(n, cutoff - before)
        if left < n:
            low, high = max(0, left - (n - r)), min(r, left)
            ways = {x: math.comb(r, x) * math.comb(n - r, left - x) for x in range(low, high + 1)}
            found = {x: max(hits + x, 1) for x in ways}
            expected = sum(
                F(way, math.comb(n, left)) * (sums["expected"] + spread(x, left)) / found[x]
                for x, way in ways.items()
            )
            worst = min((sums["worst"] + at(x, before + left - x)) / found[x] for x in ways)
            best = max((sums["best"] + at(x, before)) / found[x] for x in ways)
            return [float(value) for value in (expected, worst, best)]
        sums["expected"] += spread(r, n)
        sums["worst"] += at(r, before + n - r)
        sums["best"] += at(r, before)
        before, hits = before + n, hits + r
    return [float(value) / max(hits, 1) for value in sums.values()]


CUTS = [
    ([(3, 5), (40, 200)], 80),
    ([(0, 5), (40, 200)], 80),
    ([(0, 30), (190, 200)], 40),
    ([(25, 25), (0, 30), (20, 150)], 100),
    ([(25, 25), (0, 30), (140, 150)], 100),
    ([(10, 100), (9, 10), (5, 90)], 150),
    ([(0, 10), (1, 200)], 50),
]


@pytest.mark.parametrize("groups, cutoff", CUTS)
def test_cut_inside_large_groups(groups, cutoff):
    histograms = np.array(groups).T[:, None, :]
    got = metrics.mean_average_precision(*histograms, cutoff)
    np.testing.assert_allclose(got, slow_cut(groups, cutoff), rtol=1e-12)


def test_cut_where_the_count_is_summed_in_a_window():
    # 3,000 of 9,000 items are relevant, 4,000 retrieved: x has 3,001 values, the window fewer.
    # Against the whole sum in float64, logarithms of binomials from lgamma.
    r, n, left, before, hits = 3000, 9000, 4000, 50, 20

    def log_comb(a, b):
        return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)

    sums = float(ranking._expected_sum(np.array(hits), np.array(before), 0, 0))
    harmonic = math.fsum(1 / i for i in range(before + 1, before + left + 1))
    expected = 0.0
    for x in range(r + 1):
        chance = log_comb(r, x) + log_comb(n - r, left - x) - log_comb(n, left)
        slope = (x - 1) / (left - 1)
        part = x / left * (left * slope + (hits + 1 - slope * (before + 1)) * harmonic)
        expected += math.exp(chance) * (sums + part) / (hits + x)
    got = metrics.mean_average_precision(
        np.array([[hits, r]]), np.array([[before, n]]), before + left
    )
    assert got.expected == pytest.approx(expected, rel=1e-9)
    assert got.worst < got.expected < got.best


@pytest.mark.parametrize("a, b", [(0, 0), (0, 1), (3, 60), (60, 70), (64, 64), (5, 10**6)])
def test_harmonic(a, b):
    exact = math.fsum(1 / i for i in range(a + 1, b + 1))
    assert ranking.harmonic(a, b) == pytest.approx(exact, rel=1e-14, abs=0)
    # Far out a difference of two logarithms would keep few digits.
    assert ranking.harmonic(10**9, 10**9 + 1) == pytest.approx(1 / (10**9 + 1), rel=1e-14, abs=0)


def slow_histograms(ours, query_labels, theirs, labels, bits):
    result = np.zeros((2, len(ours), bits + 1), int)
    for query, row in enumerate(codes.hamming(ours, theirs)):
        for item, distance in enumerate(row):
            a, b = query_labels[query], labels[item]
            result[0, query, distance] += bool(a == b if a.ndim == 0 else (a & b).any())
            result[1, query, distance] += 1
    return result


@pytest.mark.parametrize("bits", [1, 12, 36, 64, 65, 200, 255, 256, 300])
@pytest.mark.parametrize("distinct", [None, 5])
@pytest.mark.parametrize("classes", [None, 5, 70])
def test_histograms_against_a_loop(bits, distinct, classes):
    rng = np.random.default_rng(bits)
    ours, theirs = packed(rng, 6, bits, distinct), packed(rng, 40, bits, distinct)
    if classes:
        query_labels = rng.random((6, classes)) < 2 / classes
        labels = (rng.random((40, classes)) < 2 / classes).astype(np.uint8)
    else:
        query_labels, labels = rng.integers(0, 3, 6), rng.integers(0, 4, 40)
    got = metrics.histograms(ours, query_labels, theirs, labels, bits)
    slow = slow_histograms(ours, query_labels, theirs, labels, bits)
    np.testing.assert_array_equal(got, slow)


@pytest.mark.parametrize("bits", [255, 256, 300])
@pytest.mark.parametrize("copies", [1, 5])
def test_opposite_codes(bits, copies):
    ours, theirs = codes.pack(np.zeros((1, bits), int)), codes.pack(np.ones((copies, bits), int))
    found, total = metrics.histograms(ours, np.array([1]), theirs, np.ones(copies, int), bits)
    assert found[0, bits] == total[0, bits] == total.sum() == copies


@pytest.mark.parametrize("items", [20001, 20002])
@pytest.mark.parametrize("bits", [36, 255])
def test_long_rows(items, bits):
    rng = np.random.default_rng(items)
    ours, theirs = packed(rng, 3, bits), packed(rng, items, bits)
    query_labels, labels = np.array([0, 1, 1]), rng.integers(0, 2, items)
    found, total = metrics.histograms(ours, query_labels, theirs, labels, bits)
    for query, distance in enumerate(codes.hamming(ours, theirs)):
        same = labels == query_labels[query]
        np.testing.assert_array_equal(total[query], np.bincount(distance, minlength=bits + 1))
        expected = np.bincount(distance[same], minlength=bits + 1)
        np.testing.assert_array_equal(found[query], expected)


@pytest.mark.parametrize("distinct", [60, 4])
def test_database_in_blocks_and_from_a_file(tmp_path, monkeypatch, distinct):
    rng = np.random.default_rng(0)
    ours, theirs = packed(rng, 9, 36, 20), packed(rng, 250, 36, distinct)
    query_labels, labels = rng.integers(0, 3, 9), rng.integers(0, 3, 250)
    whole = metrics.histograms(ours, query_labels, theirs, labels, 36)
    halves = [
        metrics.histograms(ours, query_labels, theirs[part], labels[part], 36)
        for part in (slice(0, 100), slice(100, None))
    ]
    np.testing.assert_array_equal(np.add(*halves), whole)
    monkeypatch.setattr(grouping, "BLOCK", 64)
    np.save(tmp_path / "codes.npy", theirs)
    stored = np.load(tmp_path / "codes.npy", mmap_mode="r")
    got = metrics.histograms(ours, query_labels, stored, labels, 36)
    np.testing.assert_array_equal(got, whole)


def test_order_of_items_does_not_matter():
    rng = np.random.default_rng(0)
    ours, theirs = packed(rng, 9, 12, 20), packed(rng, 250, 12, 20)
    query_labels, labels = rng.integers(0, 3, 9), rng.integers(0, 3, 250)
    order = rng.permutation(250)
    one = metrics.histograms(ours, query_labels, theirs, labels, 12)
    other = metrics.histograms(ours, query_labels, theirs[order], labels[order], 12)
    np.testing.assert_array_equal(one, other)


def test_identical_codes_rank_at_random():
    # 100 equal codes, 30 relevant: precision of the top n is 0.3 for every n.
    same = np.zeros((100, 2), np.uint8)
    labels = np.repeat([0, 1], [30, 70])
    histograms = metrics.histograms(same[:5], np.zeros(5, int), same, labels, 12)
    np.testing.assert_allclose(metrics.top_curve(*histograms, 100).precision, 0.3)
    assert metrics.precision_at(*histograms, 10) == pytest.approx((0.3, 0, 1))
    # Relevant items first: 1. Last, at 71 .. 100: the mean of j / (70 + j).
    got = metrics.mean_average_precision(*histograms)
    worst = np.mean([j / (70 + j) for j in range(1, 31)])
    assert (got.best, got.worst) == pytest.approx((1, worst))


def test_nothing_to_search_and_nobody_asking():
    one, none = np.zeros((1, 5), np.uint8), np.zeros((0, 5), np.uint8)
    empty = metrics.histograms(one, np.array([1]), none, np.zeros(0, int), 36)
    assert metrics.mean_average_precision(*empty) == (0, 0, 0)
    assert metrics.precision_at(*empty, 10) == (0, 0, 0)
    assert metrics.precision_within(*empty, 2).empty == 1
    assert len(metrics.top_curve(*empty, 10).precision) == 0
    nobody = metrics.histograms(none, np.zeros(0, int), one, np.array([1]), 36)
    assert nobody[0].shape == nobody[1].shape == (0, 37)
    assert np.isnan(metrics.mean_average_precision(*nobody)).all()


@pytest.mark.parametrize(
    "ours, query_labels, theirs, labels",
    [
        (np.zeros((1, 4), np.uint8), [0], np.zeros((1, 5), np.uint8), [0]),
        (np.zeros((1, 5), np.uint8), [0, 1], np.zeros((1, 5), np.uint8), [0]),
        (np.zeros((1, 5), np.uint8), [0], np.zeros((1, 5), np.uint8), [0, 1]),
        (np.zeros((1, 5), np.uint8), [0], np.zeros((1, 5), np.uint8), [[0, 1]]),
        (np.zeros((1, 5), np.uint8), [[1]], np.zeros((1, 5), np.uint8), [[0, 1]]),
        (np.zeros((1, 5), np.uint8), [0.5], np.zeros((1, 5), np.uint8), [0]),
    ],
)
def test_what_does_not_fit_is_refused(ours, query_labels, theirs, labels):
    with pytest.raises(ValueError):
        metrics.histograms(ours, query_labels, theirs, labels, 36)


def test_bad_arguments_are_refused():
    histograms = histogram([0, 1], [1, 0], 2)
    for call in (metrics.mean_average_precision, metrics.precision_at, metrics.top_curve):
        with pytest.raises(ValueError, match="at least 1"):
            call(*histograms, 0)
    with pytest.raises(ValueError, match="radius"):
        metrics.precision_within(*histograms, -1)


def test_precision_at_divides_by_what_is_there():
    # Three items, two relevant, the ten nearest asked for: 2 / 3.
    assert metrics.precision_at(*histogram([0, 1, 1], [1, 1, 0], 3), 10) == (2 / 3,) * 3


def test_radius_by_hand():
    # Query one: at 0 a hit; at 1 a miss and a hit. Query two: nothing below 2, one miss there.
    relevant, total = np.array([[1, 1, 0], [0, 0, 0]]), np.array([[1, 2, 0], [0, 0, 1]])
    curve = metrics.radius_curve(relevant, total)
    np.testing.assert_allclose(curve.precision, [1 / 2, (2 / 3) / 2, (2 / 3) / 2])
    np.testing.assert_allclose(curve.precision_nonempty, [1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(curve.recall, [1 / 4, 1 / 2, 1 / 2])
    np.testing.assert_allclose(curve.empty, [1 / 2, 1 / 2, 0])
    assert metrics.precision_within(relevant, total, 0) == (0.5, 1, 0.25, 0.5)
    # Beyond the longest distance lies nothing more.
    assert metrics.precision_within(relevant, total, 9) == metrics.precision_within(
        relevant, total, 2
    )


def test_class_means_by_hand():
    means, counts = metrics.class_means([0.5, 1.0, 0.0], np.array([2, 0, 2]), 4)
    np.testing.assert_array_equal(counts, [1, 0, 2, 0])
    np.testing.assert_array_equal(means, [1, np.nan, 0.25, np.nan])
    means, counts = metrics.class_means([0.5, 1.0], np.array([[1, 1], [0, 1]]))
    np.testing.assert_array_equal(means, [0.5, 0.75])
    np.testing.assert_array_equal(counts, [1, 2])
