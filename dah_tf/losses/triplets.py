"""Losses on the triplets of a group: an image, one that is similar to it, and one that is not.

All triplets of a group are computed at once and masked, which takes a tensor of shape
`(groups, m, m, m)`. A group of 20 images of ten classes, two of each, has 360 triplets.
"""

from keras import ops

from dah_tf.losses.floats import in_floats
from dah_tf.losses.pairs import squared_distances


def triplet_likelihood(logits, similar, margin):
    """Returns the negative log-likelihood of the triplets of a group.

    Let `theta_ij = u_i . u_j / 2`. The value is the mean over groups of the mean over the triplets
    (q, p, n) of a group, in which p is similar to q and n is not, of

        log(1 + exp(-(theta_qp - theta_qn - margin))).

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula. The loss is computed
            in float32, or in float64 if the logits are float64.
        similar: float tensor of shape `(groups, m, m)` from `losses.similarity`.
        margin: float.

    Returns:
        Float scalar. A group without a triplet counts as 0.

    References:
        Wang, Shi and Kitani, "Deep supervised hashing with triplet labels", ACCV 2016.
    """
    u = in_floats(logits)
    theta = 0.5 * ops.matmul(u, ops.swapaxes(u, 1, 2))
    return _mean_over_triplets(ops.softplus(margin - _differences(theta)), similar)


def triplet_hinge(points, similar, margin):
    """Returns how far dissimilar images fall short of a margin, in squared distance.

    Let `D_ij = |x_i - x_j|^2`. The value is the mean over groups of the mean over the triplets
    (q, p, n) of a group, in which p is similar to q and n is not, of

        max(0, D_qp - D_qn + margin).

    Args:
        points: float tensor of shape `(groups, m, bits)`, x in the formula. The loss is computed
            in float32, or in float64 if the points are float64.
        similar: float tensor of shape `(groups, m, m)` from `losses.similarity`.
        margin: float.

    Returns:
        Float scalar. A group without a triplet counts as 0.

    References:
        Lai, Pan, Liu and Yan, "Simultaneous feature learning and hash coding with deep neural
        networks", CVPR 2015.
    """
    distances = squared_distances(in_floats(points))
    return _mean_over_triplets(ops.relu(_differences(distances) + margin), similar)


def _differences(pairs):
    """Returns `pairs_qp - pairs_qn` for all q, p, n, of shape `(groups, m, m, m)`."""
    return ops.expand_dims(pairs, 3) - ops.expand_dims(pairs, 2)


def _mean_over_triplets(terms, similar):
    """Returns the mean over groups of the mean of `terms[g, q, p, n]` over a group's triplets."""
    similar = ops.cast(similar, terms.dtype)
    positive = similar * (1.0 - ops.eye(similar.shape[1], dtype=terms.dtype))
    mask = ops.expand_dims(positive, 3) * ops.expand_dims(1.0 - similar, 2)
    count = ops.sum(mask, axis=(1, 2, 3))
    return ops.mean(ops.sum(terms * mask, axis=(1, 2, 3)) / ops.maximum(count, 1.0))
