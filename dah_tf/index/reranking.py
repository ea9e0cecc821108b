"""Sorts found items by the asymmetric distance, which uses the float hash values of the query.

A bit of which the network was unsure counts less than a bit of which it was sure. Only the query
has float values; the items keep their bits, and nothing more is stored. Items with equal codes
stay tied.
"""

import numpy as np

from dah_tf import codes as packed
from dah_tf.errors import UserError

BLOCK = 1 << 16


def rerank(index, values, found, k, span=(0.25, 0.75)):
    """Returns the k items with the smallest asymmetric distance among those found.

    For values v, scaled to [0, 1], and bits b, the distance is the sum of (v - b)**2. If every
    value is 0 or 1, it is the Hamming distance.

    Args:
        index: `Index`.
        values: float array of shape `(q, bits)`, the values of the hash layer.
        found: `Neighbours` of the queries.
        k: int.
        span: pair of floats, the lowest and the highest value of the hash layer, such as
            `Encoder.span`. The default is that of DAH.

    Returns:
        float32 asymmetric distances, int32 Hamming distances and int64 ids, each of shape
        `(q, min(k, n))`, with the nearest first and filled up with -1. Items at the same distance
        are sorted by Hamming distance and id.

    Raises:
        UserError: the values have another length than the codes.

    References:
        Gordo, Perronnin, Gong and Lazebnik, "Asymmetric distances for binary embeddings", 2014.
    """
    values = np.asarray(values, np.float32)
    if values.shape != (len(found.ids), index.bits):
        raise UserError(
            f"{len(found.ids)} queries of {index.bits} bits need as many hash values. "
            f"Received: {values.shape}"
        )
    lowest, highest = span
    scaled = np.clip((values - np.float32(lowest)) / np.float32(highest - lowest), 0, 1)
    there = found.ids >= 0
    codes = index.codes(found.ids[there])
    scores = np.full(found.ids.shape, np.inf, np.float32)
    queries = np.nonzero(there)[0]
    terms = [
        (scaled[queries[at : at + BLOCK]] - packed.unpack(codes[at : at + BLOCK], index.bits)) ** 2
        for at in range(0, len(codes), BLOCK)
    ]
    scores[there] = np.concatenate([each.sum(axis=1) for each in terms]) if terms else []
    order = np.lexsort((found.ids, found.distances, scores), axis=-1)[:, :k]
    scores, distances, ids = (
        np.take_along_axis(each, order, axis=1) for each in (scores, found.distances, found.ids)
    )
    scores[ids < 0] = -1
    return scores, distances, ids
