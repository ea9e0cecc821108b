"""Conversion of values to types that JSON can hold."""

import math


def plain(value):
    """Converts NumPy numbers and arrays to Python's types, and NaN and infinity to None.

    Args:
        value: dicts, lists and tuples of text, numbers and NumPy values. Any other object is
            replaced by its text.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
