"""Values as JSON can hold them."""

import math


def plain(value):
    """A value with NumPy's numbers and arrays made Python's, and None for NaN and infinity.

    Args:
        value: dicts, lists and tuples of text, numbers and NumPy values; anything else becomes its
            text.
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
