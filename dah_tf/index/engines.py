"""Which algorithm answers a search in a segment, and how it is named: `hnsw:recall=0.99`."""

import typing

from dah_tf import parts
from dah_tf.errors import UserError
from dah_tf.index import approximate, scan, tables

RECALL = 0.95  # share of the nearest, where none is given


def exact() -> None:
    """A backend that finds every item; it has no options."""


def approximately(*, recall: float | None = None) -> float | None:
    """A backend that finds a share of the nearest codes.

    Args:
        recall: share of the true 10 nearest codes that it is to find.
    """
    if recall is not None and not 0 < recall <= 1:
        raise UserError(f"recall is a share above 0 and up to 1. Received: {recall}")
    return recall


# How `Index` may search.
BACKENDS: dict[str, typing.Callable] = {
    "flat": exact,  # faiss scans the distinct codes, radius by tables where that is faster
    "mih": exact,  # as flat, with radius always by the tables of multi-index hashing
    "numpy": exact,  # slow, needs no faiss: what the others are tested against
    "hnsw": approximately,  # neighbours by a graph; radius as flat
    "ivf": approximately,  # neighbours by clusters; radius as flat
    "auto": approximately,  # flat for small segments or a recall of 1, else hnsw or, if huge, ivf
}


def read(backend, recall=None, kind="backend", known=None):
    """A backend's name, and the recall that is asked for.

    Args:
        backend: str, `NAME` or `NAME:recall=SHARE`.
        recall: float, the share given beside it, the older way; None is none.
        kind: str, what messages call the backend.
        known: dict of the backends that there are; None is `BACKENDS`.

    Returns:
        str, and float or None where no recall is given.

    Raises:
        UserError: no such backend or option, two recalls, or one that is not a share.
    """
    given = parts.build(kind, backend, BACKENDS if known is None else known)
    if given is not None and recall is not None and given != recall:
        raise UserError(f"{backend} and a recall of {recall} contradict each other: give one")
    asked = given if recall is None else approximately(recall=recall)
    return parts.parse(backend).name, asked


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
