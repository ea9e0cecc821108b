"""Groups of equal codes, and the two histograms over the Hamming distance."""

import numpy as np

from dah_tf import codes

BLOCK = 1 << 20


def relevant(query_labels: np.ndarray, database_labels: np.ndarray) -> np.ndarray:
    """Says which items are relevant to which queries.

    Args:
        query_labels: int array of shape `(queries,)`, or 0/1 array of shape `(queries, classes)`.
        database_labels: the same for the database.

    Returns:
        bool array of shape `(queries, items)`, true if an item has the class of the query, or at
        least one label in common with it.

    Raises:
        ValueError: the two arrays of labels are of different kinds.
    """
    query_labels, database_labels = (
        np.asarray(query_labels),
        np.asarray(database_labels),
    )
    check_labels(query_labels, database_labels)
    if query_labels.ndim == 1:
        return query_labels[:, None] == database_labels[None, :]
    ours, theirs = (codes.words(codes.pack(part > 0)) for part in (query_labels, database_labels))
    result = np.zeros((len(ours), len(theirs)), bool)
    for ours_column, theirs_column in zip(ours.T, theirs.T, strict=True):
        result |= (ours_column[:, None] & theirs_column[None, :]) != 0
    return result


def check_labels(*parts):
    """Raises ValueError if the parts are not labels of the same kind."""
    first = parts[0]
    for part in parts:
        kinds = part.dtype.kind in "iub" and part.ndim in (1, 2) and part.ndim == first.ndim
        if not kinds or part.shape[1:] != first.shape[1:]:
            raise ValueError(
                "Labels must be int (n,) or 0/1 (n, classes), in the same form for queries and "
                "database. "
                f"Received: {', '.join(f'{p.dtype} {p.shape}' for p in parts)}"
            )


class Grouped:
    """Groups of items with equal codes and equal labels.

    Args:
        packed: uint8 array of shape `(items, ceil(bits / 8))`.
        labels: int array of shape `(items,)`, or 0/1 array of shape `(items, classes)`.
        bits: int, the code length.

    Attributes:
        words: uint64 array of shape `(groups, words)`, the codes of the groups.
        code: int array of shape `(groups,)`, ascending from 0, with equal numbers for equal codes.
        sets: the distinct labels, or rows of labels.
        labels: int array of shape `(groups,)`, the row of each group in `sets`.
        counts: int array of shape `(groups,)`, the number of items in each group.
        member: int array of shape `(items,)`, the group of each item.

    Raises:
        ValueError: the arrays do not fit together.
    """

    def __init__(self, packed: np.ndarray, labels: np.ndarray, bits: int):
        packed, labels = codes.check(packed, bits), np.asarray(labels)
        check_labels(labels)
        if len(packed) != len(labels):
            raise ValueError(f"Codes and labels differ in number: {len(packed)} and {len(labels)}")
        words = codes.words(packed)
        first, code = distinct(words)
        words = words[first]
        labels_as_words = labels[:, None]
        if labels.ndim == 2:
            labels_as_words = codes.words(codes.pack(labels > 0))
        first, label = distinct(labels_as_words)
        self.sets = labels[first]
        keys = code * max(len(self.sets), 1) + label
        keys, self.member, self.counts = np.unique(keys, return_inverse=True, return_counts=True)
        self.code, self.labels = np.divmod(keys, max(len(self.sets), 1))
        self.words = words[self.code]


def distinct(rows):
    """Finds equal rows of integers, by one sort of integers for each column.

    Args:
        rows: int array of shape `(n, columns)`.

    Returns:
        `(first, member)`: the index of one row of each kind, and the kind of each row.
    """
    member = np.zeros(len(rows), np.int64)
    for column in rows.T:
        values, place = np.unique(column, return_inverse=True)
        _, first, member = np.unique(
            member * max(len(values), 1) + place, return_index=True, return_inverse=True
        )
    return (first, member) if rows.shape[1] else (np.arange(min(len(rows), 1)), member)


def histograms(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
    bits: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts all items and the relevant items at each Hamming distance from each query.

    The database may be larger than the memory, because arrays of `np.load(..., mmap_mode="r")` are
    read in blocks. Histograms of parts of a database can be added.

    Args:
        query_codes: uint8 array of shape `(queries, ceil(bits / 8))`, packed codes.
        query_labels: int array of shape `(queries,)`, or 0/1 array of shape `(queries, classes)`.
        database_codes: uint8 array of shape `(items, ceil(bits / 8))`.
        database_labels: as `query_labels`, for the database.
        bits: int, code length.

    Returns:
        `(relevant, total)`: int64 arrays of shape `(queries, bits + 1)`.

    Raises:
        ValueError: the arrays do not fit together.
    """
    if len(database_codes) != len(database_labels):
        raise ValueError(
            f"Codes and labels differ in number: {len(database_codes)} and {len(database_labels)}"
        )
    queries = Grouped(query_codes, query_labels, bits)
    result = np.zeros((2, len(queries.counts), bits + 1), np.int64)
    for first in range(0, len(database_codes), BLOCK):
        part = slice(first, first + BLOCK)
        database = Grouped(database_codes[part], database_labels[part], bits)
        check_labels(queries.sets, database.sets)
        for label in range(len(queries.sets)):
            if label % 64 == 0:
                fits = relevant(queries.sets[label : label + 64], database.sets)
            rows = np.flatnonzero(queries.labels == label)
            _add(queries.words[rows], rows, database, fits[label % 64][database.labels], result)
    return result[0][queries.member], result[1][queries.member]


def _add(queries, rows, database, fits, result):
    """Adds the histograms of queries that have the same relevant items.

    Args:
        queries: uint64 array of shape `(n, words)`.
        rows: int array of shape `(n,)`, the rows of the queries in `result`.
        database: `Grouped`.
        fits: bool array of shape `(groups,)` that is true for relevant groups.
        result: int64 array of shape `(2, queries, bits + 1)`, the relevant and the total items.
    """
    length = result.shape[2]
    # The relevant ones first: one row of distances then serves both histograms.
    order = np.concatenate([np.flatnonzero(fits), np.flatnonzero(~fits)])
    counts = database.counts[order]
    split, weights = int(fits.sum()), counts.astype(np.float64)
    if 2 * len(order) > counts.sum():
        # If few codes are equal, plain counting is faster than adding up weights.
        split, weights = int(counts[:split].sum()), None
        order = np.repeat(order, counts)
    columns = np.ascontiguousarray(database.words[order].T)
    differing = np.empty(len(order), np.uint64)
    distance = np.empty(len(order), np.uint8 if length <= 256 else np.uint16)
    ours = slice(0, split)
    for row, query in zip(rows, queries, strict=True):
        np.bitwise_count(np.bitwise_xor(columns[0], query[0], out=differing), out=distance)
        for column, word in zip(columns[1:], query[1:], strict=True):
            distance += np.bitwise_count(np.bitwise_xor(column, word, out=differing))
        if weights is None:
            result[0, row] += _count(distance[ours], length)
            result[1, row] += _count(distance, length)
        else:
            # Sums of integers below 2^53 are exact in float64.
            result[0, row] += np.bincount(distance[ours], weights[ours], length).astype(np.int64)
            result[1, row] += np.bincount(distance, weights, length).astype(np.int64)


def _count(distance, length):
    """Counts how often each distance below `length` occurs.

    Long rows are counted two bytes at a time, with `256 * length` bins and half as many steps.
    """
    if distance.dtype != np.uint8 or len(distance) < 1 << 14:
        return np.bincount(distance, minlength=length)
    even = len(distance) & ~1
    pairs = np.bincount(distance[:even].view(np.uint16), minlength=256 * length)
    pairs = pairs.reshape(length, 256)[:, :length]
    result = pairs.sum(axis=0) + pairs.sum(axis=1)
    result[distance[even:]] += 1
    return result
