"""Rankings by real-valued scores, to compare float features with codes."""

import numpy as np

from dah_tf.metrics.grouping import relevant
from dah_tf.metrics.ranking import Bounds

BLOCK = 64


def cosine_ranking(
    query_features: np.ndarray,
    query_labels: np.ndarray,
    database_features: np.ndarray,
    database_labels: np.ndarray,
    top: int = 1000,
) -> tuple[Bounds, Bounds]:
    """Returns MAP over the whole ranking by cosine similarity, and the precision of the top items.

    Two scores are tied if at most the last bit of their float32 differs. Scores of equal features
    may differ by more than that, because the order of the sums in a matrix product varies.

    Args:
        query_features: float array of shape `(queries, d)`.
        query_labels: int array of shape `(queries,)`, or 0/1 array of shape `(queries, classes)`.
        database_features: float array of shape `(items, d)`.
        database_labels: as `query_labels`, for the database.
        top: int, the number of items that the precision counts.

    Returns:
        `(average precision, precision of the top)`: two `Bounds` of floats, means over the
        queries. `worst` and `best` put the relevant ones of tied items last and first. `expected`
        is None, because ties between float scores are rare.

    Raises:
        ValueError: there is no query or no item, or the arrays do not fit together.
    """
    ours, theirs = _unit(query_features), _unit(database_features)
    if not len(ours) or not len(theirs) or ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"Features do not fit. Received: {ours.shape} and {theirs.shape}")
    sums = np.zeros((2, 2))
    for first in range(0, len(ours), BLOCK):
        part = slice(first, first + BLOCK)
        keys = _descending(ours[part] @ theirs.T)
        fits = relevant(query_labels[part], database_labels)
        # An odd key comes after the even one, so that relevant items are last in the first ranking.
        for row, low in enumerate((fits, ~fits)):
            ranked = np.sort(keys | low, axis=1) & 1 != row
            sums[row] += [_average_precision(ranked), ranked[:, :top].mean(axis=1).sum()]
    worst, best = sums / len(ours)
    return tuple(Bounds(None, float(w), float(b)) for w, b in zip(worst, best, strict=True))


def _unit(features):
    features = np.asarray(features, np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _descending(scores):
    """Converts float32 scores to even uint32 keys in the opposite order."""
    keys = np.ascontiguousarray(scores, np.float32).view(np.uint32)
    negative = keys >> 31 == 1
    keys = np.where(negative, keys, ~keys & np.uint32(0x7FFFFFFF))
    return keys & np.uint32(0xFFFFFFFE)


def _average_precision(ranked):
    """Adds up over the rows the mean precision at their True places; it is 0 without any."""
    total = 0.0
    for row in ranked:
        places = np.flatnonzero(row) + 1
        if len(places):
            total += float(np.mean(np.arange(1, len(places) + 1) / places))
    return total
