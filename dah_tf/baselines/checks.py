"""Checks the arguments of constructors."""

import numpy as np

from dah_tf.errors import UserError


def whole(name, value, least):
    """Raises an error if an argument is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{name}={value!r} must be a whole number of at least {least}")


def number(name, value, *, above=None, least=None):
    """Raises an error if an argument is not a finite number in its range."""
    fits = isinstance(value, int | float | np.number) and np.isfinite(value)
    if not fits or (above is not None and value <= above) or (least is not None and value < least):
        asked = f"above {above}" if above is not None else f"of at least {least}"
        raise UserError(f"{name}={value!r} must be a number {asked}")
