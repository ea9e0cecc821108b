"""Rows that the tests of shallow methods learn from."""

import numpy as np


def blobs(n=300, d=12, classes=4, seed=0, spread=1.0):
    """float64 rows around a centre for each class, and their classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return rng.normal(size=(classes, d))[y] * 1.5 + rng.normal(size=(n, d)) * spread, y


def one_hot(y):
    return np.eye(int(y.max()) + 1)[y]
