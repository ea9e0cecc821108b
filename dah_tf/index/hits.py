"""The results of a search, and how the answers of several segments are combined."""

import typing

import numpy as np

from dah_tf.index import engines
from dah_tf.index.spans import spans

# The number of distances and ids that are merged at a time, over all segments: 96 MiB.
MERGED = 1 << 23
COUNTED = 1 << 22  # the number of entries that may be found at a time when they are only counted


class Neighbours(typing.NamedTuple):
    """The nearest items of each query.

    Attributes:
        distances: int32 array of shape `(q, n)`, ascending, filled up with -1.
        ids: int64 array of shape `(q, n)`, ascending within a distance, filled up with -1.
    """

    distances: np.ndarray
    ids: np.ndarray


class Within(typing.NamedTuple):
    """The items within a radius. The items of query i are `starts[i]` to `starts[i + 1]`.

    Attributes:
        starts: int64 array of shape `(q + 1,)`.
        distances: int32 array of shape `(found,)`, ascending for each query.
        ids: int64 array of shape `(found,)`, in any order within a distance.
    """

    starts: np.ndarray
    distances: np.ndarray
    ids: np.ndarray


def nearest(backend, views, queries, k):
    """Finds the k nearest items over all segments.

    Args:
        backend: str, one of `engines.BACKENDS`.
        views: list of pairs `(Segment, View)`. Each has at least one entry.
        queries: uint8 array of shape `(q, width)`.
        k: int.

    Returns:
        int32 distances and int64 ids, each of shape `(q, k)`, as in `Neighbours`.
    """
    views = views if len(queries) else []
    block = max(1, MERGED // max(1, k * len(views)))
    parts = [
        _merged(backend, views, queries[start : start + block], k)
        for start in range(0, max(1, len(queries)), block)
    ]
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def _merged(backend, views, queries, k):
    shape = len(queries), k
    found = [(np.full(shape, -1, np.int32), np.full(shape, -1, np.int64))]
    for segment, view in views:
        entries = engines.knn(backend, segment, view, queries, min(k, view.count))
        found.append(segment.nearest_items(view, *entries, k))
    distances, ids = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    last = np.where(ids < 0, np.iinfo(np.int32).max, distances)
    if k < last.shape[1]:
        first = np.argpartition(last, k, axis=1)[:, :k]
        distances, ids, last = (
            np.take_along_axis(each, first, axis=1) for each in (distances, ids, last)
        )
    order = np.lexsort((ids, last), axis=1)
    return tuple(np.take_along_axis(each, order, axis=1) for each in (distances, ids))


def within(backend, views, queries, radius):
    """Finds every item within a radius over all segments.

    Args:
        backend, views, queries: as in `nearest`.
        radius: int.

    Returns:
        `Within`.
    """
    views = views if len(queries) else []
    # Entries are sorted, and not items, because a radius may contain a tenth of the index.
    parts = [np.zeros((5, 0), np.int64)]
    for number, (segment, view) in enumerate(views):
        near, entries, distances = engines.within(backend, segment, view, queries, radius)
        first, counts = segment.runs(view, entries)
        parts.append(np.stack([near, distances, first, counts, np.full(len(near), number)]))
    found = np.concatenate(parts, axis=1)
    near, distances, first, counts, origin = found[:, np.lexsort((found[1], found[0]))]
    place = np.cumsum(counts) - counts
    ids = np.empty(counts.sum(), np.int64)
    for number, (segment, view) in enumerate(views):
        own = origin == number
        items = spans(first[own], counts[own])
        ids[spans(place[own], counts[own])] = segment.ids_of(view, items)
    starts = np.append(place, len(ids))[np.searchsorted(near, np.arange(len(queries) + 1))]
    return Within(starts, np.repeat(distances, counts).astype(np.int32), ids)


def count_at(backend, views, queries, distance):
    """Counts the items at one distance over all segments.

    Args:
        backend, views, queries: as in `nearest`.
        distance: int.

    Returns:
        int64 array of shape `(q,)`.
    """
    counts = np.zeros(len(queries), np.int64)
    for segment, view in views:
        block = max(1, COUNTED // view.count)
        for start in range(0, len(queries), block):
            part = queries[start : start + block]
            near, entries, apart = engines.within(backend, segment, view, part, distance)
            last = apart == distance
            _, items = segment.runs(view, entries[last])
            counts += np.bincount(start + near[last], items, len(queries)).astype(np.int64)
    return counts
