"""Exact search by comparing a query with every code: plain NumPy, and faiss' kernels.

Both work on codes padded to a width that faiss has a kernel for (`padded_width`), directly on
arrays that are mapped from files: nothing is copied. `selector` says which codes take part: a
bitmap of shape `(ceil(n / 8),)`, bit i in byte `i // 8`, the least significant bit first; None is
all of them.
"""

import concurrent.futures
import contextlib

import numpy as np

from dah_tf import codes as packed
from dah_tf.errors import UserError

# Compared at a time: (queries, codes), 32 MiB of distances.
QUERIES, CODES = 64, 1 << 18
# From this many codes on, a single query is worth several threads.
DIVIDED = 1 << 18


def padded_width(bits):
    """Bytes in which codes are stored: the least that faiss compares in whole words.

    A 48-bit code takes 8 bytes: faiss scans these three times faster than 6.
    """
    return next(width for width in (4, 8, 16, 20, 32) if width * 8 >= bits)


def pad(codes, width):
    """Codes of fewer bytes with zeros behind; distances stay the same."""
    codes = np.asarray(codes)
    if codes.shape[1] == width:
        return np.ascontiguousarray(codes)
    result = np.zeros((len(codes), width), np.uint8)
    result[:, : codes.shape[1]] = codes
    return result


def chosen(selector, rows):
    """Whether each of `rows` takes part: bool array of their shape."""
    if selector is None:
        return np.ones(rows.shape, bool)
    return (selector[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(bool)


def numpy_knn(codes, queries, k, selector=None):
    """The k nearest codes of each query, by brute force.

    Args:
        codes: uint8 array of shape `(n, width)`.
        queries: uint8 array of shape `(q, width)`.
        k: int, at most the number of codes that take part.
        selector: bitmap, or None.

    Returns:
        int32 distances and int64 rows, each of shape `(q, k)`, nearest first; among equals the
        first rows.
    """
    distances, rows = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.int64)
    for part, first, apart, taking in _blocks(codes, queries, selector):
        if first == 0:
            best = np.zeros((len(apart), 0), np.int32), np.zeros((len(apart), 0), np.int64)
        where = np.broadcast_to(first + taking, apart.shape)
        best = np.concatenate([best[0], apart], axis=1), np.concatenate([best[1], where], axis=1)
        order = np.argsort(best[0], axis=1, kind="stable")[:, :k]
        best = tuple(np.take_along_axis(each, order, axis=1) for each in best)
        if first + CODES >= len(codes):
            distances[part], rows[part] = best
    return distances, rows


def numpy_within(codes, queries, radius, selector=None):
    """Every code within a radius of each query, by brute force.

    Args:
        codes, queries, selector: as in `numpy_knn`.
        radius: int, the largest distance.

    Returns:
        int64 query numbers, int64 rows and int32 distances, each of shape `(found,)`.
    """
    found = []
    for part, first, apart, taking in _blocks(codes, queries, selector):
        near, at = np.nonzero(apart <= radius)
        found.append((part.start + near, first + taking[at], apart[near, at]))
    return joined(found)


def joined(found):
    """One triple of arrays out of a list of triples (queries, rows, distances)."""
    kinds = (np.int64, np.int64, np.int32)
    if not found:
        return tuple(np.zeros(0, kind) for kind in kinds)
    return tuple(
        np.concatenate(each).astype(kind, copy=False)
        for each, kind in zip(zip(*found, strict=True), kinds, strict=True)
    )


def _blocks(codes, queries, selector):
    for start in range(0, len(queries), QUERIES):
        part = slice(start, min(start + QUERIES, len(queries)))
        for first in range(0, len(codes), CODES):
            block = codes[first : first + CODES]
            taking = np.flatnonzero(chosen(selector, np.arange(first, first + len(block))))
            apart = packed.hamming(queries[part], block[taking]).astype(np.int32)
            yield part, first, apart, taking


def load_faiss():
    """The faiss module.

    Raises:
        UserError: it is not installed.
    """
    try:
        import faiss
    except ModuleNotFoundError:
        raise UserError(
            "this needs faiss: python -m pip install 'dah_tf[index]', or search with "
            "backend=numpy (slower, same results)"
        ) from None
    return faiss


def faiss_knn(codes, queries, k, selector=None):
    """As `numpy_knn`, by faiss on all cores; which of equals at the last distance is open."""
    faiss = load_faiss()
    threads = faiss.omp_get_max_threads()
    # faiss gives each thread queries of its own; threads without any would only be waited for.
    if len(queries) >= threads or len(codes) < DIVIDED:
        with _threads(faiss, min(threads, len(queries))):
            return _faiss_knn(faiss, codes, queries, k, selector)
    # For fewer queries than threads, it is the codes that are divided.
    step = -(-len(codes) // (8 * threads)) * 8  # whole bytes of the bitmap

    def search(start):
        part = codes[start : start + step]
        taking = None if selector is None else selector[start // 8 : (start + step) // 8]
        with _threads(faiss, 1):
            distances, rows = _faiss_knn(faiss, part, queries, min(k, len(part)), taking)
        return distances, rows + start

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(search, range(0, len(codes), step)))
    # A part with fewer than k that take part is filled up with the greatest distance there is.
    distances, rows = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return tuple(np.take_along_axis(each, order, axis=1) for each in (distances, rows))


@contextlib.contextmanager
def _threads(faiss, count):
    """Lets faiss use `count` threads for what this thread asks of it."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _faiss_knn(faiss, codes, queries, k, selector):
    distances, rows = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.int64)
    heap = faiss.int_maxheap_array_t()
    heap.nh, heap.k = rows.shape
    heap.ids, heap.val = faiss.swig_ptr(rows), faiss.swig_ptr(distances)
    by_distance = 1
    faiss.hammings_knn_hc(
        heap,
        faiss.swig_ptr(queries),
        faiss.swig_ptr(codes),
        len(codes),
        codes.shape[1],
        by_distance,
        faiss.EXACT_TOPK,
        _id_selector(faiss, selector, len(codes)),
    )
    return distances, rows


def faiss_within(codes, queries, radius, selector=None):
    """As `numpy_within`, by faiss on all cores."""
    faiss = load_faiss()
    result = faiss.RangeSearchResult(len(queries))
    with _threads(faiss, min(faiss.omp_get_max_threads(), len(queries))):
        faiss.hamming_range_search(
            faiss.swig_ptr(queries),
            faiss.swig_ptr(codes),
            len(queries),
            len(codes),
            radius + 1,  # faiss looks for distances below its radius
            codes.shape[1],
            result,
            _id_selector(faiss, selector, len(codes)),
        )
    lims = faiss.rev_swig_ptr(result.lims, len(queries) + 1).astype(np.int64)
    rows = faiss.rev_swig_ptr(result.labels, int(lims[-1])).copy()
    distances = faiss.rev_swig_ptr(result.distances, int(lims[-1])).astype(np.int32)
    return np.repeat(np.arange(len(queries)), np.diff(lims)), rows, distances


def _id_selector(faiss, selector, count):
    if selector is None:
        return None
    pointer = faiss.swig_ptr(selector)
    return faiss.IDSelectorBitmap(count, pointer)
