"""Runs of consecutive numbers."""

import numpy as np


def spans(first, counts):
    """Joins the runs `first[i], first[i] + 1, ...` of `counts[i]` numbers, for all i in order.

    Args:
        first: integer array of shape `(n,)`.
        counts: integer array of shape `(n,)`.

    Returns:
        int64 array of shape `(counts.sum(),)`.
    """
    counts = np.asarray(counts, np.int64)
    before = np.cumsum(counts) - counts
    return np.repeat(np.asarray(first, np.int64) - before, counts) + np.arange(counts.sum())
