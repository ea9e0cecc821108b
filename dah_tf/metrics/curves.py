"""Precision and recall of the top n items, and within a Hamming radius."""

import collections

import numpy as np

from dah_tf.metrics.ranking import Bounds, Cut, mean_bounds

TopCurve = collections.namedtuple("TopCurve", ["precision", "recall"])
Radii = collections.namedtuple("Radii", ["precision", "precision_nonempty", "recall", "empty"])


def precision_at(relevant: np.ndarray, total: np.ndarray, n: int) -> Bounds:
    """Returns the mean precision of the n nearest items.

    Args:
        relevant: int array of shape `(queries, distances)`, from `histograms`.
        total: the same for all items.
        n: int. If the database has fewer items, all of them count, and their number is the
            divisor.

    Returns:
        `Bounds` of floats, which are NaN without queries.

    Raises:
        ValueError: n is below 1.
    """
    cut = Cut(relevant, total, n)
    found, retrieved = cut.relevant.sum(axis=1), cut.total.sum(axis=1) + cut.left
    others = cut.part_total - cut.part_relevant
    parts = (
        cut.left * (cut.part_relevant / np.maximum(cut.part_total, 1)),
        np.maximum(cut.left - others, 0),
        np.minimum(cut.left, cut.part_relevant),
    )
    return mean_bounds(Bounds(*((found + part) / np.maximum(retrieved, 1) for part in parts)))


def top_curve(relevant: np.ndarray, total: np.ndarray, depth: int) -> TopCurve:
    """Returns the expected precision and recall of the n nearest items, for n = 1 to `depth`.

    In a group of ties, each place has a relevant item with the same probability. The expected
    number of relevant items of a query is therefore linear within a group. The slopes of all
    queries are added up at the ends of the groups, so that the cost does not grow with the number
    of queries times the depth.

    Args:
        relevant: int array of shape `(queries, distances)`, from `histograms`.
        total: the same for all items. Each query must have the same number of items.
        depth: int. It is limited to the number of items, which gives the curve over all ranks.

    Returns:
        `TopCurve` of float64 arrays of shape `(depth,)`, means over the queries. Recall is 0 for
        a query without relevant items.

    Raises:
        ValueError: the depth is below 1.
    """
    cut = Cut(relevant, total, None)
    if depth < 1:
        raise ValueError(f"The depth must be at least 1. Received: {depth}")
    sizes = cut.total.sum(axis=1)
    depth = min(depth, int(sizes.min(initial=depth)))
    row, column = np.nonzero(cut.total)
    start = np.minimum(cut.before[row, column], depth)
    end = np.minimum(start + cut.total[row, column], depth)
    slope = cut.relevant[row, column] / cut.total[row, column] / max(len(sizes), 1)
    share = slope / np.maximum(cut.relevant.sum(axis=1), 1)[row]
    found, recall = (
        np.cumsum(
            np.cumsum(
                np.bincount(start, weights=s, minlength=depth + 1)
                - np.bincount(end, weights=s, minlength=depth + 1)
            )[:depth]
        )
        for s in (slope, share)
    )
    return TopCurve(found / np.arange(1, depth + 1), recall)


def radius_curve(relevant: np.ndarray, total: np.ndarray) -> Radii:
    """Returns precision and recall within each Hamming radius from 0 to `bits`.

    Args:
        relevant: int array of shape `(queries, distances)`, from `histograms`.
        total: the same for all items.

    Returns:
        `Radii` of float64 arrays of shape `(distances,)`, means over the queries. `precision`
        counts queries with nothing within the radius as 0. `precision_nonempty` leaves them out,
        and is NaN if there are no others. `empty` is their share.
    """
    relevant, total = np.asarray(relevant), np.asarray(total)
    found, retrieved = relevant.cumsum(axis=1), total.cumsum(axis=1)
    queries = max(len(total), 1)
    filled = (retrieved > 0).sum(axis=0)
    precision = (found / np.maximum(retrieved, 1)).sum(axis=0)
    recall = (found / np.maximum(relevant.sum(axis=1, keepdims=True), 1)).sum(axis=0) / queries
    nonempty = np.divide(precision, filled, out=np.full(len(filled), np.nan), where=filled > 0)
    return Radii(precision / queries, nonempty, recall, 1 - filled / queries)


def precision_within(relevant: np.ndarray, total: np.ndarray, radius: int) -> Radii:
    """Returns `radius_curve` at one radius.

    Returns:
        `Radii` of floats.

    Raises:
        ValueError: the radius is negative.
    """
    if radius < 0:
        raise ValueError(f"The radius must be at least 0. Received: {radius}")
    curve = radius_curve(relevant, total)
    return Radii(*(float(part[min(radius, len(part) - 1)]) for part in curve))


def class_means(
    values: np.ndarray, labels: np.ndarray, classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means of a figure over the queries of each class.

    Args:
        values: float array of shape `(queries,)`, such as one from `average_precision`.
        labels: int array of shape `(queries,)`, or 0/1 array of shape `(queries, classes)`.
        classes: int, the number of classes. By default the labels decide.

    Returns:
        `(means, counts)`, arrays of shape `(classes,)`. The mean of a class without a query is
        NaN.
    """
    values, labels = np.asarray(values, np.float64), np.asarray(labels)
    if labels.ndim == 1:
        counts = np.bincount(labels, minlength=classes or 0)
        sums = np.bincount(labels, weights=values, minlength=classes or 0)
    else:
        counts, sums = (labels > 0).sum(axis=0), values @ (labels > 0)
    means = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return means, counts
