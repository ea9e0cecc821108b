"""Computes means, covariances and ridge regressions over blocks of rows. NumPy and SciPy."""

import numpy as np
import scipy.linalg

from dah_tf.baselines.rows import blocks


def mean(X):
    """Returns the mean row: float64 `(d,)`."""
    return sum(block.sum(axis=0) for _, block in blocks(X)) / len(X)


def covariance(X, centre):
    """Computes `(X - centre)ᵀ (X - centre) / n`: float64 `(d, d)`."""
    result = np.zeros((X.shape[1], X.shape[1]))
    for _, block in blocks(X):
        block = block - centre
        result += block.T @ block
    return result / len(X)


def principal(X, most):
    """Computes the principal axes of the directions in which X varies.

    Args:
        X: float array of shape `(n, d)`.
        most: int, the largest number of axes.

    Returns:
        Three float64 arrays: the mean `(d,)`; the axes `(d, p)`, with p of at most `most`; and the
        variances `(p,)`. The axes are sorted by falling variance. In each axis, the entry with the
        largest absolute value is positive.
    """
    centre, d = mean(X), X.shape[1]
    first = max(d - most, 0)
    values, axes = scipy.linalg.eigh(covariance(X, centre), subset_by_index=(first, d - 1))
    values, axes = values[::-1], axes[:, ::-1]
    # Smaller variances come only from the rounding of X's numbers.
    kept = values > np.finfo(X.dtype).eps * values[0]
    values, axes = values[kept], axes[:, kept]
    largest = np.abs(axes).argmax(axis=0)
    return centre, axes * np.sign(axes[largest, np.arange(axes.shape[1])]), values


def projected(X, centre, axes):
    """Computes `(X - centre) @ axes`: float64 `(n, p)`."""
    result = np.empty((len(X), axes.shape[1]))
    for rows, block in blocks(X):
        result[rows] = (block - centre) @ axes
    return result


def solve(matrix, right):
    """Solves a symmetric positive definite system."""
    return scipy.linalg.solve(matrix, right, assume_a="pos", check_finite=False)
