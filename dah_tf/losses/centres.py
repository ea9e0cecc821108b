"""Losses that draw each image's code to the centre of its classes.

A centre is a row of a tensor of shape `(classes, bits)`. Some methods fix the centres before the
training, and others compute them from the codes.
"""

from keras import ops

from dah_tf.losses.floats import in_floats

SMALLEST = 1e-24  # the squared length below which a vector counts as zero
RELATIVE_BATCH = 16.0  # the batch size of RelaHash's authors


def marks(labels, classes, dtype):
    """Returns 1 for the classes of each image and 0 for the others.

    Args:
        labels: ints of shape `(groups, m)`, or 0/1 of shape `(groups, m, classes)`.
        classes: int, the number of classes.
        dtype: str, the dtype of the result.

    Returns:
        Float tensor of shape `(groups, m, classes)`.
    """
    if len(labels.shape) == 3:
        return ops.cast(labels, dtype)
    return ops.one_hot(ops.cast(labels, "int32"), classes, dtype=dtype)


def majority(labels, centres, ties):
    """Returns the target code of each image: the majority vote of its classes' centres, bit by bit.

    Args:
        labels: ints of shape `(groups, m)`, or 0/1 of shape `(groups, m, classes)`.
        centres: float tensor of -1 and 1 of shape `(classes, bits)`.
        ties: float tensor of -1 and 1 of shape `(bits,)`, the bits of a tied vote.

    Returns:
        Float tensor of -1 and 1 of shape `(groups, m, bits)`. It is the centre itself for an image
        with one label, and `ties` for an image without labels.

    References:
        Yuan et al., "Central similarity quantization", CVPR 2020, section 3.2.
    """
    votes = ops.matmul(marks(labels, centres.shape[0], centres.dtype), centres)
    return ops.where(votes == 0, ties, ops.sign(votes))


def bit_cross_entropy(logits, targets):
    """Returns the binary cross-entropy between the bits of images and of their targets.

    The probability of a bit is `(1 + tanh u) / 2 = sigmoid(2 u)`. For a target c in {-1, 1} the
    cross-entropy is `log(1 + exp(-2 c u))`, which stays finite for all logits.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula.
        targets: float tensor of -1 and 1 of the same shape, c in the formula.

    Returns:
        Float scalar, the mean over images and bits.
    """
    u = in_floats(logits)
    return ops.mean(ops.softplus(-2.0 * ops.cast(targets, u.dtype) * u))


def unit(vectors):
    """Divides vectors along the last axis by their lengths. Vectors of length 0 remain 0."""
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squares, SMALLEST))


def cosines(logits, centres):
    """Returns the cosines between logits and centres.

    Args:
        logits: float tensor of shape `(groups, m, bits)`.
        centres: float tensor of shape `(classes, bits)`.

    Returns:
        Float tensor of shape `(groups, m, classes)`. The cosine of a vector of length 0 is 0.
    """
    u = in_floats(logits)
    return ops.matmul(unit(u), ops.transpose(unit(ops.cast(centres, u.dtype))))


def relative_positions(logits):
    """Returns the positions of images relative to the centre of their group.

    It is `(Z - mean Z) / |Z - mean Z|_F`, with the mean over a group and the Frobenius norm of the
    group. The length of an image's row would depend on the size of the group. The rows are
    therefore multiplied by `sqrt(m / 16)`, which gives them the lengths of the authors' batches.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, Z in the formula.

    Returns:
        Float tensor of the same shape, and 0 if all images of a group have equal logits.

    References:
        Minh et al., "RelaHash", IEEE Access 2023.
    """
    z = in_floats(logits)
    z = z - ops.mean(z, axis=1, keepdims=True)
    squares = ops.sum(ops.square(z), axis=(1, 2), keepdims=True)
    scale = (z.shape[1] / RELATIVE_BATCH) ** 0.5
    return scale * z * ops.rsqrt(ops.maximum(squares, SMALLEST))


def class_scores(logits, centres, inverse_variance):
    """Returns logits of the classes whose images are normally distributed around their centres.

    They are `-t |u - mu_c|^2 / 2`, without the part `-t |u|^2 / 2` that all classes share.

    Args:
        logits: float tensor of shape `(groups, m, bits)`, u in the formula.
        centres: float tensor of shape `(classes, bits)`, mu in the formula.
        inverse_variance: float, t in the formula.

    Returns:
        Float tensor of shape `(groups, m, classes)`.
    """
    u = in_floats(logits)
    centres = ops.cast(centres, u.dtype)
    half = 0.5 * ops.sum(ops.square(centres), axis=-1)
    return inverse_variance * (ops.matmul(u, ops.transpose(centres)) - half)


def margin_cross_entropy(labels, scores, scale=1.0, margin=0.0):
    """Returns the cross-entropy of a softmax in which the classes of an image have a handicap.

    It is the mean over images of `-sum_c q_c log softmax(scale (s - margin y))_c`. Here y is 1 for
    the classes of the image, and `q = y / sum y`.

    Args:
        labels: ints of shape `(groups, m)`, or 0/1 of shape `(groups, m, classes)`.
        scores: float tensor of shape `(groups, m, classes)`, s in the formula.
        scale: float.
        margin: float.

    Returns:
        Float scalar. An image without labels counts as 0.
    """
    y = marks(labels, scores.shape[-1], scores.dtype)
    shares = y / ops.maximum(ops.sum(y, axis=-1, keepdims=True), 1.0)
    found = ops.log_softmax(scale * (scores - margin * y), axis=-1)
    return -ops.mean(ops.sum(shares * found, axis=-1))


def each_class_cross_entropy(labels, logits):
    """Returns the cross-entropy of a softmax whose probabilities are judged one by one.

    With `p = softmax(z)` it is the mean over images and classes of
    `-y log p - (1 - y) log(1 - p)`. The second logarithm is computed from the other classes where
    p is near 1, so that it stays finite.

    Args:
        labels: ints of shape `(groups, m)`, or 0/1 of shape `(groups, m, classes)`, y in the
            formula.
        logits: float tensor of shape `(groups, m, classes)`, z in the formula.

    Returns:
        Float scalar.

    References:
        Wang et al., "Deep hashing with minimal-distance-separated hash centers", CVPR 2023.
    """
    z = in_floats(logits)
    classes = z.shape[-1]
    y = marks(labels, classes, z.dtype)
    total = ops.logsumexp(z, axis=-1, keepdims=True)
    log_p = z - total
    # Only the most likely class can be near 1. All others are at most 1/2.
    top = ops.one_hot(ops.argmax(z, axis=-1), classes, dtype=z.dtype) > 0
    others = ops.logsumexp(ops.where(top, -1e9, z), axis=-1, keepdims=True) - total
    small = ops.log1p(-ops.exp(ops.where(top, -1.0, log_p)))
    return -ops.mean(y * log_p + (1.0 - y) * ops.where(top, others, small))


def attraction(logits, similar):
    """Returns what draws similar images together: the mean of `log(1 + exp((1 - cos) / 2))`.

    The mean is over the similar ordered pairs i != j of a group, and then over the groups. A group
    without such a pair counts as 0.

    Args:
        logits: float tensor of shape `(groups, m, bits)`.
        similar: float tensor of shape `(groups, m, m)` from `losses.similarity`.

    Returns:
        Float scalar.

    References:
        Wang et al., "Deep hashing with minimal-distance-separated hash centers", CVPR 2023.
    """
    u = unit(in_floats(logits))
    terms = ops.softplus(0.5 * (1.0 - ops.matmul(u, ops.swapaxes(u, 1, 2))))
    pairs = ops.cast(similar, u.dtype) * (1.0 - ops.eye(u.shape[1], dtype=u.dtype))
    counts = ops.maximum(ops.sum(pairs, axis=(1, 2)), 1.0)
    return ops.mean(ops.sum(terms * pairs, axis=(1, 2)) / counts)


def distillation(student, teacher):
    """Returns how far the student's directions are from the teacher's: the mean of `1 - cos`.

    Args:
        student, teacher: float tensors of shape `(groups, m, bits)`. No gradient reaches the
            teacher.

    Returns:
        Float scalar, the mean over images.

    References:
        Jang et al., "Deep hash distillation for image retrieval", ECCV 2022.
    """
    student, teacher = unit(in_floats(student)), unit(ops.stop_gradient(in_floats(teacher)))
    return 1.0 - ops.mean(ops.sum(student * teacher, axis=-1))
