"""Tie-aware average precision from distance histograms, in closed form.

References:
    McSherry and Najork, Computing information retrieval performance measures efficiently in the
    presence of tied scores, ECIR 2008.
    He et al., Hashing as tie-aware learning to rank, CVPR 2018.
"""

import collections

import numpy as np

Bounds = collections.namedtuple("Bounds", ["expected", "worst", "best"])


def average_precision(relevant: np.ndarray, total: np.ndarray, cutoff: int | None = None) -> Bounds:
    """Returns the tie-aware average precision of each query.

    Args:
        relevant: int array of shape `(queries, distances)`, from `histograms`.
        total: the same for all items.
        cutoff: int, the number of items that are retrieved. None is the whole ranking.

    Returns:
        `Bounds` of float64 arrays of shape `(queries,)`. If the cut-off is inside a group of ties,
        the divisor depends on the order too; `expected` sums over its distribution.

    Raises:
        ValueError: the cut-off is below 1.
    """
    cut = Cut(relevant, total, cutoff)
    r, n, before_r, before = cut.relevant, cut.total, cut.before_relevant, cut.before
    sums = (
        _expected_sum(r, n, before_r, before).sum(axis=1),
        _last_sum(r, n, before_r, before).sum(axis=1),
        _first_sum(r, before_r, before).sum(axis=1),
    )
    found = r.sum(axis=1)
    result = [_ratio(part, found) for part in sums]
    rows = np.flatnonzero(cut.left)
    if len(rows):
        part = (cut.part_relevant[rows], cut.part_total[rows], cut.left[rows])
        ranked = (found[rows], n[rows].sum(axis=1))
        for values, function, total_so_far in zip(
            result, (_expected_part, _worst_part, _best_part), sums, strict=True
        ):
            values[rows] = function(*part, *ranked, total_so_far[rows])
    return Bounds(*result)


def mean_average_precision(
    relevant: np.ndarray, total: np.ndarray, cutoff: int | None = None
) -> Bounds:
    """Returns the tie-aware MAP, the mean of `average_precision` over the queries.

    Returns:
        `Bounds` of floats, which are NaN without queries.
    """
    return mean_bounds(average_precision(relevant, total, cutoff))


def mean_bounds(bounds):
    """Returns the `Bounds` of the means over the queries, which are NaN without queries."""
    return Bounds(*(float(v.mean()) if len(v) else float("nan") for v in bounds))


class Cut:
    """Histograms that are cut after `cutoff` items.

    They consist of whole groups of ties and, for some queries, one group that the cut-off splits.

    Attributes:
        relevant, total: the whole groups, `(queries, distances)`, with 0 beyond the cut-off.
        before_relevant, before: the numbers of items at smaller distances, of the same shape.
        left: `(queries,)`, the items that are retrieved from the split group; 0 if there is none.
        part_relevant, part_total: `(queries,)`, the items of the split group.
    """

    def __init__(self, relevant, total, cutoff):
        relevant, total = np.asarray(relevant, np.int64), np.asarray(total, np.int64)
        if relevant.shape != total.shape or relevant.ndim != 2:
            raise ValueError(f"Histograms differ: {relevant.shape} and {total.shape}")
        if cutoff is not None and cutoff < 1:
            raise ValueError(f"The cut-off must be at least 1. Received: {cutoff}")
        self.before = total.cumsum(axis=1) - total
        self.before_relevant = relevant.cumsum(axis=1) - relevant
        rows = len(total)
        self.left = np.zeros(rows, np.int64)
        self.part_relevant, self.part_total = self.left.copy(), self.left.copy()
        self.relevant, self.total = relevant, total
        if cutoff is None:
            return
        whole = self.before + total <= cutoff
        self.relevant, self.total = np.where(whole, (relevant, total), 0)
        split = ~whole & (self.before < cutoff)
        row, column = np.nonzero(split)
        self.left[row] = cutoff - self.before[row, column]
        self.part_relevant[row] = relevant[row, column]
        self.part_total[row] = total[row, column]


def harmonic(a, b):
    """Returns the sum of 1 / i for i from a + 1 to b, with an error of about 1e-16.

    This also holds for long ranges with large numbers.
    """
    a, b = np.broadcast_arrays(np.asarray(a, np.int64), np.asarray(b, np.int64))
    table = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, 65))])
    low = table[np.minimum(b, 64)] - table[np.minimum(a, 64)]
    x, y = np.maximum(a, 64).astype(np.float64), np.maximum(b, 64).astype(np.float64)
    # Only the difference of the logarithms can be large, and log1p computes it exactly.
    return low + np.log1p((y - x) / x) + (_beyond_log(1 / y) - _beyond_log(1 / x))


def _beyond_log(u):
    """Returns the series of Euler and Maclaurin for u = 1 / n.

    It is H(n) - ln n - c = u/2 - u^2/12 + u^4/120 - u^6/252 + ...
    """
    square = u * u
    return u / 2 - square * (1 / 12 - square * (1 / 120 - square / 252))


def _expected_sum(r, n, before_r, before):
    """Returns the expected sum of the precisions at the relevant items of a tied group.

    An item at place i of the group is relevant with probability r / n. Each of the i - 1 items
    before it is then relevant with probability (r - 1) / (n - 1). The result is the closed form of
    the sum over i of r / n * (before_r + 1 + (i - 1) (r - 1) / (n - 1)) / (before + i).
    """
    slope = (r - 1) / np.maximum(n - 1, 1)
    fraction = r / np.maximum(n, 1)
    start = before_r + 1 - slope * (before + 1)
    return np.where(r > 0, fraction * (n * slope + start * harmonic(before, before + n)), 0.0)


def _first_sum(r, before_r, before):
    """Returns the sum if the relevant items come first: that of (before_r + j) / (before + j)."""
    return r + (before_r - before) * harmonic(before, before + r)


def _last_sum(r, n, before_r, before):
    """Returns the sum if the relevant items of the group come last."""
    return _first_sum(r, before_r, before + n - r)


def _expected_part(r, n, left, before_r, before, sums):
    """Returns the expected average precision if `left` of the n items of a group are retrieved.

    The number x of relevant items among them is hypergeometric, and for a given x their order is
    random. The result is the sum over x of
    P(x) (sums + expected sum of x among left) / (before_r + x).
    """
    result = np.empty(len(r))
    low, high = np.maximum(0, left - (n - r)), np.minimum(r, left)
    # By Hoeffding and Serfling, x is farther from its mean with a probability below 1e-17.
    reach = np.ceil(np.sqrt(20.0 * left * ((n - left + 1) / n))).astype(np.int64)
    mean = left * (r / n)
    low = np.maximum(low, np.floor(mean).astype(np.int64) - reach)
    high = np.minimum(high, np.ceil(mean).astype(np.int64) + reach)
    step = max(1, (1 << 21) // int((high - low).max() + 1))
    for first in range(0, len(r), step):
        rows = slice(first, first + step)
        columns = [v[rows, None] for v in (r, n, left, before_r, before, sums, low, high)]
        result[rows] = _sum_over_counts(*columns)
    return result


def _sum_over_counts(r, n, left, before_r, before, sums, low, high):
    x = low + np.arange(int((high - low).max()) + 1)
    inside = x <= high
    x = np.minimum(x, high)
    # This is P(x) / P(x - 1) of the hypergeometric distribution.
    ratio = (r - x + 1.0) * (left - x + 1) / (np.maximum(x, 1.0) * np.maximum(n - r - left + x, 1))
    ratio[:, 0] = 1.0
    logs = np.cumsum(np.log(np.where(inside, ratio, 1.0)), axis=1)
    weight = np.where(inside, np.exp(logs - logs.max(axis=1, keepdims=True)), 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    values = _ratio(sums + _expected_sum(x, left, before_r, before), before_r + x)
    return (weight * values).sum(axis=1)


def _best_part(r, n, left, before_r, before, sums):
    """Returns the best average precision if a group is split.

    Each further relevant item, put first, adds a larger precision than the one before. The mean
    over the relevant items therefore falls and then rises with their number, so that the best
    number is one of the two ends of the range.
    """
    ends = [np.maximum(0, left - (n - r)), np.minimum(r, left)]
    return np.maximum(*(_ratio(sums + _first_sum(x, before_r, before), before_r + x) for x in ends))


def _worst_part(r, n, left, before_r, before, sums):
    """Returns the worst average precision if a group is split.

    If x relevant items are put last, one more adds (before_r + 1) / (before + left - x) to the
    sum, and 1 / position for each of the others. This step grows with x. The mean falls as long as
    the step is smaller than the mean, and then it rises. Bisection finds this point.
    """
    low, high = np.maximum(0, left - (n - r)), np.minimum(r, left)

    def mean(x):
        return _ratio(sums + _last_sum(x, left, before_r, before), before_r + x)

    def step(x):
        end = before + left
        return (before_r + 1) / np.maximum(end - x, 1) + harmonic(end - x, end)

    while (low < high).any():
        middle = (low + high) // 2
        falls = (step(middle) < mean(middle)) & (before_r + middle > 0) & (low < high)
        low, high = np.where(falls, middle + 1, low), np.where(falls, high, middle)
    return mean(low)


def _ratio(sums, found):
    """Divides sums by the number of relevant items that were found, or returns 0 for none."""
    return np.where(found > 0, sums / np.maximum(found, 1), 0.0)
