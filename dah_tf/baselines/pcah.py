"""Implements PCAH. Its bits are the signs of principal components."""

from dah_tf.baselines import base, linear
from dah_tf.errors import UserError


class PCAH(base.Linear):
    """PCA hashing: bit i is the sign of the i-th principal component.

    The columns of `components_` maximise the variance and are orthonormal. The method has no
    constants. The mean is that of the training rows, never that of the queries.

    References:
        A baseline of Wang, Kumar and Chang, "Semi-supervised hashing for scalable image
        retrieval", CVPR 2010.
    """

    TITLE = "PCAH (2010)"
    SOURCE = "reading"

    def _learn(self, X, supervision, rng):
        self.mean_, self.components_, _ = directions(X, self.n_bits)


def directions(X, bits):
    """Returns as many principal axes as there are bits. `linear.principal` computes them.

    Raises:
        UserError: X varies in fewer directions than there are bits.
    """
    centre, axes, variances = linear.principal(X, bits)
    if len(variances) < bits:
        raise UserError(
            f"n_bits={bits} is more than the {len(variances)} directions in which X varies "
            f"(n_samples = {len(X)}, n_features = {X.shape[1]}); lower it"
        )
    return centre, axes, variances
