"""What goes wrong between a client and a model, by gRPC's names for it. Standard library only."""

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
"""Status codes of gRPC, by number; TensorFlow's are the same."""


class ServingError(UserError):
    """A model or its server did not answer.

    Args:
        code: str, one of `CODES`, such as "UNAVAILABLE".
        message: str, shortened to one line.

    Attributes:
        code: str.
    """

    def __init__(self, code, message):
        super().__init__(" ".join(str(message).split()))
        self.code = code

    def __reduce__(self):  # or pools of processes could not hand it on
        return ServingError, (self.code, str(self))
