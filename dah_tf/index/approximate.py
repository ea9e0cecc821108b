"""Approximate search by faiss: a graph (HNSW) or clusters (IVF) over a segment's distinct codes.

Which parameter reaches the stated recall is measured when the structure is built, and stored in it.
"""

import numpy as np

from dah_tf.index import scan

SMALL = 1_000_000  # codes: a scan takes about a millisecond
HUGE = 50_000_000  # items: an HNSW graph of them would take 15 GB
SAMPLE, NEIGHBOURS = 256, 10
LINKS = 16
EFFORTS = [2**i for i in range(3, 12)]


def choose(backend, recall, entries, total):
    """The structure for a segment of `entries` codes in an index of `total` items.

    Returns:
        "hnsw", "ivf", or None for a scan.
    """
    if backend in ("hnsw", "ivf"):
        return backend
    if backend != "auto" or recall == 1 or entries < SMALL:
        return None
    return "hnsw" if total < HUGE else "ivf"


def build(codes, kind, recall):
    """A structure over codes.

    Args:
        codes: uint8 array of shape `(n, width)`.
        kind: "hnsw" or "ivf".
        recall: float, share of the nearest 10 that a search is to find.

    Returns:
        uint8 array: the faiss index, serialised.
    """
    faiss = scan.load_faiss()
    bits = codes.shape[1] * 8
    if kind == "hnsw":
        index = faiss.IndexBinaryHNSW(bits, LINKS)
    else:
        lists = max(1, min(int(4 * np.sqrt(len(codes))), len(codes) // 39))
        quantizer = faiss.IndexBinaryFlat(bits)
        index = faiss.IndexBinaryIVF(quantizer, bits, lists)
        training = np.random.default_rng(0).permutation(len(codes))[: 64 * lists]
        index.train(np.ascontiguousarray(codes[np.sort(training)]))
    index.add(np.ascontiguousarray(codes))
    _calibrate(index, codes, recall)
    return faiss.serialize_index_binary(index)


def _calibrate(index, codes, recall):
    """Sets the least effort at which sampled queries reach the recall."""
    rng = np.random.default_rng(1)
    k = min(NEIGHBOURS, len(codes))
    queries = codes[rng.integers(0, len(codes), SAMPLE)].copy()
    # A stored code would find itself: a flipped bit or two make a query of it.
    for _ in range(2):
        queries[np.arange(SAMPLE), rng.integers(0, codes.shape[1], SAMPLE)] ^= np.uint8(1) << (
            rng.integers(0, 8, SAMPLE).astype(np.uint8)
        )
    last = scan.faiss_knn(codes, queries, k)[0][:, -1:]
    for effort in EFFORTS:
        _set_effort(index, effort)
        found, _ = index.search(queries, k)
        # Anything as near as the true last one is right: which of equals is found is chance.
        if ((found >= 0) & (found <= last)).mean() >= recall:
            return


def _set_effort(index, effort):
    if hasattr(index, "hnsw"):
        index.hnsw.efSearch = effort
    else:
        index.nprobe = min(effort, index.nlist)


def load(array):
    """The faiss index of what `build` returned."""
    return scan.load_faiss().deserialize_index_binary(np.asarray(array))


def knn(index, view, queries, k):
    """As `engines.knn`, approximately; exactly for a query that would find fewer than `k`."""
    n = index.ntotal
    # What takes no part is found too and dropped: ask for so many more.
    wanted = min(n, int(np.ceil(k * n / view.count * 1.5)) if view.selector is not None else k)
    if hasattr(index, "hnsw") and wanted > index.hnsw.efSearch:
        index.hnsw.efSearch = wanted
    distances, entries = index.search(queries, wanted)
    taking = (entries >= 0) & scan.chosen(view.selector, np.maximum(entries, 0))
    order = np.argsort(~taking, axis=1, kind="stable")[:, :k]
    entries = np.take_along_axis(np.where(taking, entries, -1), order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    # Codes lie by class: what takes no part, such as all other labels, may be all there is nearby.
    short = np.flatnonzero(taking.sum(axis=1) < k)
    if len(short):
        exact = scan.faiss_knn(view.codes, queries[short], k, view.selector)
        distances[short], entries[short] = exact
    return distances, entries
