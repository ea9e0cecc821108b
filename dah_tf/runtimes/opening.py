"""Explains in one line why a runtime cannot load a file."""

import contextlib

from dah_tf.errors import UserError

# OpenVINO begins the lines that name a place in its own source code with this text.
PLACES = ("Exception from ", "Check '")


@contextlib.contextmanager
def opening(path, *kinds: type[Exception]):
    """Explains that a runtime cannot load a file. Use it only around the runtime's own call.

    Args:
        path: path of the file.
        *kinds: the exceptions that the runtime raises if the file is faulty.

    Raises:
        UserError: one of `kinds` was raised. All other exceptions pass, because they point to a
            mistake in the program.
    """
    try:
        yield
    except kinds as error:
        raise UserError(f"cannot load {path}: {_reason(error)}; export it again") from error


def _reason(error):
    lines = [line.strip() for line in str(error).splitlines()]
    said = (line for line in lines if line and not line.startswith(PLACES))
    return next(said, type(error).__name__)
