"""The exception for bad input, and how its messages shorten long texts."""


class UserError(ValueError):
    """Bad input that the user can correct.

    The message is one line. It says what is wrong, where, and what to do about it.

    Commands print it as `error: ...` and exit with code 2.

    Example:
        >>> import dah_tf
        >>> try:
        ...     dah_tf.Recipe(bits=0)
        ... except UserError as error:
        ...     print(error)
        bits=0 must be at least 1
    """


def shortened(text: str, limit: int = 80) -> str:
    """Shortens a text for tables and messages: an ellipsis replaces the middle of a long one.

    Stored texts and the output of `--json` are never shortened.

    Args:
        text: one line, such as a key.
        limit: the largest number of characters that are shown. Two thirds of them come from the
            end of the text, because the end of a path says most.
    """
    if len(text) <= limit:
        return text
    tail = limit * 2 // 3
    return f"{text[: limit - tail - 1]}…{text[len(text) - tail :]}"
