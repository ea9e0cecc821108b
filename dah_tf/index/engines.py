"""The backends of an index, their names such as `hnsw:recall=0.99`, and searching a segment."""

import typing

from dah_tf import parts
from dah_tf.errors import UserError
from dah_tf.index import approximate, scan, tables

RECALL = 0.95  # the share of the nearest codes to find, if none is given


def exact() -> None:
    """A backend that finds every item. It has no options."""


def approximately(*, recall: float | None = None) -> float | None:
    """A backend that finds a share of the nearest codes.

    Args:
        recall: the share of the true 10 nearest codes that it must find.
    """
    if recall is not None and not 0 < recall <= 1:
        raise UserError(f"recall must be a share above 0 and up to 1. Received: {recall}")
    return recall


# The backends of `Index`.
BACKENDS: dict[str, typing.Callable] = {
    "flat": exact,  # faiss scans the distinct codes; a radius uses tables if that is faster
    "mih": exact,  # like flat, but a radius always uses the tables of multi-index hashing
    "numpy": exact,  # slow, but needs no faiss; the others are tested against it
    "hnsw": approximately,  # a graph finds the neighbours; a radius is answered like flat
    "ivf": approximately,  # clusters find the neighbours; a radius is answered like flat
    "auto": approximately,  # flat for small segments or a recall of 1, ivf if huge, else hnsw
}


def read(backend, recall=None, kind="backend", known=None):
    """Reads the name of a backend and the wanted recall.

    Args:
        backend: str, `NAME` or `NAME:recall=SHARE`.
        recall: float, the share in an argument of its own, which is the older way; None if it is
            not given.
        kind: str, the word for a backend in messages.
        known: dict of the existing backends; None is `BACKENDS`.

    Returns:
        The name, and the recall as a float or None if it is not given.

    Raises:
        UserError: there is no such backend or option, two different recalls are given, or the
            recall is not a share.
    """
    given = parts.build(kind, backend, BACKENDS if known is None else known)
    if given is not None and recall is not None and given != recall:
        raise UserError(f"{backend} and a recall of {recall} contradict each other: give one")
    asked = given if recall is None else approximately(recall=recall)
    return parts.parse(backend).name, asked


def knn(backend, segment, view, queries, k):
    """Finds the k nearest entries in a view of a segment.

    Args:
        backend: str, one of `BACKENDS`.
        segment: `segments.Segment`.
        view: `segments.View` of it.
        queries: uint8 array of shape `(q, width)`.
        k: int, at most `view.count`.

    Returns:
        int32 distances and int64 entries, each of shape `(q, k)`, with the nearest first.
    """
    if backend == "numpy":
        return scan.numpy_knn(view.codes, queries, k, view.selector)
    if backend in ("hnsw", "ivf", "auto") and segment.approximate is not None:
        return approximate.knn(segment.approximate, view, queries, k)
    return scan.faiss_knn(view.codes, queries, k, view.selector)


def within(backend, segment, view, queries, radius):
    """Finds every entry within a radius in a view of a segment.

    Args:
        backend, segment, view, queries: as in `knn`.
        radius: int.

    Returns:
        The same as `scan.numpy_within`, in any order.
    """
    found = (view.codes, queries, radius, view.selector)
    if backend == "numpy":
        return scan.numpy_within(*found)
    if "table0" not in segment.arrays:
        return scan.faiss_within(*found)
    scan_instead = None if backend == "mih" else scan.faiss_within
    return tables.within(segment.arrays, *found, segment.bits, scan_instead)
