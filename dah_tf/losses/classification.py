"""Cross-entropy and accuracy of a class layer, for data of one label or of several."""

import keras
from keras import ops


def cross_entropy(labels, logits, smoothing=0.0):
    """Mean cross-entropy over images.

    Of one label an image: `-sum_c q_c log softmax(z)_c` with `q = (1 - e) one_hot + e / classes`.
    Of several: the mean over classes of `-q log sigmoid(z) - (1 - q) log sigmoid(-z)` with
    `q = (1 - e) y + e / 2`.

    Args:
        labels: ints of shape `(groups, m)`; or 0/1 of shape `(groups, m, classes)`, of several
            labels an image.
        logits: float tensor of shape `(groups, m, classes)`, z.
        smoothing: float in [0, 1), e.

    Returns:
        Float scalar of the logits' dtype.
    """
    if several(labels, logits):
        entropy = keras.losses.binary_crossentropy(
            ops.cast(labels, logits.dtype), logits, from_logits=True, label_smoothing=smoothing
        )
    else:
        entropy = keras.losses.categorical_crossentropy(
            ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype),
            logits,
            from_logits=True,
            label_smoothing=smoothing,
        )
    return ops.mean(entropy)


def accuracy(labels, logits):
    """Share of images whose class is the most likely one; of several labels, all of them right.

    Args:
        labels, logits: as of `cross_entropy`.

    Returns:
        float32 scalar.
    """
    if several(labels, logits):
        right = ops.all((logits > 0) == (ops.cast(labels, "float32") > 0.5), axis=-1)
    else:
        right = ops.argmax(logits, axis=-1) == ops.cast(labels, "int32")
    return ops.mean(ops.cast(right, "float32"))


def several(labels, logits):
    """Whether labels are rows of 0 and 1, one for each class, and not numbers of classes."""
    return len(labels.shape) == len(logits.shape)
