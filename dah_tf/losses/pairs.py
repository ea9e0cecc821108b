"""Losses on the pairs of a group, and quantisation errors, which many methods use."""

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
    theta = 0.5 * ops.matmul(u, ops.swapaxes(u, 1, 2))
    return _mean_over_pairs(ops.softplus((1.0 - 2.0 * similar) * theta))


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


def contrastive(points, similar, margin):
    """Draws similar pairs together, and holds others apart up to a squared distance.

    Let `D_ij = |x_i - x_j|^2`. The parts are the means over the ordered pairs i != j of a group of

        s_ij D_ij    and    (1 - s_ij) max(0, margin - D_ij).

    Args:
        points: float tensor of shape `(groups, m, bits)`, x in the formula. The loss is computed
            in float32, or in float64 if the points are float64.
        similar: float tensor of shape `(groups, m, m)` from `losses.similarity`.
        margin: float, the squared distance beyond which dissimilar pairs are left alone.

    Returns:
        Pair of float scalars, the similar and the dissimilar part. Each is the mean over groups of
        a sum over pairs that is divided by the number of all ordered pairs of a group.
    """
    x = in_floats(points)
    similar = ops.cast(similar, x.dtype)
    distances = squared_distances(x)
    return (
        _mean_over_pairs(similar * distances),
        _mean_over_pairs((1.0 - similar) * ops.relu(margin - distances)),
    )


def balanced_likelihood(values, similar, scale):
    """Returns the negative log-likelihood of pairs, in which both kinds of pairs weigh alike.

    Let `x_ij = scale h_i . h_j`, and w_ij = |S| / |S1| for a similar pair and |S| / |S0| for
    another, with the numbers of all, of similar and of dissimilar ordered pairs i != j of a group.
    The value is the mean over groups of

        sum_ij w_ij (log(1 + exp(x_ij)) - s_ij x_ij) / sum_ij w_ij.

    If a group has only one kind of pairs, it is the mean over that kind.

    Args:
        values: float tensor of shape `(groups, m, bits)`, h in the formula. The loss is computed
            in float32, or in float64 if the values are float64.
        similar: float tensor of shape `(groups, m, m)` from `losses.similarity`.
        scale: float.

    Returns:
        Float scalar. It is 0 if the groups have one image.

    References:
        Cao, Long, Wang and Yu, "HashNet: deep learning to hash by continuation", ICCV 2017.
    """
    h = in_floats(values)
    similar = ops.cast(similar, h.dtype)
    products = scale * ops.matmul(h, ops.swapaxes(h, 1, 2))
    terms = ops.softplus((1.0 - 2.0 * similar) * products)
    off_diagonal = 1.0 - ops.eye(h.shape[1], dtype=h.dtype)
    kinds = [similar * off_diagonal, (1.0 - similar) * off_diagonal]
    # With the weights, the sum over either kind becomes |S| times the mean over this kind.
    counts = [ops.sum(kind, axis=(1, 2)) for kind in kinds]
    means = [
        ops.sum(terms * kind, axis=(1, 2)) / ops.maximum(count, 1.0)
        for kind, count in zip(kinds, counts, strict=True)
    ]
    present = sum(ops.cast(count > 0, h.dtype) for count in counts)
    return ops.mean(sum(means) / ops.maximum(present, 1.0))


def absolute_quantisation(logits):
    """Returns the mean over images of the sum over bits of `||u| - 1|`.

    At u = 0 the slope is that of a negative u, because the bit of 0 is 0.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula.

    References:
        Liu, Wang, Shan and Chen, "Deep supervised hashing for fast image retrieval", CVPR 2016.
    """
    return ops.mean(ops.sum(ops.abs(_magnitude(in_floats(logits)) - 1.0), axis=-1))


def squared_quantisation(values):
    """Returns the mean over images and bits of `(|h| - 1)^2`.

    At h = 0 the slope is that of a negative h, because the bit of 0 is 0.

    Args:
        values: float tensor of shape `(groups, m, bits)`, h in the formula, in [-1, 1].
    """
    return ops.mean(ops.square(_magnitude(in_floats(values)) - 1.0))


def squared_distances(points):
    """Returns `|x_i - x_j|^2` of all pairs of a group, as a tensor of shape `(groups, m, m)`."""
    difference = ops.expand_dims(points, 2) - ops.expand_dims(points, 1)
    return ops.sum(ops.square(difference), axis=-1)


def _magnitude(x):
    return ops.where(x > 0, x, -x)


def _mean_over_pairs(terms):
    """Returns the mean over groups of the mean over the ordered pairs i != j of a group."""
    groups, m, _ = terms.shape
    off_diagonal = 1.0 - ops.eye(m, dtype=terms.dtype)
    return ops.sum(terms * off_diagonal) / (groups * float(max(m * (m - 1), 1)))
