"""The precision that losses are computed in."""

import keras
from keras import ops


def in_floats(values):
    """Values in float32, whatever their type; float64 stays, for tests of gradients."""
    values = ops.convert_to_tensor(values)
    if keras.backend.standardize_dtype(values.dtype) == "float64":
        return values
    return ops.cast(values, "float32")
