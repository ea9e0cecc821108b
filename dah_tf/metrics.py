"""Retrieval quality of binary codes, exact and without sorting. NumPy only.

A Hamming distance of k-bit codes takes k + 1 values, so all a ranking metric needs of a query is
two histograms over the distance: how many database items lie there, and how many of them are
relevant. `histograms` makes them; equal codes are counted together, so the work grows with the
number of distinct codes. Every other function here starts from these two arrays.

Conventions, which every report states:

- items at the same distance are tied. `expected` is the mean over all orders of tied items,
  `worst` and `best` are the bounds over them;
- average precision divides by the number of relevant items retrieved within the cut-off; it is 0
  for a query that retrieves none;
- relevant is an item of the query's class, or with at least one of the query's labels.

References:
    McSherry and Najork, Computing information retrieval performance measures efficiently in the
    presence of tied scores, ECIR 2008.
    He et al., Hashing as tie-aware learning to rank, CVPR 2018.
"""

import collections

import numpy as np

from dah_tf import codes

BLOCK = 1 << 20

Bounds = collections.namedtuple("Bounds", ["expected", "worst", "best"])


def relevant(query_labels, database_labels):
    """Which items are relevant to which queries.

    Args:
        query_labels: int array of shape `(queries,)`, or 0/1 array of shape `(queries, classes)`.
        database_labels: the same for the database.

    Returns:
        bool array of shape `(queries, items)`: same class, or at least one label in common.

    Raises:
        ValueError: labels of different kinds.
    """
    query_labels, database_labels = (
        np.asarray(query_labels),
        np.asarray(database_labels),
    )
    _check_labels(query_labels, database_labels)
    if query_labels.ndim == 1:
        return query_labels[:, None] == database_labels[None, :]
    # Counts of common labels are small integers: exact in float32.
    return query_labels.astype(np.float32) @ database_labels.astype(np.float32).T > 0


def histograms(query_codes, query_labels, database_codes, database_labels, bits):
    """Database items and relevant ones at each Hamming distance from each query.

    The database may be larger than memory: arrays of `np.load(..., mmap_mode="r")` are read in
    blocks, and histograms of parts of a database may be added.

    Args:
        query_codes: uint8 array of shape `(queries, ceil(bits / 8))`, packed codes.
        query_labels: int array of shape `(queries,)`, or 0/1 array of shape `(queries, classes)`.
        database_codes: uint8 array of shape `(items, ceil(bits / 8))`.
        database_labels: as `query_labels`, for the database.
        bits: int, code length.

    Returns:
        `(relevant, total)`: int64 arrays of shape `(queries, bits + 1)`.

    Raises:
        ValueError: arrays that do not fit together.
    """
    queries = Grouped(query_codes, query_labels, bits)
    result = np.zeros((2, len(queries.counts), bits + 1), np.int64)
    for database in grouped_blocks(database_codes, database_labels, bits):
        _check_labels(queries.sets, database.sets)
        _add_histograms(queries, database, result)
    return result[0][queries.member], result[1][queries.member]


class Grouped:
    """Items with equal code and equal labels, counted together.

    Attributes:
        words: uint64 array of shape `(groups, words)`, the groups' codes.
        labels: int array of shape `(groups,)`, rows of `sets`.
        sets: the distinct labels (or rows of labels), sorted.
        counts: int64 array of shape `(groups,)`.
        member: int array of shape `(items,)`, the group of each item.
    """

    def __init__(self, packed, labels, bits):
        packed, labels = codes.check(packed, bits), np.asarray(labels)
        if len(packed) != len(labels):
            raise ValueError(
                f"Codes and labels differ in number: {len(packed)}, {len(labels)}"
            )
        words, code = _distinct(codes.words(packed))
        self.sets, label = _distinct(labels)
        key = code * max(len(self.sets), 1) + label
        keys, self.member, self.counts = np.unique(
            key, return_inverse=True, return_counts=True
        )
        code, self.labels = np.divmod(keys, max(len(self.sets), 1))
        self.words = words[code]


def grouped_blocks(packed, labels, bits, block=BLOCK):
    """`Grouped` parts of a database, read `block` items at a time."""
    if len(packed) != len(labels):
        raise ValueError(
            f"Codes and labels differ in number: {len(packed)}, {len(labels)}"
        )
    for first in range(0, len(packed), block):
        yield Grouped(
            packed[first : first + block], labels[first : first + block], bits
        )


def average_precision(relevant, total, cutoff=None):
    """Tie-aware average precision of each query.

    Args:
        relevant: int array of shape `(queries, distances)`, from `histograms`.
        total: the same for all items.
        cutoff: int, how many items are retrieved; None for the whole ranking.

    Returns:
        `Bounds` of float64 arrays of shape `(queries,)`. With a cut-off inside a group of ties
        even the divisor depends on the order; `expected` sums over its distribution.

    Raises:
        ValueError: a cut-off below 1.
    """
    cut = _Cut(relevant, total, cutoff)
    r, n, before_r, before = cut.relevant, cut.total, cut.before_relevant, cut.before
    sums = (
        _expected_sum(r, n, before_r, before).sum(axis=1),
        _last_sum(r, n, before_r, before).sum(axis=1),
        _first_sum(r, before_r, before).sum(axis=1),
    )
    found = r.sum(axis=1)
    result = [np.divide(s, found, out=np.zeros(len(s)), where=found > 0) for s in sums]
    rows = np.flatnonzero(cut.left)
    if len(rows):
        part = (cut.part_relevant[rows], cut.part_total[rows], cut.left[rows])
        ranked = (found[rows], n[rows].sum(axis=1))
        for values, function, total_so_far in zip(
            result, (_expected_part, _worst_part, _best_part), sums, strict=True
        ):
            values[rows] = function(*part, *ranked, total_so_far[rows])
    return Bounds(*result)


def mean_average_precision(relevant, total, cutoff=None):
    """Tie-aware MAP: mean of `average_precision` over the queries.

    Returns:
        `Bounds` of floats; NaN without queries.
    """
    return _mean(average_precision(relevant, total, cutoff))


def _mean(bounds):
    return Bounds(*(float(v.mean()) if len(v) else float("nan") for v in bounds))


def _check_labels(a, b):
    if a.ndim not in (1, 2) or a.ndim != b.ndim or a.shape[1:] != b.shape[1:]:
        raise ValueError(
            "Labels are int (n,) or 0/1 (n, classes), alike for queries and database. "
            f"Received: shapes {a.shape} and {b.shape}"
        )


def _distinct(rows):
    """Distinct entries or rows, sorted, and the number of each."""
    if rows.ndim == 2 and rows.shape[1] == 1:
        values, member = np.unique(rows[:, 0], return_inverse=True)
        return values[:, None], member
    if rows.ndim == 1 or not len(rows):
        return np.unique(rows, return_inverse=True, axis=0)
    # Rows as one opaque scalar each: sorting these is much faster than axis=0.
    packed = np.ascontiguousarray(rows)
    opaque = packed.view(np.dtype((np.void, packed.dtype.itemsize * packed.shape[1])))[
        :, 0
    ]
    _, first, member = np.unique(opaque, return_index=True, return_inverse=True)
    return packed[first], member


def _add_histograms(queries, database, result):
    """Adds the histograms of one database part to `result`, for each distinct query."""
    bits = result.shape[2] - 1
    unweighted = 2 * len(database.counts) > database.counts.sum()
    for label in range(len(queries.sets)):
        # The query's relevant items first: both histograms come from one row of distances.
        fits = relevant(queries.sets[label : label + 1], database.sets)[0][
            database.labels
        ]
        order = np.concatenate([np.flatnonzero(fits), np.flatnonzero(~fits)])
        counts = database.counts[order]
        if unweighted:
            order = np.repeat(order, counts)
            split, weights = counts[: fits.sum()].sum(), None
        else:
            split, weights = fits.sum(), counts.astype(np.float64)
        columns = np.ascontiguousarray(database.words[order].T)
        differing = np.empty(len(order), np.uint64)
        distance = np.zeros(len(order) + 1, np.uint8 if bits < 256 else np.uint16)[:-1]
        for row in np.flatnonzero(queries.labels == label):
            _distances(columns, queries.words[row], differing, distance)
            for part, target in ((slice(0, split), 0), (slice(split, None), 1)):
                w = None if weights is None else weights[part]
                found = _histogram(distance[part], bits + 1, w)
                result[1, row] += found
                if target == 0:
                    result[0, row] += found


def _distances(columns, query, differing, distance):
    np.bitwise_xor(columns[0], query[0], out=differing)
    np.bitwise_count(differing, out=distance, casting="unsafe")
    for column, word in zip(columns[1:], query[1:], strict=True):
        np.bitwise_xor(column, word, out=differing)
        distance += np.bitwise_count(differing)


def _histogram(distance, length, weights=None):
    if weights is not None:
        return np.rint(np.bincount(distance, weights, length)).astype(np.int64)
    return np.bincount(distance, minlength=length)


class _Cut:
    """Histograms cut after `cutoff` items: whole groups of ties, and one that is split.

    Attributes:
        relevant, total: whole groups, 0 beyond the cut-off; `(queries, distances)`.
        before_relevant, before: items at smaller distances; the same shape.
        left: `(queries,)`, items retrieved from the split group (0 where none is split).
        part_relevant, part_total: `(queries,)`, the split group.
    """

    def __init__(self, relevant, total, cutoff):
        relevant, total = np.asarray(relevant, np.int64), np.asarray(total, np.int64)
        if relevant.shape != total.shape or relevant.ndim != 2:
            raise ValueError(f"Histograms differ: {relevant.shape} and {total.shape}")
        if cutoff is not None and cutoff < 1:
            raise ValueError(f"A cut-off is at least 1. Received: {cutoff}")
        self.before = total.cumsum(axis=1) - total
        self.before_relevant = relevant.cumsum(axis=1) - relevant
        rows = len(total)
        self.left = np.zeros(rows, np.int64)
        self.part_relevant, self.part_total = self.left.copy(), self.left.copy()
        self.relevant, self.total = relevant, total
        if cutoff is None:
            return
        whole = self.before + total <= cutoff
        self.relevant, self.total = (
            np.where(whole, relevant, 0),
            np.where(whole, total, 0),
        )
        split = ~whole & (self.before < cutoff)
        row, column = np.nonzero(split)
        self.left[row] = cutoff - self.before[row, column]
        self.part_relevant[row] = relevant[row, column]
        self.part_total[row] = total[row, column]


def _harmonic(a, b):
    """Sum of 1 / i for i from a + 1 to b; exact to some 1e-16 also for long, late ranges."""
    a, b = np.broadcast_arrays(np.asarray(a, np.int64), np.asarray(b, np.int64))
    table = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, 65))])
    low = table[np.minimum(b, 64)] - table[np.minimum(a, 64)]
    x, y = np.maximum(a, 64).astype(np.float64), np.maximum(b, 64).astype(np.float64)
    # Euler and Maclaurin: H(n) = ln n + c + 1/(2n) - 1/(12 n^2) + 1/(120 n^4) - ...
    tail = (1 / y - 1 / x) / 2 - (y**-2 - x**-2) / 12 + (y**-4 - x**-4) / 120
    return low + np.log1p((y - x) / x) + tail


def _expected_sum(r, n, before_r, before):
    """Expected sum of the precisions at a tied group's relevant items.

    An item at place i of the group is relevant with probability r / n, and then each of the i - 1
    before it with (r - 1) / (n - 1). So the sum over i of
    r / n * (before_r + 1 + (i - 1) (r - 1) / (n - 1)) / (before + i), in closed form.
    """
    slope = (r - 1) / np.maximum(n - 1, 1)
    fraction = r / np.maximum(n, 1)
    start = before_r + 1 - slope * (before + 1)
    return np.where(
        r > 0, fraction * (n * slope + start * _harmonic(before, before + n)), 0.0
    )


def _first_sum(r, before_r, before):
    """The same with the group's relevant items first: sum of (before_r + j) / (before + j)."""
    return r + (before_r - before) * _harmonic(before, before + r)


def _last_sum(r, n, before_r, before):
    """The same with the group's relevant items last."""
    return _first_sum(r, before_r, before + n - r)


def _expected_part(r, n, left, before_r, before, sums):
    """Expected average precision where `left` of the n items of a split group are retrieved.

    The number x of relevant ones among them is hypergeometric; given x they are in random order.
    So the sum over x of P(x) (sums + expected sum of x among left) / (before_r + x).
    """
    result = np.empty(len(r))
    low, high = np.maximum(0, left - (n - r)), np.minimum(r, left)
    # Hoeffding: x is farther than sqrt(20 left) from its mean with probability below 1e-17.
    reach = np.ceil(np.sqrt(20.0 * left)).astype(np.int64)
    mean = left * (r / n)
    low = np.maximum(low, np.floor(mean).astype(np.int64) - reach)
    high = np.minimum(high, np.ceil(mean).astype(np.int64) + reach)
    step = max(1, (1 << 21) // int((high - low).max() + 1))
    for first in range(0, len(r), step):
        rows = slice(first, first + step)
        columns = [
            v[rows, None] for v in (r, n, left, before_r, before, sums, low, high)
        ]
        result[rows] = _sum_over_counts(*columns)
    return result


def _sum_over_counts(r, n, left, before_r, before, sums, low, high):
    x = low + np.arange(int((high - low).max()) + 1)
    inside = x <= high
    x = np.minimum(x, high)
    # P(x) / P(x - 1), from the hypergeometric law.
    ratio = (
        (r - x + 1.0)
        * (left - x + 1)
        / (np.maximum(x, 1.0) * np.maximum(n - r - left + x, 1))
    )
    ratio[:, 0] = 1.0
    logs = np.where(
        inside, np.cumsum(np.log(np.where(inside, ratio, 1.0)), axis=1), -np.inf
    )
    weight = np.exp(logs - logs.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    slope = (x - 1) / np.maximum(left - 1, 1)
    start = before_r + 1 - slope * (before + 1)
    part = x / left * (left * slope + start * _harmonic(before, before + left))
    found = before_r + x
    return (
        weight * np.where(found > 0, (sums + part) / np.maximum(found, 1), 0.0)
    ).sum(axis=1)


def _best_part(r, n, left, before_r, before, sums):
    """Best average precision where a group is split.

    Each further relevant item, put first, adds a larger precision than the one before, so the
    mean over the relevant items falls and then rises with their number: an end of the range is best.
    """
    ends = [np.maximum(0, left - (n - r)), np.minimum(r, left)]
    return np.maximum(
        *(_ratio(sums + _first_sum(x, before_r, before), before_r + x) for x in ends)
    )


def _worst_part(r, n, left, before_r, before, sums):
    """Worst average precision where a group is split.

    With x relevant items put last, one more adds (before_r + 1) / (before + left - x) to the sum and
    moves the others' precision by 1 / position: a growing amount, so the mean falls while that
    is below the mean, then rises. Bisection finds the turn.
    """
    low, high = np.maximum(0, left - (n - r)), np.minimum(r, left)

    def mean(x):
        return _ratio(sums + _last_sum(x, left, before_r, before), before_r + x)

    def step(x):
        end = before + left
        return (before_r + 1) / np.maximum(end - x, 1) + _harmonic(end - x, end)

    while (low < high).any():
        middle = (low + high) // 2
        falls = (step(middle) < mean(middle)) & (before_r + middle > 0) & (low < high)
        low, high = np.where(falls, middle + 1, low), np.where(falls, high, middle)
    return mean(low)


def _ratio(sums, found):
    return np.where(found > 0, sums / np.maximum(found, 1), 0.0)
