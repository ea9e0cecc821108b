"""The likelihood of pairs and the quantisation error, which many pairwise methods share."""

from keras import ops

from dah_tf.losses.floats import in_floats


def pair_likelihood(logits, similar):
    """Negative log-likelihood of which pairs are similar, averaged over the pairs of each group.

    With `theta_ij = u_i . u_j / 2` and s_ij = 1 where a pair is similar, else 0, it is the mean
    over the ordered pairs i != j of a group of

        log(1 + exp(theta_ij)) - s_ij theta_ij,

    which is `softplus(-theta)` for a similar pair and `softplus(theta)` for another: no large
    numbers are subtracted, and it is finite for all logits whose products are.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u; computed in float32, or in float64
            where they are.
        similar: float tensor of shape `(groups, m, m)`, of `losses.similarity`.

    Returns:
        Float scalar: the mean over groups of the mean over a group's pairs; 0 where a group has
        one image.

    References:
        Li, Wang and Kang, "Feature learning based deep supervised hashing with pairwise labels",
        IJCAI 2016, eq. 2.
    """
    u = in_floats(logits)
    similar = ops.cast(similar, u.dtype)
    groups, m, _ = u.shape
    theta = 0.5 * ops.matmul(u, ops.swapaxes(u, 1, 2))
    terms = ops.softplus((1.0 - 2.0 * similar) * theta)
    off_diagonal = 1.0 - ops.eye(m, dtype=u.dtype)
    return ops.sum(terms * off_diagonal) / (groups * float(max(m * (m - 1), 1)))


def quantisation(logits):
    """How far logits are from their signs: the mean over images of `|u - sgn u|^2`.

    The sign of 0 is -1, as its bit is 0. Signs are constants: they have no gradient.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u; computed in float32, or in float64
            where they are.

    Returns:
        Float scalar: the sum over an image's bits, averaged over images.
    """
    u = in_floats(logits)
    signs = ops.where(u > 0, ops.ones_like(u), -ops.ones_like(u))
    return ops.mean(ops.sum(ops.square(u - signs), axis=-1))
