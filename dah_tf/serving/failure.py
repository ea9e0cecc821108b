"""Errors between a client and a model, with the names of gRPC. Standard library only."""

from dah_tf.errors import UserError

CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The status codes of gRPC, by number. TensorFlow has the same codes."""


class ServingError(UserError):
    """A model or its server did not answer.

    Args:
        code: str, one of `CODES`, such as "UNAVAILABLE".
        message: str, which is joined to one line.

    Attributes:
        code: str.
    """

    def __init__(self, code, message):
        super().__init__(" ".join(str(message).split()))
        self.code = code

    def __reduce__(self):  # otherwise it could not be pickled between processes
        return ServingError, (self.code, str(self))
