"""Approximate search by faiss: a graph (HNSW) or clusters (IVF) over the codes of a segment.

When the structure is built, the effort that reaches the wanted recall is measured and stored in
it. A filter or a large k needs a larger effort. It is passed with the search, because all threads
share the structure and nothing may change it. If the exact scan is as fast, it is used instead.
These costs were measured on one core, with 150,000 codes of 48 bits, uniform random and clustered:

| step of a search | costs as much as scanning |
|---|---|
| HNSW, for each unit of effort | 700 to 2,500 codes |
| IVF, for each code in a cluster | 2 to 3.5 codes |
| IVF, for each neighbour that is asked for | about 75 codes |

HNSW finds 80 % of the nearest k with an effort of k, and 98 % with twice that. For the nearest
1,000, IVF needs about four times as many clusters as for the nearest 10.
"""

import numpy as np

from dah_tf.index import calibration, scan

SMALL = 1_000_000  # codes, of which a scan takes about a millisecond
HUGE = 50_000_000  # items, of which an HNSW graph would take 15 GB
LINKS = 16
EFFORTS = [2**i for i in range(3, 12)]
# These costs are in scanned codes; see the table above.
HNSW_EFFORT, IVF_CODE, IVF_NEIGHBOUR = 1000, 3, 75


def choose(backend, recall, entries, total):
    """Chooses the structure for a segment of `entries` codes in an index of `total` items.

    Returns:
        "hnsw", "ivf", or None for a scan.
    """
    if backend in ("hnsw", "ivf"):
        return backend
    if backend != "auto" or recall == 1 or entries < SMALL:
        return None
    return "hnsw" if total < HUGE else "ivf"


def build(codes, kind, recall, bits):
    """Builds a structure over codes.

    Args:
        codes: uint8 array of shape `(n, width)`.
        kind: "hnsw" or "ivf".
        recall: float, the share of the nearest 10 codes that a search must find.
        bits: int, the code length.

    Returns:
        The serialised faiss index as a uint8 array, and the share that it finds as a float.

    Warns:
        RecallWarning: even with the largest effort it finds a smaller share.
    """
    faiss = scan.load_faiss()
    wide = codes.shape[1] * 8
    if kind == "hnsw":
        index = faiss.IndexBinaryHNSW(wide, LINKS)
    else:
        lists = max(1, min(int(4 * np.sqrt(len(codes))), len(codes) // 39))
        quantizer = faiss.IndexBinaryFlat(wide)
        index = faiss.IndexBinaryIVF(quantizer, wide, lists)
        training = np.random.default_rng(0).permutation(len(codes))[: 64 * lists]
        index.train(np.ascontiguousarray(codes[np.sort(training)]))
    index.add(np.ascontiguousarray(codes))
    effort, reached = _calibrated(index, codes, recall, bits)
    if _is_graph(index):
        index.hnsw.efSearch = effort
    else:
        index.nprobe = effort
    if reached < recall:
        calibration.warn(kind, recall, reached)
    return faiss.serialize_index_binary(index), reached


def _calibrated(index, codes, recall, bits):
    """Finds the least effort that reaches the recall; returns it and the recall it reaches."""
    rng = np.random.default_rng(1)
    k = min(calibration.NEIGHBOURS, len(codes))
    sample = codes[rng.integers(0, len(codes), calibration.SAMPLE)]
    apart = scan.faiss_knn(codes, sample, min(k + 1, len(codes)))[0]
    width = -(-bits // 8)
    queries = calibration.queries(sample[:, :width], apart, bits, rng)
    queries = scan.pad(queries, codes.shape[1])
    truth = scan.faiss_knn(codes, queries, k)[0]
    efforts = EFFORTS
    if not _is_graph(index):
        efforts = [each for each in EFFORTS if each < index.nlist] + [index.nlist]

    def search(effort):
        return index.search(queries, k, params=_parameters(index, effort))[0]

    return calibration.least_effort(search, truth, efforts, recall)


def _is_graph(index):
    return hasattr(index, "hnsw")


def effort_of(index):
    """Returns the effort of a plain search: `efSearch` of a graph, or `nprobe` of clusters."""
    return index.hnsw.efSearch if _is_graph(index) else index.nprobe


def _parameters(index, effort):
    """Returns the parameters of a single search, which do not change the index."""
    faiss = scan.load_faiss()
    if _is_graph(index):
        return faiss.SearchParametersHNSW(efSearch=effort)
    return faiss.SearchParametersIVF(nprobe=effort)


def load(array):
    """Returns the faiss index from the array that `build` returned."""
    return scan.load_faiss().deserialize_index_binary(np.asarray(array))


def plan(index, share, k):
    """Decides how to search for the k nearest if only a share of the codes takes part.

    Args:
        index: faiss index.
        share: float, above 0 and up to 1.
        k: int.

    Returns:
        The effort, and how many neighbours to ask for. None if the exact scan is as fast.
    """
    n, plain = index.ntotal, effort_of(index)
    # The search also finds codes that do not take part, so that it must ask for more.
    wanted = k if share == 1 else min(n, int(np.ceil(1.5 * k / share)))
    if share == 1 and k <= calibration.NEIGHBOURS:
        return plain, wanted
    if _is_graph(index):
        many = k if k <= calibration.NEIGHBOURS else 2 * k
        effort = max(int(np.ceil(max(plain, many) / share)), wanted)
        cost = effort * HNSW_EFFORT
    else:
        more = np.sqrt(max(1, k / calibration.NEIGHBOURS))
        effort = min(index.nlist, int(np.ceil(plain * more / share)))
        cost = effort / index.nlist * n * IVF_CODE + wanted * IVF_NEIGHBOUR
    return None if effort > plain and cost >= n else (effort, wanted)


def knn(index, view, queries, k):
    """Like `engines.knn`, but approximate. It is exact for queries that would find less than k."""
    planned = plan(index, view.count / index.ntotal, k)
    if planned is None:
        return scan.faiss_knn(view.codes, queries, k, view.selector)
    effort, wanted = planned
    distances, entries = index.search(queries, wanted, params=_parameters(index, effort))
    taking = (entries >= 0) & scan.chosen(view.selector, np.maximum(entries, 0))
    order = np.argsort(~taking, axis=1, kind="stable")[:, :k]
    entries = np.take_along_axis(np.where(taking, entries, -1), order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    # Codes of a class are close together. With a filter for a label, all codes near a query may
    # be of other labels.
    short = np.flatnonzero(taking.sum(axis=1) < k)
    if len(short):
        exact = scan.faiss_knn(view.codes, queries[short], k, view.selector)
        distances[short], entries[short] = exact
    return distances, entries
