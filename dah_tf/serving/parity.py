"""Whether a format's codes are the model's."""

from typing import NamedTuple

import numpy as np

from dah_tf import metrics, runtimes
from dah_tf.errors import UserError

CALIBRATION, QUERIES, DATABASE = 256, 1000, 4000
BATCH = 100
LIMIT = 1e-3  # share of bits that rounding may change


class Samples(NamedTuple):
    """Images to hold a format against the model.

    Attributes:
        calibration: uint8 array of shape `(n, size, size, channels)`, of the training set.
        queries, database: likewise, of those parts of the protocol.
        query_labels, database_labels: their labels.
    """

    calibration: np.ndarray
    queries: np.ndarray
    query_labels: np.ndarray
    database: np.ndarray
    database_labels: np.ndarray


def choose(dataset, protocol):
    """Samples spread evenly over a protocol's parts.

    Args:
        dataset: `data.Dataset`.
        protocol: `data.Protocol`.

    Returns:
        `Samples`.
    """

    def some(rows, count):
        rows = np.asarray(rows)
        return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]

    queries = some(protocol.query if len(protocol.query) else protocol.database, QUERIES)
    database = some(protocol.database, DATABASE)
    return Samples(
        dataset.images.read(some(protocol.train, CALIBRATION)),
        dataset.images.read(queries),
        dataset.labels[queries],
        dataset.images.read(database),
        dataset.labels[database],
    )


def compare(name, run, model, exact, mirror, samples):
    """Holds a format's codes against the model's.

    Args:
        name: str, the format.
        run: function of uint8 pixels, to a dict that holds `codes`.
        model: `HashModel`, as it was trained.
        exact: `HashModel`, the same in float32.
        mirror: bool, of `HashModel.encode`.
        samples: `Samples`.

    Returns:
        Dict that JSON can hold: `images`, and on the queries `bits_differing` from the model's,
        a share; of a quantised format also `map`: a dict of tie-aware MAP by the `model` and by
        the `format`, with the numbers of `queries` and of items in the `database`.

    Raises:
        UserError: of a format that should give the codes of float32, more than `LIMIT` of the
            bits differ from them.
    """
    ours = model.encode(samples.queries, BATCH, mirror)
    theirs = _encode(run, samples.queries)
    found = {"images": len(ours), "bits_differing": _differing(ours, theirs, model.bits)}
    quantised = not runtimes.get(name).EXACT
    if not quantised:
        right = ours if exact is model else exact.encode(samples.queries, BATCH, mirror)
        wrong = _differing(right, theirs, model.bits)
        if wrong > LIMIT:
            raise UserError(
                f"{name} gives other codes than the model in float32: {wrong:.2%} of the bits of "
                f"{len(ours)} images; leave it out of --format"
            )
    if quantised:
        scores = {
            "model": (ours, model.encode(samples.database, BATCH, mirror)),
            "format": (theirs, _encode(run, samples.database)),
        }
        found["map"] = {
            which: float(
                metrics.mean_average_precision(
                    *metrics.histograms(
                        queries, samples.query_labels, items, samples.database_labels, model.bits
                    )
                ).expected
            )
            for which, (queries, items) in scores.items()
        }
        found["map"] |= {"queries": len(samples.queries), "database": len(samples.database)}
    return found


def _differing(ours, theirs, bits):
    """Share of bits that differ between two arrays of packed codes."""
    return int(np.unpackbits(ours ^ theirs).sum()) / max(len(ours) * bits, 1)


def _encode(run, images):
    parts = [run(images[row : row + BATCH])["codes"] for row in range(0, len(images), BATCH)]
    return np.concatenate(parts)
