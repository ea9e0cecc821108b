"""One string for each item, such as its path or its label, in two NumPy arrays.

`text` is uint8 and contains all strings in UTF-8, one after the other. `starts` is int64 of shape
`(n + 1,)`. String i is `bytes(text[starts[i]:starts[i + 1]]).decode()`.
"""

import numpy as np

from dah_tf.errors import UserError, shortened
from dah_tf.index.spans import spans

BLOCK = 1 << 20


def encode(strings):
    """Turns a sequence of strings into arrays.

    Returns:
        Tuple of the uint8 array `text` and the int64 array `starts`.

    Raises:
        UserError: a string cannot be written in UTF-8.
    """
    # The name of a file may not be valid UTF-8. Python marks such bytes as surrogates.
    try:
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
    except UnicodeEncodeError as error:
        shown = shortened(ascii(error.object))
        raise UserError(
            f"{shown} is not valid text, because it contains half of a surrogate pair"
        ) from None
    starts = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(each) for each in encoded], out=starts[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), starts


def decode(text, starts, rows):
    """Returns a list of the strings of some rows."""
    return [
        text[starts[row] : starts[row + 1]].tobytes().decode("utf-8", "surrogateescape")
        for row in rows
    ]


def counts(text, starts, rows):
    """Returns how many of some rows have each string: a dict of str to int."""
    lengths = starts[rows + 1] - starts[rows]
    found = {}
    for length in np.unique(lengths).tolist():
        same = rows[lengths == length]
        if not length:
            found[""] = len(same)
            continue
        for first in range(0, len(same), BLOCK):
            begin = starts[same[first : first + BLOCK]]
            block = text[spans(begin, np.full(len(begin), length))].view(f"V{length}")
            for each, number in zip(*np.unique(block, return_counts=True), strict=True):
                string = each.tobytes().decode("utf-8", "surrogateescape")
                found[string] = found.get(string, 0) + int(number)
    return found


def take(text, starts, rows):
    """Returns the arrays of the strings of some rows, in the order of the rows."""
    lengths = starts[rows + 1] - starts[rows]
    taken = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=taken[1:])
    return text[spans(starts[rows], lengths)], taken


def join(columns):
    """Joins the arrays of several columns."""
    texts, shifted, total = [], [np.zeros(1, np.int64)], 0
    for text, starts in columns:
        texts.append(text)
        shifted.append(starts[1:] + total)
        total += len(text)
    return np.concatenate(texts), np.concatenate(shifted)


def matches(text, starts, wanted, prefix=False):
    """Says which strings are equal to `wanted`, or with `prefix` start with it.

    Returns:
        bool array of shape `(n,)`.
    """
    wanted = np.frombuffer(wanted.encode("utf-8", "surrogateescape"), np.uint8)
    found = np.zeros(len(starts) - 1, bool)
    for first in range(0, len(found), BLOCK):
        begin = np.asarray(starts[first : first + BLOCK + 1])
        lengths = np.diff(begin)
        fits = lengths >= len(wanted) if prefix else lengths == len(wanted)
        rows = np.flatnonzero(fits)
        # Letters are compared one column after the other, because most rows differ early.
        for column, letter in enumerate(wanted):
            rows = rows[text[begin[rows] + column] == letter]
        found[first + rows] = True
    return found
