"""Rankings by real-valued scores: what float features reach beside codes."""

import numpy as np

from dah_tf.metrics.grouping import relevant
from dah_tf.metrics.ranking import Bounds

BLOCK = 64


def cosine_ranking(query_features, query_labels, database_features, database_labels, top=1000):
    """MAP over the whole ranking by cosine similarity, and precision of the top.

    Scores that agree in all of float32's bits but the last count as tied. Products of equal
    features may differ by more than that, by how a matrix product is summed.

    Args:
        query_features: float array of shape `(queries, d)`.
        query_labels: int array of shape `(queries,)`, or 0/1 array of shape `(queries, classes)`.
        database_features: float array of shape `(items, d)`.
        database_labels: as `query_labels`, for the database.
        top: int, how many items the precision counts.

    Returns:
        `(average precision, precision of the top)`: two `Bounds` of floats, means over the
        queries. Worst and best put the relevant ones of tied items last and first; expected is
        None: ties among float scores are rare.

    Raises:
        ValueError: no query, no item, or arrays that do not fit together.
    """
    ours, theirs = _unit(query_features), _unit(database_features)
    if not len(ours) or not len(theirs) or ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"Features do not fit. Received: {ours.shape} and {theirs.shape}")
    sums = np.zeros((2, 2))
    for first in range(0, len(ours), BLOCK):
        part = slice(first, first + BLOCK)
        keys = _descending(ours[part] @ theirs.T)
        fits = relevant(query_labels[part], database_labels)
        # An odd key comes after its even neighbour: in the first ranking relevant items are last.
        for row, low in enumerate((fits, ~fits)):
            ranked = np.sort(keys | low, axis=1) & 1 != row
            sums[row] += [_average_precision(ranked), ranked[:, :top].mean(axis=1).sum()]
    worst, best = sums / len(ours)
    return tuple(Bounds(None, float(w), float(b)) for w, b in zip(worst, best, strict=True))


def _unit(features):
    features = np.asarray(features, np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _descending(scores):
    """Even uint32 keys that ascend where float32 scores descend."""
    keys = np.ascontiguousarray(scores, np.float32).view(np.uint32)
    negative = keys >> 31 == 1
    keys = np.where(negative, keys, ~keys & np.uint32(0x7FFFFFFF))
    return keys & np.uint32(0xFFFFFFFE)


def _average_precision(ranked):
    """Sum over rows of the mean precision at their True places; 0 for a row without any."""
    total = 0.0
    for row in ranked:
        places = np.flatnonzero(row) + 1
        if len(places):
            total += float(np.mean(np.arange(1, len(places) + 1) / places))
    return total
