"""The policy gradient of random codes, and random numbers that depend on the step and the image."""

from keras import ops

from dah_tf.losses.floats import in_floats


def uniform(seed, step, rows, samples, bits):
    """Draws numbers between 0 and 1 that are a pure function of the arguments.

    They depend on the image and not on its place in the batch. A run that resumes, and a batch that
    is split between devices, therefore get the same numbers.

    Args:
        seed, step: int32 scalars.
        rows: int32 tensor of shape `(groups, m)`, the number of each image.
        samples, bits: int.

    Returns:
        float32 tensor of shape `(samples, groups, m, bits)`, in the middles of
        2^23 equal parts of [0, 1].
    """
    rows = ops.cast(ops.convert_to_tensor(rows), "int32")
    mixed = _mixed(_mixed(ops.cast(seed, "int32")) + ops.cast(step, "int32"))
    mixed = _mixed(mixed + rows)[None, :, :, None]
    counter = ops.reshape(ops.arange(samples * bits, dtype="int32"), (samples, 1, 1, bits))
    found = ops.bitwise_and(_mixed(mixed + counter), (1 << 23) - 1)
    return (ops.cast(found, "float32") + 0.5) / float(1 << 23)


def policy_gradient(logits, similar, noise):
    """Returns a value whose gradient is an unbiased estimate of that of the expected reward.

    The codes b of an image are random: a bit is 1 with probability `sigmoid(u)` and -1 otherwise,
    and all bits are independent. With S = 1 for similar and -1 for other pairs, the reward of an
    image is

        R_i = -sum_j w_ij (S_ij - b_i . b_j / bits)^2,

    over the other images j of its group. The weights w_ij of an image sum to 1/2 over the similar
    images and to 1/2 over the others, or to 1 over one kind if the other is missing.

    Each image is credited with all parts of the rewards in which its code occurs, which are its own
    reward and a part of the rewards of the others. From this credit, the mean credit of the other
    samples of this image is subtracted. It does not depend on the sample and therefore does not
    change the expected gradient.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula. The loss is computed
            in float32, or in float64 if the logits are float64.
        similar: float tensor of shape `(groups, m, m)` from `losses.similarity`.
        noise: float tensor of shape `(samples, groups, m, bits)` from `uniform`, with at least two
            samples.

    Returns:
        Pair of float scalars. Of the first, only the gradient has a meaning: it is that of the mean
        reward over images and groups, with the opposite sign. The second is the mean reward itself,
        without a gradient. It is 0 at best.
    """
    u = in_floats(logits)
    samples, bits = noise.shape[0], noise.shape[-1]
    ones = ops.cast(noise, u.dtype) < ops.sigmoid(u)
    codes = ops.where(ones, 1.0, -1.0)
    codes = ops.stop_gradient(ops.cast(codes, u.dtype))
    similar = ops.cast(similar, u.dtype)
    weights = _balanced(similar)
    products = ops.matmul(codes, ops.swapaxes(codes, 2, 3)) / float(bits)
    errors = ops.square(2.0 * similar - 1.0 - products)
    reward = -ops.mean(ops.sum(weights * errors, axis=-1))
    credit = -ops.sum((weights + ops.swapaxes(weights, 1, 2)) * errors, axis=-1)
    others = (ops.sum(credit, axis=0) - credit) / float(samples - 1)
    likelihood = -ops.sum(ops.softplus(-codes * u), axis=-1)
    return -ops.mean((credit - others) * likelihood), reward


def bit_entropy(logits):
    """Returns the entropy in nats of bits that are 1 with probability `sigmoid(u)`.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula.

    Returns:
        Float scalar, the sum over the bits of an image, averaged over images.
    """
    u = in_floats(logits)
    return ops.mean(ops.sum(ops.softplus(u) - u * ops.sigmoid(u), axis=-1))


def _balanced(similar):
    """Returns weights of the pairs of a group, whose sum over each row is 1, or 0 for one image."""
    others = 1.0 - ops.eye(similar.shape[1], dtype=similar.dtype)
    kinds = [similar * others, (1.0 - similar) * others]
    counts = [ops.sum(kind, axis=-1, keepdims=True) for kind in kinds]
    present = sum(ops.cast(count > 0, similar.dtype) for count in counts)
    shares = [kind / ops.maximum(n, 1.0) for kind, n in zip(kinds, counts, strict=True)]
    return sum(shares) / ops.maximum(present, 1.0)


def _mixed(x):
    """Spreads an int32 over all its values, one to one.

    Shifts fill with zeros, and products are taken modulo 2^32. The constants are those of the
    function "lowbias32" by Chris Wellons.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - (1 << 32))):
        x = ops.bitwise_xor(x, _shifted(x, shift)) * factor
    return ops.bitwise_xor(x, _shifted(x, 16))


def _shifted(x, places):
    return ops.bitwise_and(ops.right_shift(x, places), (1 << (32 - places)) - 1)
