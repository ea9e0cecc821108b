"""Computes the Gaussian kernel between rows and anchors, by blocks of rows. NumPy only."""

import numpy as np

from dah_tf.baselines.rows import blocks


def squared_distances(block, anchors):
    """Returns squared Euclidean distances: float64 `(n, m)` for `(n, d)` rows, `(m, d)` anchors."""
    result = block @ anchors.T
    result *= -2
    result += np.square(block).sum(axis=1)[:, None]
    result += np.square(anchors).sum(axis=1)
    return np.maximum(result, 0, out=result)


def rbf(block, anchors, gamma):
    """Computes `exp(-gamma * |x - z|²)`: float64 `(n, m)`."""
    result = squared_distances(block, anchors)
    result *= -gamma
    return np.exp(result, out=result)


def draw_anchors(X, count, rng):
    """Draws rows without replacement: float64 `(min(count, n), d)`."""
    rows = np.sort(rng.permutation(len(X))[:count])
    return X[rows].astype(np.float64)


def mean_distances(X, anchors):
    """Returns the mean Euclidean distance from rows to anchors, and the mean squared distance."""
    total, squares = 0.0, 0.0
    for _, block in blocks(X):
        distances = squared_distances(block, anchors)
        squares += distances.sum()
        total += np.sqrt(distances, out=distances).sum()
    count = len(X) * len(anchors)
    return total / count, squares / count
