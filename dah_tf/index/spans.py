"""Runs of consecutive numbers."""

import numpy as np


def spans(first, counts):
    """Numbers `first[i], first[i] + 1, ...`, `counts[i]` of them for each i, one after the other.

    Args:
        first: integer array of shape `(n,)`.
        counts: integer array of shape `(n,)`.

    Returns:
        int64 array of shape `(counts.sum(),)`.
    """
    counts = np.asarray(counts, np.int64)
    before = np.cumsum(counts) - counts
    return np.repeat(np.asarray(first, np.int64) - before, counts) + np.arange(counts.sum())
