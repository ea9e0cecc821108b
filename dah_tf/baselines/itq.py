"""Implements ITQ, which rotates principal components towards the corners of a cube."""

from typing import ClassVar

import numpy as np
import scipy.linalg

from dah_tf.baselines import base, checks, linear, pcah
from dah_tf.baselines.rows import signs


class ITQ(base.Linear):
    """Iterative quantisation of principal components.

    V denotes the principal components of X. The method minimises `|B - V R|²` over signs B and
    rotations R. It begins with a random rotation and alternates two steps: `B = sgn(V R)`, and R
    as the orthogonal Procrustes solution for B. Then `components_` is the product of the axes and
    R. The rows are neither scaled nor normalised to unit length.

    Args:
        n_bits, random_state: the same as for `base.Hasher`.
        rounds: int, how often the two steps are repeated, as in the paper.

    Attributes:
        rotation_: float64 array of shape `(n_bits, n_bits)`.
        objectives_: float64 array of shape `(rounds,)`, `|B - V R|²` after each round. It is not
            saved.

    References:
        Gong and Lazebnik, "Iterative quantization: a procrustean approach to learning binary
        codes", CVPR 2011.
    """

    TITLE = "ITQ (2013)"
    SOURCE = "paper"
    STATE: ClassVar = {**base.Linear.STATE, "rotation_": "kk"}

    def __init__(self, n_bits: int = 36, random_state: int | None = 0, *, rounds: int = 50):
        super().__init__(n_bits, random_state)
        self.rounds = rounds

    def _learn(self, X, supervision, rng):
        checks.whole("rounds", self.rounds, 0)
        self.mean_, axes, _ = pcah.directions(X, self.n_bits)
        values = linear.projected(X, self.mean_, axes)
        start = random_rotation(self.n_bits, rng)
        self.rotation_, self.objectives_ = rotate(values, start, self.rounds)
        self.components_ = axes @ self.rotation_


def random_rotation(size, rng):
    """Draws an orthogonal matrix uniformly: float64 `(size, size)`."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.sign(np.diag(r))


def rotate(values, rotation, rounds):
    """Finds the rotation that brings values close to their signs.

    Args:
        values: float64 array of shape `(n, k)`, V.
        rotation: float64 array of shape `(k, k)`, the first R.
        rounds: int, the number of rounds.

    Returns:
        R, float64 `(k, k)`, and the objective `|B - V R|²` after each round.
    """
    objectives = []
    size = np.square(values).sum() + values.size
    for _ in range(rounds):
        product = values.T @ signs(values @ rotation)  # Vᵀ B
        # With the singular value decomposition Vᵀ B = U s Wᵀ, R = U Wᵀ maximises tr(Rᵀ Vᵀ B).
        left, strengths, right = scipy.linalg.svd(product, check_finite=False)
        rotation = left @ right
        objectives.append(size - 2 * strengths.sum())
    return rotation, np.array(objectives)
