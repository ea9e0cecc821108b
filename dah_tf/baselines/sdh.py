"""Implements SDH, supervised discrete hashing."""

import numpy as np
import scipy.linalg

from dah_tf import codes
from dah_tf.baselines import base, checks, kernels, linear
from dah_tf.baselines.rows import blocks, signs


class SDH(base.Kernel):
    """Supervised discrete hashing: a linear classifier can read the classes from the codes.

    The labels Y are 0 and 1, and the codes B are signs. F is the kernel `exp(-|x - z|² / (2 s²))`
    to the anchors with an additional column of ones. The method minimises

        |Y - B W|² + l2_labels |W|² + nu (|B - F P|² + l2_kernel |P|²)

    in rounds. A round first updates B by discrete cyclic coordinate descent. It finds the
    exact optimum for one column after another. It repeats this until nothing changes, but at most
    `sweeps` times. Then it finds W and P by
    ridge regression. The hash function is F P. The first B is random.

    The constants are those of the authors' demonstration, except for s. Their s of 0.4 suits
    features of unit length, which the demonstration uses. Here s is the mean distance to the
    anchors unless it is given. Because nu is so small, B becomes one code for each class, and F P
    learns these codes.

    F is computed again in each round, by blocks of rows. The memory holds B, with a byte for each
    row and bit, and `Fᵀ F`.

    Args:
        n_bits, random_state: the same as for `base.Hasher`.
        anchors: int, the number of rows drawn for the kernel. All rows are used if there are fewer.
        sigma: float, s. None takes the mean distance.
        rounds: int, the number of rounds.
        sweeps: int, the largest number of sweeps over the bits in a round.
        nu, l2_labels, l2_kernel: float, the weights in the objective above.

    Attributes:
        objectives_: float64 array of shape `(rounds + 1,)`, the objective at the start and after
            each round. It is not saved.
        learned_codes_: uint8 array, the packed B of the training rows. It is not saved. Papers
            often search among these codes. They depend on the labels of the rows, while the codes
            of `transform` do not.

    References:
        Shen, Shen, Liu and Shen, "Supervised discrete hashing", CVPR 2015. The constants are from
        `bd622/DiscretHashing`.
    """

    TITLE = "SDH (2015)"
    SOURCE = "code"
    SUPERVISED = True

    def __init__(
        self,
        n_bits: int = 36,
        random_state: int | None = 0,
        *,
        anchors: int = 1000,
        sigma: float | None = None,
        rounds: int = 5,
        sweeps: int = 10,
        nu: float = 1e-5,
        l2_labels: float = 1.0,
        l2_kernel: float = 1e-2,
    ):
        super().__init__(n_bits, random_state)
        self.anchors = anchors
        self.sigma = sigma
        self.rounds = rounds
        self.sweeps = sweeps
        self.nu = nu
        self.l2_labels = l2_labels
        self.l2_kernel = l2_kernel

    def _learn(self, X, supervision, rng):
        for name in ("anchors", "rounds", "sweeps"):
            checks.whole(name, getattr(self, name), 1)
        for name in ("nu", "l2_labels", "l2_kernel"):
            checks.number(name, getattr(self, name), above=0)
        self.anchors_ = kernels.draw_anchors(X, self.anchors, rng)
        if self.sigma is None:
            sigma, _ = kernels.mean_distances(X, self.anchors_)
        else:
            checks.number("sigma", self.sigma, above=0)
            sigma = self.sigma
        self.gamma_ = np.float64(1 / (2 * sigma**2))
        B = 2 * rng.integers(0, 2, (len(X), self.n_bits), np.int8) - 1
        size = len(self.anchors_) + 1
        gram = np.zeros((size, size))
        sums = Sums(size, self.n_bits, len(supervision.sets))
        for rows, F in self._kernel(X):
            gram += F.T @ F
            sums.add(F, B[rows].astype(np.float64), supervision.groups[rows])
        factor = scipy.linalg.cho_factor(gram + self.l2_kernel * np.eye(size))
        sets, objectives = supervision.sets, []
        W, P = self._regress(sums, factor, sets)
        objectives.append(self._objective(sums, gram, W, P, supervision))
        for _ in range(self.rounds):
            sums = Sums(size, self.n_bits, len(sets))
            # With W and P fixed, the bits of a row depend only on that row.
            for rows, F in self._kernel(X):
                wanted = (sets @ W.T)[supervision.groups[rows]] + self.nu * (F @ P)
                part = descend(B[rows].astype(np.float64), wanted, W, self.sweeps)
                sums.add(F, part, supervision.groups[rows])
                B[rows] = part
            W, P = self._regress(sums, factor, sets)
            objectives.append(self._objective(sums, gram, W, P, supervision))
        self.components_, self.intercept_ = P[:-1], P[-1]
        self.objectives_ = np.array(objectives)
        self.learned_codes_ = codes.pack(B > 0)

    def _kernel(self, X):
        """Yields slices of rows and their F."""
        for rows, block in blocks(X):
            F = np.ones((len(block), len(self.anchors_) + 1))
            F[:, :-1] = kernels.rbf(block, self.anchors_, self.gamma_)
            yield rows, F

    def _regress(self, sums, factor, sets):
        """Computes the W and P that are best for a given B."""
        bits = len(sums.between)
        W = linear.solve(sums.between + self.l2_labels * np.eye(bits), sums.by_set.T @ sets)
        return W, scipy.linalg.cho_solve(factor, sums.kernel)

    def _objective(self, sums, gram, W, P, supervision):
        """Computes the objective from the sums over the rows."""
        counts = np.bincount(supervision.groups, minlength=len(supervision.sets))
        labels = (
            counts @ supervision.sets
        ).sum()  # This is |Y|², because the entries of Y are 0 and 1.
        labels -= 2 * np.sum(W * (sums.by_set.T @ supervision.sets))
        labels += np.sum(W * (sums.between @ W)) + self.l2_labels * np.square(W).sum()
        kernel = len(supervision.groups) * self.n_bits - 2 * np.sum(P * sums.kernel)
        kernel += np.sum(P * (gram @ P)) + self.l2_kernel * np.square(P).sum()
        return labels + self.nu * kernel


class Sums:
    """Holds `Bᵀ B`, `Fᵀ B`, and the sums of B over each set of labels."""

    def __init__(self, size, bits, sets):
        self.between = np.zeros((bits, bits))
        self.kernel = np.zeros((size, bits))
        self.by_set = np.zeros((sets, bits))

    def add(self, F, B, groups):
        self.between += B.T @ B
        self.kernel += F.T @ B
        np.add.at(self.by_set, groups, B)


def descend(B, wanted, W, sweeps):
    """Discrete cyclic coordinate descent: finds the best column of B given the others, in turn.

    Args:
        B: float64 array of shape `(n, k)` with values ±1. It is changed.
        wanted: float64 array of shape `(n, k)`, `Y Wᵀ + nu F P`.
        W: float64 array of shape `(k, classes)`.
        sweeps: int, the largest number of sweeps.

    Returns:
        B. The value `|B W|² - 2 tr(Bᵀ wanted)` never increases.
    """
    inner = W @ W.T
    np.fill_diagonal(inner, 0)
    for _ in range(sweeps):
        changed = False
        for r in range(B.shape[1]):
            column = signs(wanted[:, r] - B @ inner[:, r])
            changed = changed or not np.array_equal(column, B[:, r])
            B[:, r] = column
        if not changed:
            break
    return B
