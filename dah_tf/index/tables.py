"""Exact radius search by multi-index hashing: look up parts of a code instead of scanning.

A code's first 64 bits are cut into m parts. Two codes within distance r = m q + a (0 <= a < m)
agree, up to q bits, in one of the first a + 1 parts, or up to q - 1 bits in one of the others:
were it not so, they would differ in (a + 1)(q + 1) + (m - a - 1) q = r + 1 bits. So it is enough
to look up the parts within these small radii in one table each, and to compare what is found.
For radius 2 and 48 bits that is three look-ups that find some 500 of 10 million uniform codes.

References:
    Norouzi, Punjani, Fleet: Fast exact search in Hamming space with multi-index hashing, 2014.
"""

import itertools

import numpy as np

from dah_tf.index import scan
from dah_tf.index.spans import spans

PART = 16  # bits: a table of 65,536 buckets
PARTS = 4
# Comparing a code that was looked up takes as long as scanning this many (about 50 ns against
# 0.8 ns on two cores): where more are found, a scan is faster.
LOOKUP_COST = 64
CANDIDATES = 1 << 21  # compared at a time: memory stays small whatever the radius


def cuts(bits):
    """Bit positions between which the parts lie, such as [0, 16, 32, 48]."""
    covered = min(bits, PART * PARTS)
    parts = -(-covered // PART)
    return [covered * i // parts for i in range(parts + 1)]


def part(codes, begin, end):
    """Bits `begin` to `end` of each code as a uint16 number."""
    first, last = begin // 8, -(-end // 8)
    value = np.zeros(len(codes), np.uint32)
    for byte in range(first, last):
        value = value << np.uint32(8) | codes[:, byte]
    return (value >> np.uint32(8 * last - end) & np.uint32((1 << (end - begin)) - 1)).astype(
        np.uint16
    )


def build(codes, bits):
    """The tables of some codes.

    Args:
        codes: uint8 array of shape `(n, width)`.
        bits: int, code length.

    Returns:
        Dict of arrays, for each part i: `table{i}`, uint32 of shape `(n,)`, the rows in the order
        of the part's value; `buckets{i}`, uint32 of shape `(2 ** length + 1,)`, where each value
        begins in it.
    """
    arrays = {}
    edges = cuts(bits)
    for i, (begin, end) in enumerate(itertools.pairwise(edges)):
        value = part(codes, begin, end)
        arrays[f"table{i}"] = np.argsort(value, kind="stable").astype(np.uint32)
        buckets = np.zeros((1 << (end - begin)) + 1, np.uint32)
        np.cumsum(np.bincount(value, minlength=len(buckets) - 1), out=buckets[1:])
        arrays[f"buckets{i}"] = buckets
    return arrays


def flips(length, radius):
    """Every number of `length` bits with at most `radius` ones, as uint16 array."""
    return np.array(
        [
            sum(1 << bit for bit in ones)
            for count in range(min(radius, length) + 1)
            for ones in itertools.combinations(range(length), count)
        ],
        np.uint16,
    )


def within(arrays, codes, queries, radius, selector, bits, scan_instead=None):
    """Every code within a radius of each query.

    Args:
        arrays: what `build` returned for `codes`.
        codes, queries, radius, selector: as in `scan.numpy_within`.
        bits: int, code length.
        scan_instead: function like `scan.numpy_within`, for the queries that a scan answers
            sooner; None looks up all.

    Returns:
        As `scan.numpy_within`, in any order.
    """
    probes = _probes(bits, radius)
    values = sum(len(flipped) for _, _, _, flipped in probes)
    if scan_instead and values * LOOKUP_COST >= len(codes):
        return scan_instead(codes, queries, radius, selector)
    found, slow = [], []
    block = max(1, CANDIDATES // values)
    for start in range(0, len(queries), block):
        numbers = np.arange(start, min(start + block, len(queries)))
        runs = [_runs(arrays, queries[numbers], probe) for probe in probes]
        candidates = sum(counts.sum(axis=1) for _, counts in runs)
        if scan_instead:
            fast = candidates * LOOKUP_COST < len(codes)
            slow.append(numbers[~fast])
        else:
            fast = np.ones(len(numbers), bool)
        for some in _batches(np.flatnonzero(fast), candidates):
            near, rows = _rows(arrays, probes, runs, some)
            near, rows, apart = _compare(codes, queries, numbers[near], rows, radius)
            taking = scan.chosen(selector, rows)
            found.append((near[taking], rows[taking], apart[taking]))
    slow = np.concatenate(slow) if slow else np.zeros(0, np.int64)
    if len(slow):
        near, rows, apart = scan_instead(codes, queries[slow], radius, selector)
        found.append((slow[near], rows, apart))
    return scan.joined(found)


def _probes(bits, radius):
    """For each table to be looked up: its number, the part's bits, what to flip in it."""
    edges = cuts(bits)
    least, more = divmod(radius, len(edges) - 1)
    return [
        (i, begin, end, flips(end - begin, least if i <= more else least - 1))
        for i, (begin, end) in enumerate(itertools.pairwise(edges))
        if i <= more or least > 0
    ]


def _runs(arrays, queries, probe):
    """Where a table holds what is looked up: first places and counts, `(queries, flips)`."""
    i, begin, end, flipped = probe
    buckets = arrays[f"buckets{i}"]
    values = (part(queries, begin, end)[:, None] ^ flipped).astype(np.int64)
    first = buckets[values].astype(np.int64)
    return first, buckets[values + 1] - first


def _batches(numbers, candidates):
    """Splits query numbers so that a batch has about `CANDIDATES` candidates at most."""
    if not len(numbers):
        return []
    batch = np.cumsum(candidates[numbers]) // CANDIDATES
    return np.split(numbers, np.flatnonzero(np.diff(batch)) + 1)


def _rows(arrays, probes, runs, some):
    """Candidates of some queries: query numbers and rows; some stand there several times."""
    near, rows = [], []
    for probe, (first, counts) in zip(probes, runs, strict=True):
        places = spans(first[some].ravel(), counts[some].ravel())
        rows.append(arrays[f"table{probe[0]}"][places].astype(np.int64))
        near.append(np.repeat(some, counts[some].sum(axis=1)))
    return np.concatenate(near), np.concatenate(rows)


def _compare(codes, queries, near, rows, radius):
    """Keeps the candidates within the radius, each once."""
    lane = np.uint64 if codes.shape[1] % 8 == 0 else np.uint32
    theirs, ours = codes.view(lane), np.ascontiguousarray(queries).view(lane)
    apart = np.zeros(len(rows), np.int32)
    for column in range(ours.shape[1]):
        apart += np.bitwise_count(theirs[rows, column] ^ ours[near, column])
    close = np.flatnonzero(apart <= radius)
    _, once = np.unique(near[close] * len(codes) + rows[close], return_index=True)
    close = close[once]
    return near[close], rows[close], apart[close]
