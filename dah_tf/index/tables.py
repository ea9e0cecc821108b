"""Exact radius search by multi-index hashing, which looks up parts of a code instead of scanning.

The first 64 bits of a code are divided into m parts. Take two codes within the distance
r = m q + a (0 <= a < m). They differ in at most q bits in one of the first a + 1 parts, or in at
most q - 1 bits in one of the other parts. Otherwise they would differ in at least
(a + 1)(q + 1) + (m - a - 1) q = r + 1 bits. It is therefore enough to look up each part within
such a small radius in a table, and to compare the codes that are found. For radius 2 and 48 bits
these are three look-ups, which find about 500 of 10 million uniform codes.

References:
    Norouzi, Punjani, Fleet: Fast exact search in Hamming space with multi-index hashing, 2014.
"""

import itertools

import numpy as np

from dah_tf.index import scan
from dah_tf.index.spans import spans

PART = 16  # the bits of a part, so that a table has 65,536 buckets
PARTS = 4
# Comparing one code that was looked up takes as long as scanning this number of codes (about 50 ns
# against 0.8 ns on two cores). If the look-ups find too many, a scan is faster.
LOOKUP_COST = 64
CANDIDATES = 1 << 21  # the codes that are compared at a time, which limits the memory


def cuts(bits):
    """Returns the bit positions at which the parts start and end, such as [0, 16, 32, 48]."""
    covered = min(bits, PART * PARTS)
    parts = -(-covered // PART)
    return [covered * i // parts for i in range(parts + 1)]


def part(codes, begin, end):
    """Returns the bits `begin` to `end` of each code as a uint16 number."""
    first, last = begin // 8, -(-end // 8)
    value = np.zeros(len(codes), np.uint32)
    for byte in range(first, last):
        value = value << np.uint32(8) | codes[:, byte]
    return (value >> np.uint32(8 * last - end) & np.uint32((1 << (end - begin)) - 1)).astype(
        np.uint16
    )


def build(codes, bits):
    """Builds the tables of some codes.

    Args:
        codes: uint8 array of shape `(n, width)`.
        bits: int, the code length.

    Returns:
        Dict of two arrays for each part i. `table{i}`, uint32 of shape `(n,)`, has the rows in the
        order of the part's value. `buckets{i}`, uint32 of shape `(2 ** length + 1,)`, says where
        each value starts in it.
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
    """Returns all numbers of `length` bits with at most `radius` ones, as a uint16 array."""
    return np.array(
        [
            sum(1 << bit for bit in ones)
            for count in range(min(radius, length) + 1)
            for ones in itertools.combinations(range(length), count)
        ],
        np.uint16,
    )


def within(arrays, codes, queries, radius, selector, bits, scan_instead=None):
    """Finds every code within a radius of each query.

    Args:
        arrays: the dict that `build` returned for `codes`.
        codes, queries, radius, selector: as in `scan.numpy_within`.
        bits: int, the code length.
        scan_instead: function like `scan.numpy_within`, for queries that a scan answers faster.
            None looks up all queries.

    Returns:
        The same as `scan.numpy_within`, in any order.
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
    """Returns for each table: its number, the first and last bit of its part, and the flips."""
    edges = cuts(bits)
    least, more = divmod(radius, len(edges) - 1)
    return [
        (i, begin, end, flips(end - begin, least if i <= more else least - 1))
        for i, (begin, end) in enumerate(itertools.pairwise(edges))
        if i <= more or least > 0
    ]


def _runs(arrays, queries, probe):
    """Looks up values in a table; returns first places and counts, `(queries, flips)`."""
    i, begin, end, flipped = probe
    buckets = arrays[f"buckets{i}"]
    values = (part(queries, begin, end)[:, None] ^ flipped).astype(np.int64)
    first = buckets[values].astype(np.int64)
    return first, buckets[values + 1] - first


def _batches(numbers, candidates):
    """Splits query numbers into batches of at most about `CANDIDATES` candidates."""
    if not len(numbers):
        return []
    batch = np.cumsum(candidates[numbers]) // CANDIDATES
    return np.split(numbers, np.flatnonzero(np.diff(batch)) + 1)


def _rows(arrays, probes, runs, some):
    """Returns the candidates of some queries as query numbers and rows, with duplicates."""
    near, rows = [], []
    for probe, (first, counts) in zip(probes, runs, strict=True):
        places = spans(first[some].ravel(), counts[some].ravel())
        rows.append(arrays[f"table{probe[0]}"][places].astype(np.int64))
        near.append(np.repeat(some, counts[some].sum(axis=1)))
    return np.concatenate(near), np.concatenate(rows)


def _compare(codes, queries, near, rows, radius):
    """Keeps the candidates within the radius, without duplicates."""
    lane = np.uint64 if codes.shape[1] % 8 == 0 else np.uint32
    theirs, ours = codes.view(lane), np.ascontiguousarray(queries).view(lane)
    apart = np.zeros(len(rows), np.int32)
    for column in range(ours.shape[1]):
        apart += np.bitwise_count(theirs[rows, column] ^ ours[near, column])
    close = np.flatnonzero(apart <= radius)
    _, once = np.unique(near[close] * len(codes) + rows[close], return_index=True)
    close = close[once]
    return near[close], rows[close], apart[close]
