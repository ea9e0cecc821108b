"""Codes of sets of images, such that their products are as given similarities ask. NumPy only."""

import numpy as np


def factorised(similar, counts, bits, seed, sweeps=10):
    """Approximates similarities by the products of values in [-1, 1].

    With S_ab = 1 for similar sets and -1 for others, and n_a images in a set, it minimises

        sum_ab n_a n_b (S_ab - h_a . h_b / bits)^2

    over rows h whose values lie in [-1, 1]. This is the sum over all pairs of images if all images
    of a set have one row. The start is random. Each sweep changes one value after another by a step
    of Newton's method, cut off at -1 and 1. A step that would raise the sum is not made.

    Args:
        similar: array of shape `(sets, sets)` of 0 and 1, symmetric.
        counts: array of shape `(sets,)`, n in the formula.
        bits: int.
        seed: int.
        sweeps: int.

    Returns:
        Pair of a float64 array h of shape `(sets, bits)`, and a list of the sum at the start and
        after each sweep.

    References:
        Xia, Pan, Lai, Liu and Yan, "Supervised hashing for image retrieval via image representation
        learning", AAAI 2014.
    """
    wanted = bits * (2.0 * np.asarray(similar, np.float64) - 1.0)
    n = np.asarray(counts, np.float64)
    h = np.random.default_rng(seed).uniform(-1, 1, (len(n), bits))
    sums = [_objective(h, wanted, n)]
    for _ in range(sweeps):
        for row in range(len(n)):
            _improve(h, row, wanted[row], n)
        sums.append(_objective(h, wanted, n))
    return h, sums


def _improve(h, row, wanted, n):
    """Changes the values of a row of h, one after another."""
    errors = h @ h[row] - wanted
    # A pair of two rows occurs twice in the sum, and the pair of a row with itself once.
    weights = 2.0 * n
    weights[row] = n[row]
    for bit in range(h.shape[1]):
        column = h[:, bit].copy()
        own = column[row]
        slope = 4.0 * (n * errors) @ column
        curvature = 4.0 * (n @ column**2 + n[row] * (own**2 + errors[row]))
        low, high = -1.0 - own, 1.0 - own
        if curvature > 0:
            step = np.clip(-slope / curvature, low, high)
        else:
            step = low if slope > 0 else high
        new = errors + step * column
        new[row] += step * own + step**2
        if weights @ new**2 < weights @ errors**2:
            errors, h[row, bit] = new, own + step


def _objective(h, wanted, n):
    """Computes the sum, by blocks of rows."""
    bits, total = h.shape[1], 0.0
    for first in range(0, len(n), 1024):
        block = slice(first, first + 1024)
        total += n[block] @ ((h[block] @ h.T - wanted[block]) / bits) ** 2 @ n
    return float(total)
