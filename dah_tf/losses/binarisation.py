"""Penalties that keep logits or hash values near the values of a code."""

from keras import ops

from dah_tf.losses.floats import in_floats


def tanh_gap(logits):
    """Returns the mean over images and bits of `(|tanh u| - 1)^2`.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula.

    References:
        Yuan et al., "Central similarity quantization", CVPR 2020.
    """
    return ops.mean(ops.square(ops.abs(ops.tanh(in_floats(logits))) - 1.0))


def cubic_gap(logits):
    """Returns the mean over images and bits of `||u| - 1|^3`.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula.

    References:
        Su et al., "Greedy hash", NeurIPS 2018.
    """
    gap = ops.abs(ops.abs(in_floats(logits)) - 1.0)
    return ops.mean(gap * gap * gap)


def excess(logits, limit=1.1):
    """Returns by how much logits exceed a limit: `sum_b max(0, |u_b| - limit)`, a mean over images.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula.
        limit: float.

    References:
        Zhe, Chen and Yan, "Deep class-wise hashing", arXiv 1803.04137.
    """
    return ops.mean(ops.sum(ops.relu(ops.abs(in_floats(logits)) - limit), axis=-1))


def gaussian_gap(codes, deviation=0.5):
    """Returns the cross-entropy between soft bits and their signs under two normal distributions.

    Let `g+ = exp(-(h - 1)^2 / (2 s^2))` and `g- = exp(-(h + 1)^2 / (2 s^2))`. The value is the
    mean over images and bits of `H(b, g+) + H(1 - b, g-)`. Here b is 1 if h is above 0 and else 0,
    and `H(b, g) = -b log g - (1 - b) log(1 - g)`. The bits b are constants without a gradient.

    Args:
        codes: float tensor of shape `(groups, m, bits)` within [-1, 1], h in the formula.
        deviation: float, s in the formula.

    References:
        Jang et al., "Deep hash distillation for image retrieval", ECCV 2022.
    """
    h = in_floats(codes)
    near = ops.abs(h)  # By symmetry, both signs cost what they cost on the positive side.
    own = ops.square(near - 1.0) / (2.0 * deviation**2)
    other = ops.square(near + 1.0) / (2.0 * deviation**2)
    return ops.mean(own - ops.log1p(-ops.exp(-other)))
