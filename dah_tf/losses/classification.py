"""Cross-entropy and accuracy of a class layer, for images with one label or with several."""

import keras
from keras import ops


def cross_entropy(labels, logits, smoothing=0.0):
    """Returns the mean cross-entropy over images.

    If an image has one label, it is `-sum_c q_c log softmax(z)_c` with
    `q = (1 - e) one_hot + e / classes`. If it has several, it is the mean over the classes of
    `-q log sigmoid(z) - (1 - q) log sigmoid(-z)` with `q = (1 - e) y + e / 2`.

    Args:
        labels: ints of shape `(groups, m)`, or 0/1 of shape `(groups, m, classes)` if an image can
            have several labels.
        logits: float tensor of shape `(groups, m, classes)`, z in the formula.
        smoothing: float in [0, 1), e in the formula.

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
    """Returns the share of images that are classified correctly.

    With one label, the class must be the most likely one. With several, all of them must be right.

    Args:
        labels, logits: as in `cross_entropy`.

    Returns:
        float32 scalar.
    """
    if several(labels, logits):
        right = ops.all((logits > 0) == (ops.cast(labels, "float32") > 0.5), axis=-1)
    else:
        right = ops.argmax(logits, axis=-1) == ops.cast(labels, "int32")
    return ops.mean(ops.cast(right, "float32"))


def several(labels, logits):
    """Says whether labels are rows of 0 and 1 for all classes, and not numbers of classes."""
    return len(labels.shape) == len(logits.shape)
