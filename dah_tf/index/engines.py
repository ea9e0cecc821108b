"""Which algorithm answers a search in a segment."""

from dah_tf.errors import UserError
from dah_tf.index import approximate, scan, tables

# What `Index` may be made with, and how it searches.
BACKENDS = {
    "flat": "exact; faiss scans the distinct codes, radius by tables where that is faster",
    "mih": "as flat, with radius always by the tables of multi-index hashing",
    "numpy": "exact and slow, needs no faiss: what the others are tested against",
    "hnsw": "approximate neighbours by a graph, to a stated recall; radius as flat",
    "ivf": "approximate neighbours by clusters, to a stated recall; radius as flat",
    "auto": "flat for small segments or a recall of 1, else hnsw, ivf for the largest",
}


def check(backend, recall=1):
    """Refuses a backend that does not exist, or a recall that is no share.

    Raises:
        UserError: what is wrong.
    """
    if backend not in BACKENDS:
        raise UserError(f"no backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    if not 0 < recall <= 1:
        raise UserError(f"recall is a share above 0 and up to 1. Received: {recall}")


def knn(backend, segment, view, queries, k):
    """The k nearest entries of a segment's view.

    Args:
        backend: str, one of `BACKENDS`.
        segment: `segments.Segment`.
        view: `segments.View` of it.
        queries: uint8 array of shape `(q, width)`.
        k: int, at most `view.count`.

    Returns:
        int32 distances and int64 entries, each of shape `(q, k)`, nearest first.
    """
    if backend == "numpy":
        return scan.numpy_knn(view.codes, queries, k, view.selector)
    if backend in ("hnsw", "ivf", "auto") and segment.approximate is not None:
        return approximate.knn(segment.approximate, view, queries, k)
    return scan.faiss_knn(view.codes, queries, k, view.selector)


def within(backend, segment, view, queries, radius):
    """Every entry of a segment's view within a radius.

    Args:
        backend, segment, view, queries: as in `knn`.
        radius: int.

    Returns:
        As `scan.numpy_within`, in any order.
    """
    found = (view.codes, queries, radius, view.selector)
    if backend == "numpy":
        return scan.numpy_within(*found)
    if "table0" not in segment.arrays:
        return scan.faiss_within(*found)
    scan_instead = None if backend == "mih" else scan.faiss_within
    return tables.within(segment.arrays, *found, segment.bits, scan_instead)
