"""What a runtime says of a file that it cannot load, in one line."""

import contextlib

from dah_tf.errors import UserError

# How OpenVINO begins the lines that tell where in its own source it gave up.
PLACES = ("Exception from ", "Check '")


@contextlib.contextmanager
def opening(path, *kinds: type[Exception]):
    """Explains that a runtime cannot load a file; put around the runtime's own call alone.

    Args:
        path: path of the file.
        *kinds: what the runtime raises where it is the file that is at fault.

    Raises:
        UserError: one of `kinds` was raised. All else passes, as a mistake in a program.
    """
    try:
        yield
    except kinds as error:
        raise UserError(f"cannot load {path}: {_reason(error)}; export it again") from error


def _reason(error):
    lines = [line.strip() for line in str(error).splitlines()]
    said = (line for line in lines if line and not line.startswith(PLACES))
    return next(said, type(error).__name__)
