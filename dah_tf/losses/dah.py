"""DAH's pairwise loss over class-balanced groups."""

from typing import NamedTuple

from keras import ops

from dah_tf.losses.floats import in_floats


class PairwiseTerms(NamedTuple):
    """Scalars of one batch, float32.

    Attributes:
        total: what is minimised: `phi1 W1 + phi2 W2 + balance_weight * balance`.
        similar: mean of W1 over a group's similar ordered pairs (0 where there is none).
        dissimilar: mean of W1 over a group's dissimilar ordered pairs (0 where there is none).
        w2: mean of W2 over all ordered pairs.
        balance: mean squared distance of a bit's mean value in a group from 1/2.
    """

    total: object
    similar: object
    dissimilar: object
    w2: object
    balance: object


def similarity(labels, multi_label=None):
    """Which pairs of a group count as similar.

    Args:
        labels: ints of shape `(groups, m)`, or with `multi_label` 0/1 of shape
            `(groups, m, classes)`.
        multi_label: bool; None goes by the labels' shape. Similar means the same class, or with
            `multi_label` at least one class in common.

    Returns:
        float32 tensor of shape `(groups, m, m)`, 1 where similar. The diagonal is not special.

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
    """Pairwise logarithmic loss, averaged over the ordered pairs i != j of each group.

    `W1 = ||x_i - x_j||_2` for a similar pair, `|t + sum_b ln(1 - |x_ib - x_jb|)|` for a
    dissimilar one; `W2 = (sum over both images and all bits of (x - 1/2))^2`.

    Args:
        values: float tensor of shape `(groups, m, bits)`, in [1/4, 3/4]; computed in float32, or
            in float64 where the values are.
        similar: float tensor of shape `(groups, m, m)` from `similarity`.
        phi1: float, weight of W1.
        phi2: float, weight of W2.
        t: float, the distance dissimilar pairs are held at; `bits / 4.8` where None.
        similar_weight: None takes the plain mean over pairs (eq. 6). A float `a` in (0, 1) takes
            `a * (mean over similar pairs) + (1 - a) * (mean over dissimilar pairs)` for W1, both
            means taken in each group: with 2 images from each of 10 classes the plain mean
            amounts to a = 1/19.
        balance_weight: float, weight of the per-bit balance term: the squared distance of a
            bit's mean value in a group from 1/2, averaged over bits and groups. Not in the paper.

    Returns:
        `PairwiseTerms`. Every term is a mean over groups, so the mean of the losses of parts of a
        batch, split between groups, is the loss of the whole. The gradient is finite everywhere:
        it is 0 at distance zero.

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
    # sqrt has an infinite slope at 0: take it of 1 there, and mask.
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
    """Mean over each group's masked pairs (0 where it has none), then over the groups."""
    count = ops.sum(mask, axis=(1, 2))
    return ops.mean(ops.sum(terms * mask, axis=(1, 2)) / ops.maximum(count, 1.0))
