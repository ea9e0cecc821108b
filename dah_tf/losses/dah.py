"""The pairwise loss of DAH over class-balanced groups."""

from typing import NamedTuple

from keras import ops

from dah_tf.losses.floats import in_floats


class PairwiseTerms(NamedTuple):
    """The loss of a batch and its parts, as float32 scalars.

    Attributes:
        total: the value to minimise, `phi1 W1 + phi2 W2 + balance_weight * balance`.
        similar: the mean of W1 over the similar ordered pairs of a group; 0 if there is none.
        dissimilar: the mean of W1 over the dissimilar ordered pairs of a group; 0 if there is none.
        w2: the mean of W2 over all ordered pairs.
        balance: the mean squared distance between 1/2 and the mean value of a bit in a group.
    """

    total: object
    similar: object
    dissimilar: object
    w2: object
    balance: object


def similarity(labels, multi_label=None):
    """Says which pairs of a group are similar.

    Two images are similar if they have the same class, or with `multi_label` at least one class in
    common.

    Args:
        labels: ints of shape `(groups, m)`, or with `multi_label` 0/1 of shape
            `(groups, m, classes)`.
        multi_label: bool. With None the shape of the labels decides.

    Returns:
        float32 tensor of shape `(groups, m, m)` that is 1 for similar pairs and 0 for others. The
        diagonal follows the same rule.

    References:
        DAH, eq. 3.
    """
    if len(labels.shape) == 3 if multi_label is None else multi_label:
        labels = ops.cast(labels, "float32")
        common = ops.matmul(labels, ops.swapaxes(labels, 1, 2))
        return ops.cast(common > 0.5, "float32")
    return ops.cast(ops.expand_dims(labels, 2) == ops.expand_dims(labels, 1), "float32")


def pairwise(
    values,
    similar,
    *,
    phi1=1.0,
    phi2=1.0,
    t=None,
    similar_weight=None,
    balance_weight=0.0,
):
    """Returns the pairwise logarithmic loss: a mean over the ordered pairs i != j of each group.

    For a similar pair, `W1 = ||x_i - x_j||_2`. For a dissimilar pair,
    `W1 = |t + sum_b ln(1 - |x_ib - x_jb|)|`. For every pair,
    `W2 = (sum over both images and all bits of (x - 1/2))^2`.

    Args:
        values: float tensor of shape `(groups, m, bits)`, in [1/4, 3/4]. The loss is computed in
            float32, or in float64 if the values are float64.
        similar: float tensor of shape `(groups, m, m)` from `similarity`.
        phi1: float, the weight of W1.
        phi2: float, the weight of W2.
        t: float, the distance to which dissimilar pairs are drawn. None is `bits / 4.8`.
        similar_weight: with None, W1 is the plain mean over pairs (eq. 6). With a float `a` in
            (0, 1), it is `a * (mean over similar pairs) + (1 - a) * (mean over dissimilar pairs)`
            in each group. For 2 images of each of 10 classes, the plain mean equals a = 1/19.
        balance_weight: float, the weight of a term that is not in the paper: the squared distance
            between 1/2 and the mean value of a bit in a group, averaged over bits and groups.

    Returns:
        `PairwiseTerms`. Each term is a mean over groups. Therefore, if a batch is split between
        groups into equal parts, the mean of the losses of the parts is the loss of the batch. The
        gradient is finite everywhere; at distance zero it is 0.

    References:
        DAH, eqs. 2, 4 and 6.
    """
    x = in_floats(values)
    similar = ops.cast(similar, x.dtype)
    groups, m, bits = x.shape
    t = bits / 4.8 if t is None else t

    off_diagonal = 1.0 - ops.eye(m, dtype=x.dtype)
    same = similar * off_diagonal
    other = (1.0 - similar) * off_diagonal
    difference = ops.expand_dims(x, 2) - ops.expand_dims(x, 1)

    squared = ops.sum(ops.square(difference), axis=-1)
    # sqrt has an infinite slope at 0. There it is taken of 1 instead, and the result is masked.
    apart = squared > 0.0
    euclidean = ops.where(apart, ops.sqrt(ops.where(apart, squared, 1.0)), 0.0)
    logarithmic = ops.abs(t + ops.sum(ops.log1p(-ops.abs(difference)), axis=-1))
    same_mean = _group_mean(euclidean, same)
    other_mean = _group_mean(logarithmic, other)

    pairs = float(max(m * (m - 1), 1))
    if similar_weight is None:
        w1 = ops.sum(euclidean * same + logarithmic * other) / (groups * pairs)
    else:
        w1 = similar_weight * same_mean + (1.0 - similar_weight) * other_mean

    excess = ops.sum(x - 0.5, axis=-1)
    both = ops.expand_dims(excess, 2) + ops.expand_dims(excess, 1)
    w2 = ops.sum(ops.square(both) * off_diagonal) / (groups * pairs)

    balance = ops.mean(ops.square(ops.mean(x, axis=1) - 0.5))
    total = phi1 * w1 + phi2 * w2 + balance_weight * balance
    return PairwiseTerms(total, same_mean, other_mean, w2, balance)


def _group_mean(terms, mask):
    """Returns the mean over the groups of the mean over a group's masked pairs, or 0 for none."""
    count = ops.sum(mask, axis=(1, 2))
    return ops.mean(ops.sum(terms * mask, axis=(1, 2)) / ops.maximum(count, 1.0))
