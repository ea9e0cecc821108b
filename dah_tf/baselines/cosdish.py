"""Implements COSDISH, column sampling based discrete supervised hashing."""

import numpy as np

from dah_tf import codes
from dah_tf.baselines import base, checks, linear
from dah_tf.baselines.rows import blocks, signs

UNDECIDED = 1e-5


class COSDISH(base.Linear):
    """Column sampling based discrete supervised hashing: codes first, then a linear map to them.

    With k bits, signs B and similarities S, it fits `B Bᵀ` to `k S` on sampled columns. `columns`
    rows of X are drawn as the sample s, and G denotes the other rows. The method minimises
    `|k S_G - B_G B_sᵀ|₁ + |k S_s - B_s B_sᵀ|²` alternately over

    - B_s, one bit after another: it minimises `bᵀ Q b + bᵀ p` over signs b. Here
      `Q = -2 (k S_s - sum of b_m b_mᵀ)`, with diagonal 0, and
      `p = -2 (k S_G - sum of g_m b_mᵀ)ᵀ g_r`. The g are columns of B_G, and the sums are over the
      bits before r;
    - `B_G = sgn(S_G B_s)`. A bit stays unchanged if the product is 0.

    Entries of S are 1 for similar rows. For dissimilar rows they are -(similar / dissimilar entries
    of the sample), so that both kinds have the same total weight. The hash function is the ridge
    regression of B on the features, which are standardised to mean 0 and variance 1. It has no
    intercept.

    The numbers of samples and alternations are those of a port of the authors' code. That port
    gives dissimilar entries the wrong sign. The authors minimise over signs by a 2-approximation.
    Here several descents are made that flip one sign at a time, and the best result is taken. One
    descent starts from the present bit and the others from drawn bits, so the result is never worse
    than the present bit. The similarities of a row follow from its labels. The memory holds B and
    `S_G`, whose rows have as many values as there are bits and columns.

    All classes that have no row in the last sample get the same code. The authors draw as many rows
    as there are bits, so codes of 12 bits for ten classes suffer from this. The option `columns`
    can draw more rows. It is our addition.

    Args:
        n_bits, random_state: the same as for `base.Hasher`.
        samples: int, how often columns are drawn.
        columns: int, the size of a sample. None takes `n_bits`.
        alternations: int, the number of alternations for each sample.
        starts: int, the number of drawn starts of a minimisation over signs.
        ridge: float, the weight of the penalty of the regression. The authors use 1.

    Attributes:
        learned_codes_: uint8 array, the packed B of the training rows. It is not saved. Papers
            often search among these codes. They depend on the labels of the rows, while the codes
            of `transform` do not.

    References:
        Kang, Li and Zhou, "Column sampling based discrete supervised hashing", AAAI 2016.
    """

    TITLE = "COSDISH (2016)"
    SOURCE = "paper"
    SUPERVISED = True

    def __init__(
        self,
        n_bits: int = 36,
        random_state: int | None = 0,
        *,
        samples: int = 10,
        columns: int | None = None,
        alternations: int = 3,
        starts: int = 10,
        ridge: float = 1.0,
    ):
        super().__init__(n_bits, random_state)
        self.samples = samples
        self.columns = columns
        self.alternations = alternations
        self.starts = starts
        self.ridge = ridge

    def _learn(self, X, supervision, rng):
        checks.whole("samples", self.samples, 1)
        checks.whole("alternations", self.alternations, 1)
        checks.whole("starts", self.starts, 0)
        if self.columns is not None:
            checks.whole("columns", self.columns, 1)
        checks.number("ridge", self.ridge, above=0)
        B = 2 * rng.integers(0, 2, (len(X), self.n_bits), np.int8) - 1
        size = min(self.columns or self.n_bits, len(X) - 1)
        for _ in range(self.samples):
            drawn = np.sort(rng.permutation(len(X))[:size])
            S = similarities(supervision, drawn)
            for _ in range(self.alternations):
                alternate(B, S, drawn, self.starts, rng)
        self._regress(X, B)
        self.learned_codes_ = codes.pack(B > 0)

    def _regress(self, X, B):
        """Computes the ridge regression of B on standardised features."""
        self.mean_ = linear.mean(X)
        scatter = linear.covariance(X, self.mean_) * len(X)
        spread = np.sqrt(np.diag(scatter) / len(X))
        # A constant feature contains no information, so its rounding errors must not be scaled up.
        varies = X.max(axis=0) > X.min(axis=0)
        scale = np.where(varies, 1 / np.where(varies, spread, 1), 0)
        right = np.zeros((X.shape[1], self.n_bits))
        for rows, block in blocks(X):
            right += (block - self.mean_).T @ B[rows].astype(np.float64)
        scatter *= scale[:, None] * scale
        scatter += self.ridge * np.eye(len(scatter))
        self.components_ = linear.solve(scatter, right * scale[:, None]) * scale[:, None]


def similarities(supervision, drawn):
    """Returns sampled columns of S: float32 `(n, len(drawn))`.

    Similar pairs have the value 1, dissimilar ones -(similar / dissimilar entries).
    """
    sets, groups = supervision.sets, supervision.groups
    alike = (sets @ sets[groups[drawn]].T > 0)[groups]
    similar = alike.sum()
    ratio = similar / max(alike.size - similar, 1)
    return np.where(alike, np.float32(1), np.float32(-ratio))


def alternate(B, S, drawn, starts, rng):
    """Makes one alternation: updates the bits of the drawn rows, then all others. Changes B.

    Args:
        B: int8 array of shape `(n, k)`, ±1.
        S: float array of shape `(n, len(drawn))`, the sampled similarities.
        drawn: int array, the sampled rows.
        starts: int, the same as for `COSDISH`.
        rng: `numpy.random.Generator`.
    """
    bits = B.shape[1]
    others = np.ones(len(B), bool)
    others[drawn] = False
    rest, s_rest = B[others].astype(np.float32), S[others]
    wanted = bits * (s_rest.T @ rest).astype(np.float64)  # column r: k S_Gᵀ g_r
    inner = (rest.T @ rest).astype(np.float64)  # g_mᵀ g_r
    residue = bits * S[drawn].astype(np.float64)
    sampled = B[drawn].astype(np.float64)
    for r in range(bits):
        Q = -2 * residue
        np.fill_diagonal(Q, 0)
        p = -2 * (wanted[:, r] - sampled[:, :r] @ inner[:r, r])
        sampled[:, r] = minimise(Q, p, sampled[:, r], starts, rng)
        residue -= np.outer(sampled[:, r], sampled[:, r])
    B[drawn] = sampled
    product = s_rest @ sampled.astype(np.float32)
    # `rest` still has the earlier values of B at the other rows.
    B[others] = np.where(np.abs(product) < UNDECIDED, rest, signs(product))


def minimise(Q, p, start, starts, rng):
    """Minimises `bᵀ Q b + bᵀ p` over signs b: the best of several descents by single flips.

    Args:
        Q: float64 array of shape `(s, s)`, symmetric with diagonal 0.
        p: float64 array of shape `(s,)`.
        start: float64 array of shape `(s,)` with values ±1. The first descent begins there.
        starts: int, the number of further descents from drawn signs.
        rng: `numpy.random.Generator`.

    Returns:
        float64 array of shape `(s,)`. Its objective is never above that of `start`.
    """
    drawn = 2.0 * rng.integers(0, 2, (starts, len(p))) - 1
    b = np.concatenate([start[None], drawn])
    product = b @ Q
    rows = np.arange(len(b))
    least = -1e-9 * (np.abs(Q).sum() + np.abs(p).sum())  # A smaller change is a rounding error.
    while True:
        # Flipping b_i adds -4 b_i (Q b)_i - 2 b_i p_i.
        change = b * (-4 * product - 2 * p)
        best = change.argmin(axis=1)
        active = change[rows, best] < least
        if not active.any():
            break
        at, flip = rows[active], best[active]
        product[at] -= 2 * b[at, flip][:, None] * Q[flip]
        b[at, flip] *= -1
    values = (product * b).sum(axis=1) + b @ p
    return b[values.argmin()]
