"""Yields rows in blocks and computes signs. NumPy only."""

import numpy as np

BLOCK = 2048
"""The number of rows that are converted to float64 at a time."""


def blocks(X, size=BLOCK):
    """Yields slices of rows and those rows in float64."""
    for start in range(0, len(X), size):
        rows = slice(start, min(start + size, len(X)))
        yield rows, X[rows].astype(np.float64, copy=False)


def signs(values):
    """Returns float64 1 where a value is above 0, and -1 elsewhere."""
    return np.where(values > 0, 1.0, -1.0)
