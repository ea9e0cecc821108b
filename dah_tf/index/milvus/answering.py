"""Complete answers from a server that returns at most 16,384 items to a query.

The functions use `ask(queries, limit, band=None, ids=None)`. It finds the `limit` nearest items of
each query among those whose distance is in `band` and whose id is in `ids`; both are pairs that
include their ends. For each query it returns a pair of arrays in any order: int32 distances and
int64 ids.
"""

import numpy as np

from dah_tf.index.hits import Neighbours, Within
from dah_tf.index.milvus import names

LIMIT = 16384  # the most items that Milvus returns for a query
QUERIES = 1024  # the queries of a request
ANSWERS = 1 << 18  # the distances and ids of an answer, over all queries, which take 4 MB
FIRST = 1024  # the items that a radius is first asked for, because mostly there are few
GREATEST = 2**63 - 1  # the largest id


def asker(server, facts, backend, label=None, key_prefix=None):
    """Makes the function `ask` of an index.

    Args:
        server: `connection.Server`.
        facts: dict, the facts of the index.
        backend: str, "flat" or "ivf". With ivf the k nearest are approximate; bands are exact.
        label, key_prefix: str or None, the filters for the items.

    Returns:
        The function that is described above.
    """
    wanted = [] if label is None else [names.equal("label", label)]
    if key_prefix:
        wanted.append(names.begins("key", key_prefix))

    def ask(queries, limit, band=None, ids=None):
        params = {}
        if facts["lists"]:
            approximate = backend == "ivf" and band is None
            params["nprobe"] = facts["probes"] if approximate else facts["lists"]
        if band:
            # Milvus includes the lower end and excludes the upper one.
            params |= {"range_filter": band[0], "radius": band[1] + 1}
            if facts["lists"]:
                # Otherwise the first cluster without a hit would end the search.
                params["max_empty_result_buckets"] = 65535
        between = [f"id >= {ids[0]} and id <= {ids[1]}"] if ids else []
        expression = " and ".join(wanted + between)
        return server.search(facts["collection"], queries, limit, expression, params)

    return ask


def nearest(ask, queries, k, bits):
    """Finds the k nearest items of each query.

    Args:
        ask: the function that is described above.
        queries: uint8 array of shape `(q, width)`.
        k: int, at least 0.
        bits: int, the largest possible distance.

    Returns:
        `Neighbours` with k columns.
    """
    distances = np.full((len(queries), k), -1, np.int32)
    ids = np.full((len(queries), k), -1, np.int64)
    if k > LIMIT:
        found = (_everything(ask, queries[i : i + 1], bits, k) for i in range(len(queries)))
    else:
        found = _asked(ask, queries if k else queries[:0], k)
    for row, (apart, items) in enumerate(found):
        order = np.lexsort((items, apart))[:k]
        distances[row, : len(order)], ids[row, : len(order)] = apart[order], items[order]
    return Neighbours(distances, ids)


def within(ask, queries, radius):
    """Finds every item within a radius of each query.

    Args:
        ask, queries: as in `nearest`.
        radius: int, the largest distance.

    Returns:
        `Within`.
    """
    parts, counts = [], []
    for row, (apart, items) in enumerate(_asked(ask, queries, FIRST, (0, radius))):
        if len(items) >= FIRST:
            apart, items = _everything(ask, queries[row : row + 1], radius)
        order = np.lexsort((items, apart))
        parts.append((apart[order], items[order]))
        counts.append(len(order))
    distances, ids = _joined(parts)
    return Within(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]), distances, ids)


def count_at(ask, queries, distance):
    """Counts the items at one distance of each query; returns an int64 array of shape `(q,)`."""
    counts = np.zeros(len(queries), np.int64)
    for row, (_, ids) in enumerate(_asked(ask, queries, FIRST, (distance, distance))):
        if len(ids) >= FIRST:
            _, ids = _at(ask, queries[row : row + 1], distance, 0, GREATEST)
        counts[row] = len(ids)
    return counts


def _asked(ask, queries, limit, band=None):
    """Yields the answer to each query. A request has few enough queries for a small answer."""
    step = max(1, min(QUERIES, ANSWERS // max(1, limit)))
    for start in range(0, len(queries), step):
        yield from ask(queries[start : start + step], limit, band)


def _everything(ask, query, farthest, enough=None):
    """Returns all items of one query up to a distance, or at least `enough` of the nearest."""
    parts, count, first = [], 0, 0
    while first <= farthest and (enough is None or count < enough):
        [(distances, ids)] = ask(query, LIMIT, (first, farthest))
        if len(ids) >= LIMIT:
            # All items below the last distance were returned. At this distance there may be more.
            last = int(distances.max())
            near = distances < last
            parts.append((distances[near], ids[near]))
            distances, ids = _at(ask, query, last, 0, GREATEST)
            first, count = last + 1, count + int(near.sum())
        else:
            first = farthest + 1
        parts.append((distances, ids))
        count += len(ids)
    return _joined(parts)


def _at(ask, query, distance, low, high):
    """Returns all items at one distance. It halves the range of ids until no answer is full."""
    [(distances, ids)] = ask(query, LIMIT, (distance, distance), (low, high))
    if len(ids) < LIMIT:
        return distances, ids
    middle = int(np.partition(ids, len(ids) // 2 - 1)[len(ids) // 2 - 1])
    halves = (low, middle), (middle + 1, high)
    return _joined([_at(ask, query, distance, *half) for half in halves])


def _joined(parts):
    distances, ids = zip(*parts, strict=True) if parts else ((), ())
    return (
        np.concatenate([np.zeros(0, np.int32), *distances]).astype(np.int32),
        np.concatenate([np.zeros(0, np.int64), *ids]).astype(np.int64),
    )
