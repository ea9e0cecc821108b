"""Implements ITQ-CCA, the iterative quantisation of canonical variates."""

from typing import ClassVar

import numpy as np
import scipy.linalg

from dah_tf.baselines import base, checks, itq, linear
from dah_tf.baselines.rows import blocks
from dah_tf.errors import UserError


class ITQCCA(base.Linear):
    """Iterative quantisation of the canonical variates of features and labels.

    Canonical correlation analysis finds the directions w of X that maximise
    `wᵀ Cxy (Cyy + r I)^-1 Cyx w` under the condition `wᵀ (Cxx + r I) w = 1`. C denotes covariances
    of rows and 0/1 labels. Each direction is multiplied by its canonical correlation, and ITQ
    rotates the results. There are fewer directions than classes. If there are also fewer than bits,
    zeros are added, and the rotation spreads the information over all bits.

    Args:
        n_bits, random_state: the same as for `base.Hasher`.
        rounds: int, the number of rounds of ITQ, as in the paper.
        ridge: float, r, which is added to the diagonals of the covariances. The authors' code has
            1e-4 for features of unit length (cited from memory). Here r is relative to the largest
            entry of the diagonal, so that the scale of the features does not matter.

    Attributes:
        correlations_: float64 array of shape `(p,)`, the canonical correlations in falling order.
        rotation_: float64 array of shape `(n_bits, n_bits)`.
        objectives_: the same as for `itq.ITQ`. It is not saved.

    References:
        Gong, Lazebnik, Gordo and Perronnin, "Iterative quantization: a procrustean approach to
        learning binary codes for large-scale image retrieval", TPAMI 2013.
    """

    TITLE = "ITQ-CCA (2013)"
    SOURCE = "code"
    SUPERVISED = True
    STATE: ClassVar = {**base.Linear.STATE, "correlations_": "p", "rotation_": "kk"}

    def __init__(
        self,
        n_bits: int = 36,
        random_state: int | None = 0,
        *,
        rounds: int = 50,
        ridge: float = 1e-4,
    ):
        super().__init__(n_bits, random_state)
        self.rounds = rounds
        self.ridge = ridge

    def _learn(self, X, supervision, rng):
        checks.whole("rounds", self.rounds, 0)
        checks.number("ridge", self.ridge, above=0)
        self.mean_ = linear.mean(X)
        axes, self.correlations_ = canonical(X, self.mean_, supervision, self.ridge, self.n_bits)
        axes = axes * self.correlations_
        values = np.zeros((len(X), self.n_bits))
        values[:, : axes.shape[1]] = linear.projected(X, self.mean_, axes)
        start = itq.random_rotation(self.n_bits, rng)
        self.rotation_, self.objectives_ = itq.rotate(values, start, self.rounds)
        self.components_ = axes @ self.rotation_[: axes.shape[1]]


def canonical(X, centre, supervision, ridge, most):
    """Returns canonical directions `(d, p)` and their correlations `(p,)`, with p <= `most`.

    Raises:
        UserError: the variation of X is not related to the labels.
    """
    xx = linear.covariance(X, centre)
    xx += ridge * np.diag(xx).max() * np.eye(len(xx))
    sets = supervision.sets
    counts = np.bincount(supervision.groups, minlength=len(sets))
    frequencies = counts @ sets / len(X)
    y = sets - frequencies
    yy = (y * counts[:, None]).T @ y / len(X)
    yy += ridge * np.diag(yy).max() * np.eye(len(yy))
    sums = np.zeros((len(sets), X.shape[1]))
    for rows, block in blocks(X):
        np.add.at(sums, supervision.groups[rows], block - centre)
    xy = sums.T @ y / len(X)  # (d, classes)
    # With xx = L Lᵀ and yy = M Mᵀ, these are the singular vectors of L^-1 xy M^-T.
    lower_x, lower_y = (scipy.linalg.cholesky(each, lower=True) for each in (xx, yy))
    whitened = scipy.linalg.solve_triangular(lower_x, xy, lower=True)
    whitened = scipy.linalg.solve_triangular(lower_y, whitened.T, lower=True).T
    left, correlations, _ = scipy.linalg.svd(whitened, full_matrices=False)
    # One-hot labels sum to 1, so one correlation is always 0.
    kept = np.flatnonzero(correlations > 1e-6)[:most]
    if not len(kept):
        raise UserError(
            "the rows of X do not depend on y: every class has the same mean; check the order of y"
        )
    axes = scipy.linalg.solve_triangular(lower_x, left[:, kept], lower=True, trans="T")
    largest = np.abs(axes).argmax(axis=0)
    return axes * np.sign(axes[largest, np.arange(len(kept))]), correlations[kept]
