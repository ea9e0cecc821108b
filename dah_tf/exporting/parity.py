"""Checks whether the codes of an export format equal those of the model."""

import functools
from typing import NamedTuple

import numpy as np

from dah_tf import metrics, runtimes
from dah_tf.errors import UserError

CALIBRATION, QUERIES, DATABASE = 256, 1000, 4000
BATCH = 100
LIMIT = 1e-3  # This share of the bits may change by rounding.


class Samples(NamedTuple):
    """Images with which a format is compared with the model.

    Attributes:
        calibration: uint8 array of shape `(n, size, size, channels)`, from the training set.
        queries, database: arrays of the same form, from these parts of the protocol.
        query_labels, database_labels: the labels of these images.
    """

    calibration: np.ndarray
    queries: np.ndarray
    query_labels: np.ndarray
    database: np.ndarray
    database_labels: np.ndarray


def choose(dataset, protocol):
    """Chooses samples that are spread evenly over the parts of a protocol.

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


class Reference:
    """A model's codes of the samples, with which formats are compared. Each is computed once.

    Args:
        model: `HashModel` with the precision in which it was trained.
        exact: `HashModel`, the same model in float32.
        mirror: bool, the argument of `HashModel.encode`.
        samples: `Samples`.
    """

    def __init__(self, model, exact, mirror, samples):
        self.model, self.exact, self.mirror, self.samples = model, exact, mirror, samples

    @functools.cached_property
    def queries(self):
        return self.model.encode(self.samples.queries, BATCH, self.mirror)

    @functools.cached_property
    def exact_queries(self):
        if self.exact is self.model:
            return self.queries
        return self.exact.encode(self.samples.queries, BATCH, self.mirror)

    @functools.cached_property
    def database(self):
        return self.model.encode(self.samples.database, BATCH, self.mirror)

    def compare(self, name, run):
        """Compares a format's codes with those of the model.

        Args:
            name: str, the name of the format.
            run: function from uint8 pixels to a dict that contains `codes`.

        Returns:
            Dict that JSON can store. `images` is the number of images, and `bits_differing` is the
            share of the queries' bits that differ from those of the model. If the format is not
            exact, there is also `map`. It is a dict with the tie-aware MAP of the `model` and of
            the `format`, the number of `queries`, and the number of items in the `database`.

        Raises:
            UserError: the format should give the codes of float32, but more than `LIMIT` of the
                bits differ from them.
        """
        theirs, bits = _encode(run, self.samples.queries), self.model.bits
        found = {
            "images": len(theirs),
            "bits_differing": _differing(self.queries, theirs, bits),
        }
        if not runtimes.get(name).EXACT:
            database = _encode(run, self.samples.database)
            found["map"] = {
                "model": self._map(self.queries, self.database),
                "format": self._map(theirs, database),
                "queries": len(theirs),
                "database": len(database),
            }
            return found
        wrong = _differing(self.exact_queries, theirs, bits)
        if wrong > LIMIT:
            raise UserError(
                f"{name} gives other codes than the model in float32: {wrong:.2%} of the bits of "
                f"{len(theirs)} images differ; leave it out of format"
            )
        return found

    def _map(self, queries, database):
        labels = self.samples.query_labels, self.samples.database_labels
        counts = metrics.histograms(queries, labels[0], database, labels[1], self.model.bits)
        return float(metrics.mean_average_precision(*counts).expected)


def _differing(ours, theirs, bits):
    """Returns the share of bits that differ between two arrays of packed codes."""
    return int(np.unpackbits(ours ^ theirs).sum()) / max(len(ours) * bits, 1)


def _encode(run, images):
    parts = [run(images[row : row + BATCH])["codes"] for row in range(0, len(images), BATCH)]
    return np.concatenate(parts)
