"""Errors of an index that a program may want to tell from other bad input."""

from dah_tf.errors import UserError


class ItemNotFoundError(UserError):
    """An id is not in the index."""


class WrongModelError(UserError):
    """Codes were made by another model than those of the index."""


class IndexBusyError(UserError):
    """Another process writes to the index. The same call may succeed when it has ended."""
