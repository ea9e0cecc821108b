"""The one exception that means "the user can mend this", and how its messages name long texts."""


class UserError(ValueError):
    """Bad input. The message is one line: what, where, and what to do about it.

    Commands print it as `error: ...` and exit with code 2.
    """


def shortened(text: str, limit: int = 80) -> str:
    """A text as tables and messages show it: the middle of a long one is an ellipsis.

    What is stored, and what `--json` prints, stays whole.

    Args:
        text: one line, such as a key.
        limit: the number of characters that are shown at most; of a path the end tells most, so
            that two thirds of them are of the end.
    """
    if len(text) <= limit:
        return text
    tail = limit * 2 // 3
    return f"{text[: limit - tail - 1]}…{text[len(text) - tail :]}"
