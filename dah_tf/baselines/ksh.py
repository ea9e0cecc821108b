"""Implements KSH, supervised hashing with kernels."""

import numpy as np
import scipy.linalg

from dah_tf.baselines import base, checks, kernels
from dah_tf.baselines.rows import blocks, signs

DOUBLINGS = 50


class KSH(base.Kernel):
    """Supervised hashing with kernels: inner products of codes approximate the similarities.

    S is 1 for similar rows and -1 for dissimilar rows. The method minimises `|H Hᵀ / k - S|²` over
    bits `h_r = sgn(K a_r)`. K is the kernel `exp(-|x - z|² / (2 s))` to the anchors minus its mean,
    and s is the mean squared distance to the anchors. The bits are learned one after another. The
    residue is R = k S at the start, and becomes R - h hᵀ after each bit. Each bit takes three
    steps:

    1. a becomes the first generalised eigenvector of `(Kᵀ R K, Kᵀ K)`, scaled to `aᵀ Kᵀ K a = n`.
    2. Nesterov's accelerated gradient minimises `-fᵀ R f` for `f = tanh(K a / 2)`. It finds its
       step sizes by doubling, and ends when a step gains less than `tolerance * n`.
    3. The a of step 2 is kept if `hᵀ R h` of its signs is larger than that of the eigenvector.

    The constants are those of the authors' demonstration, which draws 2,000 rows to learn from. R
    is never formed, because a product with R needs only the sums of each class and the bits so far.
    The memory holds K, with 4 bytes for each row and anchor, and another 8 bytes for each row and
    bit. We add a small value to the diagonal of `Kᵀ K`, so that step 1 does not fail if anchors are
    equal.

    Args:
        n_bits, random_state: the same as for `base.Hasher`.
        anchors: int, the number of rows drawn for the kernel. All rows are used if there are fewer.
        samples: int, the number of rows drawn to learn from. None takes all rows.
        steps: int, the largest number of steps of the gradient method for a bit.
        tolerance: float, the limit in step 2 above.

    Attributes:
        gains_: float64 array of shape `(n_bits,)`, `hᵀ R h / n²` of each bit. It is not saved.

    References:
        Liu, Wang, Ji, Jiang and Chang, "Supervised hashing with kernels", CVPR 2012. The constants
        are from `ColumbiaDVMM/Supervised-Hashing-with-Kernels`.
    """

    TITLE = "KSH (2012)"
    SOURCE = "code"
    SUPERVISED = True

    def __init__(
        self,
        n_bits: int = 36,
        random_state: int | None = 0,
        *,
        anchors: int = 300,
        samples: int | None = None,
        steps: int = 500,
        tolerance: float = 1e-2,
    ):
        super().__init__(n_bits, random_state)
        self.anchors = anchors
        self.samples = samples
        self.steps = steps
        self.tolerance = tolerance

    def _learn(self, X, supervision, rng):
        checks.whole("anchors", self.anchors, 1)
        checks.whole("steps", self.steps, 0)
        checks.number("tolerance", self.tolerance, least=0)
        if self.samples is not None:
            checks.whole("samples", self.samples, 2)
            if self.samples < len(X):
                rows = np.sort(rng.permutation(len(X))[: self.samples])
                X, supervision = X[rows], supervision.subset(rows)
        self.anchors_ = kernels.draw_anchors(X, self.anchors, rng)
        _, squared = kernels.mean_distances(X, self.anchors_)
        self.gamma_ = np.float64(1 / (2 * squared))
        size = len(self.anchors_)
        K, gram = np.empty((len(X), size), np.float32), np.zeros((size, size))
        centre = np.zeros(size)
        for rows, block in blocks(X):
            kernel = kernels.rbf(block, self.anchors_, self.gamma_)
            gram += kernel.T @ kernel
            centre += kernel.sum(axis=0) / len(X)
            K[rows] = kernel
        gram -= len(X) * np.outer(centre, centre)
        K -= centre.astype(np.float32)
        residue = Residue(supervision, self.n_bits)
        learned = learn_bits(K, gram, residue, self.steps, self.tolerance)
        self.components_, self.gains_ = learned
        self.intercept_ = -centre @ self.components_


class Residue:
    """The residue R, which is k S minus the products of the bits so far. S is ±1.

    Args:
        supervision: `labels.Supervision` of n rows.
        bits: int, the number k of bits.
    """

    def __init__(self, supervision, bits):
        self.bits = bits
        self._groups = supervision.groups
        self._sets = bits * (2 * supervision.similar() - 1)
        self._bits = np.empty((bits, len(self._groups)))
        self._learned = 0

    def sums(self, values):
        """Sums `(n, m)` values over each set of labels: `(D, m)`."""
        columns = [np.bincount(self._groups, each, len(self._sets)) for each in values.T]
        return np.stack(columns, axis=1)

    def times(self, vector):
        """Multiplies R by a vector: `(n,)`."""
        sums = np.bincount(self._groups, vector, len(self._sets))
        bits = self._bits[: self._learned]
        return (self._sets @ sums)[self._groups] - (bits @ vector) @ bits

    def between(self, K):
        """Computes `Kᵀ R K` before the first bit: `(m, m)`."""
        sums = self.sums(K)
        return sums.T @ self._sets @ sums

    def take_out(self, bit):
        """Replaces R by `R - bit bitᵀ`."""
        self._bits[self._learned] = bit
        self._learned += 1


def learn_bits(K, gram, residue, steps, tolerance):
    """Learns the columns a of all bits, and the gain of each bit.

    Args:
        K: float array of shape `(n, m)`.
        gram: float64 array of shape `(m, m)`, `Kᵀ K`.
        residue: `Residue`. The bits are subtracted from it.
        steps, tolerance: the same as for `KSH`.

    Returns:
        float64 arrays of shapes `(m, k)` and `(k,)`: the columns and the gains.
    """
    n, m = K.shape
    least = max(1e-10 * np.trace(gram) / m, np.finfo(np.float64).tiny)
    lower = scipy.linalg.cholesky(gram + least * np.eye(m), lower=True)

    def whitened(matrix):
        return scipy.linalg.solve_triangular(lower, matrix, lower=True)

    inner = whitened(whitened(residue.between(K)).T)
    columns, gains = [], []
    for _ in range(residue.bits):
        _, top = scipy.linalg.eigh((inner + inner.T) / 2, subset_by_index=(m - 1, m - 1))
        a = scipy.linalg.solve_triangular(lower, top[:, 0], lower=True, trans="T")
        a *= np.sign(a[np.abs(a).argmax()]) * np.sqrt(n / np.square(times(K, a)).sum())
        better = descend(K, residue, a, steps, tolerance)
        bits = [signs(times(K, each)) for each in (a, better)]
        values = [bit @ residue.times(bit) for bit in bits]
        chosen = int(values[1] > values[0])
        columns.append((a, better)[chosen])
        gains.append(values[chosen] / n**2)
        residue.take_out(bits[chosen])
        change = whitened(times(K.T, bits[chosen]))
        inner -= np.outer(change, change)
    return np.stack(columns, axis=1), np.array(gains)


def times(K, vector):
    """Computes a product in the precision of K: float64 `(n,)`."""
    return (K @ vector.astype(K.dtype)).astype(np.float64)


def relaxed(residue, values):
    """Returns `-fᵀ R f` for `f = tanh(values / 2)`, f, and R f. The values are `K a`."""
    f = np.tanh(values / 2)
    product = residue.times(f)
    return -f @ product, f, product


def gradient(K, f, product):
    """Computes the gradient of `relaxed` at `K a` with respect to a: `(m,)`."""
    return -times(K.T, product * (1 - f * f))


def descend(K, residue, a, steps, tolerance):
    """Applies Nesterov's accelerated gradient, starting from a: `(m,)`."""
    now = before = a
    values = values_before = times(
        K, a
    )  # The products are linear in a, so those of `at` follow from them.
    cost, steepness, momentum = relaxed(residue, values)[0], 1.0, (0.0, 1.0)
    for _ in range(steps):
        share = (momentum[0] - 1) / momentum[1]
        at = now + share * (now - before)
        values_at = values + share * (values - values_before)
        cost_at, f, product = relaxed(residue, values_at)
        slope = gradient(K, f, product)
        values_slope, square = times(K, slope), slope @ slope
        for _ in range(DOUBLINGS):
            new = values_at - values_slope / steepness
            new_cost = relaxed(residue, new)[0]
            if new_cost <= cost_at - square / steepness / 2:
                break
            steepness *= 2
        else:
            break
        momentum = (momentum[1], (1 + np.sqrt(1 + 4 * momentum[1] ** 2)) / 2)
        before, now = now, at - slope / steepness
        values_before, values = values, new
        change, cost = abs(new_cost - cost), new_cost
        if change <= tolerance * len(K):
            break
    return now
