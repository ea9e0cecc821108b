"""How well codes use their bits, and how far classes are apart in them.

Items are read in blocks, so that arrays of `np.load(..., mmap_mode="r")` may be larger than the
memory.
"""

import collections

import numpy as np

from dah_tf import codes
from dah_tf.metrics.grouping import BLOCK, Grouped, check_labels

Balance = collections.namedtuple("Balance", ["ones", "ratio", "dead"])


def _blocks(packed, bits, block=BLOCK // 16):
    """Yields slices of the items, and the bit planes of each slice."""
    for first in range(0, len(packed), block):
        part = slice(first, first + block)
        yield part, _planes(codes.unpack(packed[part], bits))


def _planes(bits):
    """Converts columns of 0 and 1 to rows of 64-bit words: `(n, k)` to uint64 `(k, words)`."""
    return codes.words(np.packbits(np.ascontiguousarray(bits.T), axis=1))


def _common(a, b):
    """Counts the places in which rows of `a` and of `b` are both 1: int64 `(rows, rows)`."""
    rows = [np.bitwise_count(row & b).sum(axis=1, dtype=np.int64) for row in a]
    return np.array(rows, np.int64).reshape(len(a), len(b))


def bit_balance(packed: np.ndarray, bits: int) -> Balance:
    """Returns the share of ones, and the ratio of ones to zeros, of each bit (DAH, Table 5).

    Args:
        packed: uint8 array of shape `(items, ceil(bits / 8))`.
        bits: int, the code length.

    Returns:
        `Balance`. `ones` and `ratio` are float64 arrays of shape `(bits,)`; the ratio of a bit
        that is never 0 is infinite. `dead` is the number of bits that never change.
    """
    count = np.zeros(bits)
    for _, planes in _blocks(packed, bits):
        count += np.bitwise_count(planes).sum(axis=1, dtype=np.int64)
    zeros = len(packed) - count
    ratio = np.divide(count, zeros, out=np.full(bits, np.inf), where=zeros > 0)
    dead = int(((count == 0) | (zeros == 0)).sum())
    return Balance(count / max(len(packed), 1), ratio, dead)


def bit_entropy(packed: np.ndarray, bits: int) -> tuple[np.ndarray, float]:
    """Returns the entropy of each bit and of the whole code, in bits.

    Returns:
        `(each, whole)`. `each` is a float64 array of shape `(bits,)` with values up to 1. `whole`
        is a float, the entropy of the distribution over the distinct codes, which is at most log2
        of the number of items.
    """
    ones = bit_balance(packed, bits).ones
    each = _plogp(ones) + _plogp(1 - ones)
    counts = Grouped(packed, np.zeros(len(packed), np.int64), bits).counts
    return each, float(_plogp(counts / max(len(packed), 1)).sum())


def _plogp(p):
    return -p * np.log2(p, out=np.zeros_like(p), where=p > 0)


def bit_correlation(packed: np.ndarray, bits: int) -> np.ndarray:
    """Returns the Pearson correlation of each pair of bits.

    Returns:
        float64 array of shape `(bits, bits)`. Rows and columns of bits that never change are NaN.
    """
    both = np.zeros((bits, bits))
    for _, planes in _blocks(packed, bits):
        both += _common(planes, planes)
    ones = np.diag(both)
    covariance = len(packed) * both - np.outer(ones, ones)
    spread = np.sqrt(np.diag(covariance))
    scale = np.outer(spread, spread)
    return np.divide(covariance, scale, out=np.full_like(both, np.nan), where=scale > 0)


def collisions(packed: np.ndarray, labels: np.ndarray, bits: int) -> tuple[int, int, int]:
    """Counts the codes that items with different labels share.

    Args:
        packed: uint8 array of shape `(items, ceil(bits / 8))`.
        labels: int array of shape `(items,)`, or 0/1 array of shape `(items, classes)`. Two rows
            that are not equal are different labels.
        bits: int, the code length.

    Returns:
        `(distinct, shared, items)`, ints: the number of distinct codes, the number of those that
        different labels share, and the number of items with such a code.
    """
    groups = Grouped(packed, labels, bits)
    per_code = np.bincount(groups.code)
    shared = per_code > 1
    return len(per_code), int(shared.sum()), int(groups.counts[shared[groups.code]].sum())


def _class_ones(packed, labels, bits):
    """Counts the ones of each class and bit, `(classes, bits)`, and the items of each class."""
    labels = np.asarray(labels)
    check_labels(labels)
    if len(packed) != len(labels):
        raise ValueError(f"Codes and labels differ in number: {len(packed)} and {len(labels)}")
    classes = int(labels.max(initial=-1)) + 1 if labels.ndim == 1 else labels.shape[1]
    ones, sizes = np.zeros((classes, bits)), np.zeros(classes)
    for rows, planes in _blocks(packed, bits):
        member = labels[rows]
        member = member[:, None] == np.arange(classes) if member.ndim == 1 else member > 0
        ones += _common(_planes(member), planes)
        sizes += member.sum(axis=0)
    return ones, sizes


def class_distances(packed: np.ndarray, labels: np.ndarray, bits: int) -> np.ndarray:
    """Returns the mean Hamming distance between the items of each pair of classes.

    Returns:
        float64 array of shape `(classes, classes)`. On the diagonal it is the mean over pairs of
        different items. It is NaN if a class has too few items.
    """
    ones, sizes = _class_ones(packed, labels, bits)
    zeros = sizes[:, None] - ones
    apart = ones @ zeros.T + zeros @ ones.T
    pairs = np.outer(sizes, sizes) - np.diag(sizes)
    return np.divide(apart, pairs, out=np.full_like(apart, np.nan), where=pairs > 0)


def distance_to_centre(packed: np.ndarray, labels: np.ndarray, bits: int) -> np.ndarray:
    """Returns the mean Hamming distance between an item and the majority code of its class.

    With a good MAP it is near 1. It grows if similar images do not attract each other.

    Returns:
        float64 array of shape `(classes,)`, with NaN for a class without items.
    """
    ones, sizes = _class_ones(packed, labels, bits)
    away = np.minimum(ones, sizes[:, None] - ones).sum(axis=1)
    return np.divide(away, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
