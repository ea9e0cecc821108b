"""The likelihood of pairs and the quantisation error, which many pairwise methods use."""

from keras import ops

from dah_tf.losses.floats import in_floats


def pair_likelihood(logits, similar):
    """Returns the negative log-likelihood of the similarities, averaged over the pairs of a group.

    Let `theta_ij = u_i . u_j / 2`, and s_ij = 1 for a similar pair and 0 for another. The value is
    the mean over the ordered pairs i != j of a group of

        log(1 + exp(theta_ij)) - s_ij theta_ij.

    This is `softplus(-theta)` for a similar pair and `softplus(theta)` for another. In this form no
    large numbers are subtracted, and the value is finite if the products of the logits are.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula. The loss is computed
            in float32, or in float64 if the logits are float64.
        similar: float tensor of shape `(groups, m, m)` from `losses.similarity`.

    Returns:
        Float scalar, the mean over groups of the mean over the pairs of a group. It is 0 if the
        groups have one image.

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
    """Returns the distance between logits and their signs: the mean over images of `|u - sgn u|^2`.

    The sign of 0 is -1, because its bit is 0. Signs are constants without a gradient.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula. The loss is computed
            in float32, or in float64 if the logits are float64.

    Returns:
        Float scalar, the sum over the bits of an image, averaged over images.
    """
    u = in_floats(logits)
    signs = ops.where(u > 0, ops.ones_like(u), -ops.ones_like(u))
    return ops.mean(ops.sum(ops.square(u - signs), axis=-1))
