"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """Bad input. The message is one line: what, where, and what to do about it.

    Commands print it as `error: ...` and exit with code 2.
    """
