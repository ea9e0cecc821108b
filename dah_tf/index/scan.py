"""Exact search by comparing a query with every code, with plain NumPy or with faiss.

Both need codes of a width that faiss compares fast (`padded_width`), and work directly on arrays
that are mapped from files, without copies. `selector` says which codes take part. It is a bitmap
of shape `(ceil(n / 8),)` with bit i in byte `i // 8` and the least significant bit first, or None
for all codes.
"""

import concurrent.futures
import contextlib

import numpy as np

from dah_tf import codes as packed
from dah_tf.errors import UserError

# The numbers of queries and codes that are compared at a time: 32 MiB of distances.
QUERIES, CODES = 64, 1 << 18
# From this number of codes on, several threads share the work of a single query.
DIVIDED = 1 << 18


def padded_width(bits):
    """Returns the bytes of a stored code: the smallest width that faiss compares in whole words.

    A 48-bit code takes 8 bytes, because faiss scans them three times as fast as 6 bytes.
    """
    return next(width for width in (4, 8, 16, 20, 32) if width * 8 >= bits)


def pad(codes, width):
    """Fills codes up with zeros to a width. The distances stay the same."""
    codes = np.asarray(codes)
    if codes.shape[1] == width:
        return np.ascontiguousarray(codes)
    result = np.zeros((len(codes), width), np.uint8)
    result[:, : codes.shape[1]] = codes
    return result


def chosen(selector, rows):
    """Says which of the `rows` take part: a bool array of their shape."""
    if selector is None:
        return np.ones(rows.shape, bool)
    return (selector[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(bool)


def numpy_knn(codes, queries, k, selector=None):
    """Finds the k nearest codes of each query by brute force.

    Args:
        codes: uint8 array of shape `(n, width)`.
        queries: uint8 array of shape `(q, width)`.
        k: int, at most the number of codes that take part.
        selector: bitmap, or None.

    Returns:
        int32 distances and int64 rows, each of shape `(q, k)`, with the nearest first. Codes at
        the same distance are sorted by row.
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
    """Finds every code within a radius of each query by brute force.

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
    """Joins a list of triples of arrays (queries, rows, distances) to one triple."""
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
    """Imports faiss.

    Raises:
        UserError: faiss is not installed.
    """
    try:
        import faiss
    except ModuleNotFoundError:
        raise UserError(
            "faiss is missing: run python -m pip install 'dah_tf[index]', or search with "
            "backend=numpy, which is slower and gives the same distances"
        ) from None
    return faiss


def faiss_knn(codes, queries, k, selector=None):
    """Does the same as `numpy_knn` with faiss on all cores.

    If several codes are at the last distance, it is not defined which of them are returned.
    """
    faiss = load_faiss()
    threads = faiss.omp_get_max_threads()
    # faiss divides the queries among its threads. It would also wait for threads without a query.
    if len(queries) >= threads or len(codes) < DIVIDED:
        with _threads(faiss, min(threads, len(queries))):
            return _faiss_knn(faiss, codes, queries, k, selector)
    # If there are fewer queries than threads, the codes are divided instead.
    step = -(-len(codes) // (8 * threads)) * 8  # a multiple of 8, for whole bytes of the bitmap

    def search(start):
        part = codes[start : start + step]
        taking = None if selector is None else selector[start // 8 : (start + step) // 8]
        with _threads(faiss, 1):
            distances, rows = _faiss_knn(faiss, part, queries, min(k, len(part)), taking)
        return distances, rows + start

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(search, range(0, len(codes), step)))
    # If fewer than k codes of a part take part, faiss fills it up with the largest int32.
    distances, rows = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return tuple(np.take_along_axis(each, order, axis=1) for each in (distances, rows))


@contextlib.contextmanager
def _threads(faiss, count):
    """Lets faiss use `count` threads for the calls of this thread."""
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
    """Does the same as `numpy_within` with faiss on all cores."""
    faiss = load_faiss()
    result = faiss.RangeSearchResult(len(queries))
    with _threads(faiss, min(faiss.omp_get_max_threads(), len(queries))):
        faiss.hamming_range_search(
            faiss.swig_ptr(queries),
            faiss.swig_ptr(codes),
            len(queries),
            len(codes),
            radius + 1,  # faiss returns only distances below its radius
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
