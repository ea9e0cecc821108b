"""The precision in which losses are computed."""

import keras
from keras import ops


def in_floats(values):
    """Converts values to float32. float64 does not change, because tests of gradients need it."""
    values = ops.convert_to_tensor(values)
    if keras.backend.standardize_dtype(values.dtype) == "float64":
        return values
    return ops.cast(values, "float32")
