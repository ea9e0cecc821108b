"""Losses on histograms of distances, in which each image of a group ranks all others."""

from keras import ops

from dah_tf.losses.floats import in_floats


def distance_histograms(values, similar, bins):
    """Counts the other images of a group by their distance from each image.

    The distance is `D_ij = (bits - v_i . v_j) / 2`, which is the Hamming distance if the values are
    -1 and 1. The centres of the bins are the multiples of `bits / bins` from 0 to `bits`, so there
    is one bin more than `bins`. A distance counts in the two bins beside it, in proportion to its
    nearness to their centres. The image itself is not counted.

    Args:
        values: float tensor of shape `(groups, m, bits)`, v in the formula, in [-1, 1]. The
            histograms are computed in float32, or in float64 if the values are float64.
        similar: float tensor of shape `(groups, m, m)` from `losses.similarity`.
        bins: int, at least 1.

    Returns:
        Pair of float tensors of shape `(groups, m, bins + 1)`, the similar images and all images
        at each distance.

    References:
        Ustinova and Lempitsky, "Learning deep embeddings with histogram loss", NIPS 2016.
    """
    v = in_floats(values)
    m, bits = v.shape[1:]
    others = 1.0 - ops.eye(m, dtype=v.dtype)
    positive = ops.cast(similar, v.dtype) * others
    distances = 0.5 * (bits - ops.matmul(v, ops.swapaxes(v, 1, 2)))
    places = distances * (bins / bits)
    near = ops.relu(
        1.0 - ops.abs(ops.expand_dims(places, -1) - ops.arange(bins + 1, dtype=v.dtype))
    )
    total = ops.sum(near * ops.expand_dims(others, -1), axis=2)
    return ops.sum(near * ops.expand_dims(positive, -1), axis=2), total


def mutual_information(positive, total):
    """Returns the information, in nats, that a distance gives on whether an image is similar.

    It is `H(D) - p H(D | similar) - (1 - p) H(D | dissimilar)`, in which p is the share of similar
    images among the others of the group.

    Args:
        positive, total: float tensors of shape `(groups, m, distances)` from
            `distance_histograms`.

    Returns:
        Float scalar, the mean over all images. An image counts as 0 if all others are similar to
        it, or none is.

    References:
        Cakir, He, Bargal and Sclaroff, "MIHash: online hashing with mutual information", ICCV
        2017.
    """
    count = ops.maximum(ops.sum(total, axis=-1, keepdims=True), 1.0)
    information = _entropy(total / count)
    for kind in (positive, total - positive):
        size = ops.sum(kind, axis=-1, keepdims=True)
        share = kind / ops.maximum(size, 1.0)
        information = information - ops.squeeze(size / count, -1) * _entropy(share)
    return ops.mean(information)


def relaxed_average_precision(positive, total):
    """Returns the average precision of rankings with ties, in a form that has a gradient.

    With c the number of images at a distance d and C the number up to d, and with c+ and C+ the
    numbers of similar images, the value for one image is

        sum_d c+_d (C+_{d-1} + C+_d + 1) / (C_{d-1} + C_d + 1) / sum_d c+_d.

    If no two images have the same distance, this is the average precision. For ties, it puts every
    item of a tied group in the middle of the group, where `dah_tf.metrics` takes the mean over all
    orders of the group.

    Args:
        positive, total: float tensors of shape `(groups, m, distances)` from
            `distance_histograms`.

    Returns:
        Float scalar, the mean over the images for which there are similar ones, and over groups.
        A group without such images counts as 0.

    References:
        He, Cakir, Bargal and Sclaroff, "Hashing as tie-aware learning to rank", CVPR 2018.
    """
    up_to_positive, up_to = ops.cumsum(positive, axis=-1), ops.cumsum(total, axis=-1)
    precision = (2.0 * up_to_positive - positive + 1.0) / (2.0 * up_to - total + 1.0)
    number = ops.sum(positive, axis=-1)
    average = ops.sum(positive * precision, axis=-1) / ops.maximum(number, 1.0)
    # A similar image counts as 1 over the two bins beside its distance, up to rounding.
    asks = ops.cast(number > 0.5, average.dtype)
    images = ops.sum(asks, axis=-1)
    return ops.mean(ops.sum(average * asks, axis=-1) / ops.maximum(images, 1.0))


def _entropy(shares):
    """Returns `-sum p log p` over the last axis. A share of 0 counts as 0, without a gradient."""
    some = shares > 0
    logarithms = ops.log(ops.where(some, shares, ops.ones_like(shares)))
    return -ops.sum(ops.where(some, shares * logarithms, ops.zeros_like(shares)), axis=-1)
