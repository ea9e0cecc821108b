"""Tie-aware metrics with graded relevance for multi-label data: NDCG and weighted precision.

The grade of an item is the number of labels that it shares with the query.

References:
    McSherry and Najork, ECIR 2008, for NDCG with ties.
    Zhao et al., Deep semantic ranking based hashing, CVPR 2015, for the gain `2^grade - 1`, the
    discount `log2(1 + place)` and weighted average precision.
"""

import collections

import numpy as np

from dah_tf import codes
from dah_tf.metrics.grouping import check_labels
from dah_tf.metrics.ranking import harmonic

Graded = collections.namedtuple("Graded", ["total", "relevant", "grades", "gains", "ideal"])

CELLS = 1 << 24


def graded_histograms(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
    bits: int,
) -> Graded:
    """Counts items and their grades at each Hamming distance from each query.

    Args:
        query_codes: uint8 array of shape `(queries, ceil(bits / 8))`, packed codes.
        query_labels: 0/1 array of shape `(queries, classes)`.
        database_codes, database_labels: the same for the database. They are read in blocks.
        bits: int, the code length.

    Returns:
        `Graded`. Its arrays of shape `(queries, bits + 1)` are the int64 numbers of `total` and
        `relevant` items, and the float64 sums of `grades` and of `gains`. `ideal`, int64
        `(queries, classes + 1)`, is the number of items of each grade.

    Raises:
        ValueError: the labels are not 0/1 rows, or the arrays do not fit together.
    """
    query_labels = np.asarray(query_labels)
    if query_labels.ndim != 2:
        raise ValueError(
            f"Grades need 0/1 labels of shape (n, classes). Received: {query_labels.shape}"
        )
    queries, classes = query_labels.shape
    length = bits + 1
    ours = (query_labels > 0).astype(np.float32)
    flat = np.zeros((4, queries * length))
    ideal = np.zeros((queries, classes + 1), np.int64)
    step = max(1, CELLS // max(queries, 1))
    for first in range(0, len(database_codes), step):
        part = slice(first, first + step)
        labels = np.asarray(database_labels[part])
        check_labels(query_labels, labels)
        grade = (ours @ (labels > 0).astype(np.float32).T).astype(np.int64)
        cell = (
            codes.hamming(query_codes, database_codes[part]) + length * np.arange(queries)[:, None]
        )
        cell, row = cell.ravel(), (classes + 1) * np.arange(queries)[:, None]
        ideal += np.bincount((grade + row).ravel(), minlength=ideal.size).reshape(ideal.shape)
        grade = grade.ravel()
        for sums, weights in zip(flat, (None, grade > 0, grade, 2.0**grade - 1), strict=True):
            sums += np.bincount(cell, weights, len(sums))
    total, relevant, grades, gains = flat.reshape(4, queries, length)
    return Graded(total.astype(np.int64), relevant.astype(np.int64), grades, gains, ideal)


def ndcg(graded: Graded, cutoff: int | None = None) -> np.ndarray:
    """Returns the expected normalised discounted cumulative gain over all orders of tied items.

    Args:
        graded: `Graded`.
        cutoff: int, the number of items that are retrieved. None is the whole ranking.

    Returns:
        float64 array of shape `(queries,)`. It is 0 for a query that shares no label with any
        item.

    Raises:
        ValueError: the cut-off is below 1.
    """
    if cutoff is not None and cutoff < 1:
        raise ValueError(f"The cut-off must be at least 1. Received: {cutoff}")
    items = int(graded.total.sum(axis=1).max(initial=0))
    discounts = 1.0 / np.log2(np.arange(2, items + 2))
    if cutoff is not None:
        discounts[cutoff:] = 0.0
    upto = np.concatenate([[0.0], np.cumsum(discounts)])
    reached = _spread(graded.total, graded.gains / np.maximum(graded.total, 1), upto)
    best = graded.ideal[:, ::-1]
    grades = np.arange(best.shape[1])[::-1]
    perfect = _spread(best, np.broadcast_to(2.0**grades - 1, best.shape), upto)
    return np.divide(reached, perfect, out=np.zeros(len(reached)), where=perfect > 0)


def _spread(counts, gain, upto):
    """Adds up, over consecutive groups, the gain of one of their items times their discounts."""
    ends = counts.cumsum(axis=1)
    return (gain * (upto[ends] - upto[ends - counts])).sum(axis=1)


def weighted_average_precision(graded: Graded) -> np.ndarray:
    """Returns the expected weighted average precision over all orders of tied items.

    It is the mean, over the relevant items of the whole ranking, of the mean grade of all items up
    to the relevant one.

    Args:
        graded: `Graded`.

    Returns:
        float64 array of shape `(queries,)`. It is 0 for a query that shares no label with any
        item.
    """
    n, r, grades = graded.total, graded.relevant, graded.grades
    before = n.cumsum(axis=1) - n
    sum_before = grades.cumsum(axis=1) - grades
    # An item at place i of a group is relevant with probability r / n. Its expected grade is then
    # grades / r, and that of each of the i - 1 items before it is (r - 1) grades / (r (n - 1)).
    slope = (r - 1) * grades / np.maximum(n * (n - 1), 1)
    start = (r * sum_before + grades) / np.maximum(n, 1) - slope * (before + 1)
    sums = np.where(r > 0, n * slope + start * harmonic(before, before + n), 0.0).sum(axis=1)
    found = r.sum(axis=1)
    return np.divide(sums, found, out=np.zeros(len(found)), where=found > 0)
