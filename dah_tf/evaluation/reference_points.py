"""The quality of trivial codes and of float features under the same protocol. NumPy only.

The figures of a hash method need such reference points. If all classes are known, for example, it
is hard to be better than the predicted class of a classifier, written as a one-hot code
(Sablayrolles et al., arXiv 1609.06753).
"""

import numpy as np

from dah_tf import codes, metrics

TOP = 1000
FLOATS = 1 << 28  # the most floats of the database's features: 1 GiB


def one_hot(classes, multi_label=False):
    """Writes the answer of a classifier as codes.

    Args:
        classes: float array of shape `(n, classes)`, logits.
        multi_label: bool. If true, the bit of each class with a logit above 0 is 1. Otherwise only
            the bit of the class with the largest logit is 1.

    Returns:
        uint8 array of shape `(n, ceil(classes / 8))`, packed codes.
    """
    if multi_label:
        return codes.pack(classes > 0)
    return codes.pack(np.asarray(classes).argmax(axis=1)[:, None] == np.arange(classes.shape[1]))


def evaluate(query, query_labels, database, database_labels, bits, seed=0):
    """Computes the reference points of an evaluation.

    Args:
        query: dict of `classes`, float `(queries, classes)` logits, and `features`, float
            `(queries, d)` or None.
        query_labels: int array of shape `(queries,)`, or 0/1 array of shape `(queries, classes)`.
        database, database_labels: the same for the database.
        bits: int, the length of the random codes.
        seed: int, the seed of the random codes.

    Returns:
        Dict of `one_hot`, `random` and, if features are given, `features_cosine`. Each is a dict
        of `map` and `precision_at_1000`, which have `expected`, `worst` and `best`; for features
        `expected` is None. For codes it also has `bits` and `precision_within_radius_2`.
    """
    multi_label = np.ndim(query_labels) == 2
    rng = np.random.default_rng([seed, 36])
    labels = query_labels, database_labels
    classes = [one_hot(part["classes"], multi_label) for part in (query, database)]
    chance = [codes.pack(rng.integers(0, 2, (len(part), bits))) for part in labels]
    result = {
        "one_hot": _of_codes(classes, labels, query["classes"].shape[1]),
        "random": _of_codes(chance, labels, bits),
    }
    if query["features"] is not None and database["features"] is not None:
        precision, top = metrics.cosine_ranking(
            query["features"], query_labels, database["features"], database_labels, TOP
        )
        result["features_cosine"] = {
            "dimensions": query["features"].shape[1],
            "map": precision._asdict(),
            f"precision_at_{TOP}": top._asdict(),
        }
    return result


def _of_codes(packed, labels, bits):
    histograms = metrics.histograms(packed[0], labels[0], packed[1], labels[1], bits)
    return {
        "bits": bits,
        "map": metrics.mean_average_precision(*histograms)._asdict(),
        f"precision_at_{TOP}": metrics.precision_at(*histograms, TOP)._asdict(),
        "precision_within_radius_2": metrics.precision_within(*histograms, 2).precision,
    }
