"""This module runs a method that learns in a single fit.

The run computes the features of all training images and then the constants of the method.
"""

import time

import numpy as np

from dah_tf.training import loop

RIDGE = 1e-3  # the ridge penalty of the probe, as a share of the number of rows
PART = 8192  # the number of rows for which hash values are held at a time


class Fit(loop.Run):
    """A `loop.Run` for a method with `one_fit=True`. The only step of the run is the fit."""

    def _learn(self):
        """Fits the method and the probe, unless a checkpoint holds them already.

        Raises:
            UserError: an image cannot be read, or the method refuses the features.
        """
        if not self.step:
            self.after(self._fitted())

    def _fitted(self):
        model, labels = self.model, self.plan.labels
        begun = time.monotonic()
        every = self.describe()
        if every is None:
            features = self._encode(np.arange(len(labels)))["features"]
        else:
            features = every[self.plan.indices]
        described = time.monotonic()
        estimator = model.method.estimator(model.bits, self.plan.seed)
        estimator.fit(features, labels)
        model.hash_head.take(estimator)
        fitted = time.monotonic()
        accuracy = probe(model, features, labels)
        found = {"accuracy": accuracy} if model.num_classes > 1 else {}
        return found | {
            "feature_seconds": described - begun,
            "fit_seconds": fitted - described,
        }


def probe(model, features, labels) -> float:
    """Fits the class layer to a model's hash values by ridge regression.

    Args:
        model: `HashModel` with a fitted head.
        features: float array of shape `(n, d)`.
        labels: int array of shape `(n,)`, or an array of 0 and 1 of shape `(n, classes)`.

    Returns:
        float, the share of rows in which the largest logit belongs to a class of the row.
    """
    targets = labels if labels.ndim == 2 else np.eye(model.num_classes, dtype=np.uint8)[labels]
    width = model.classifier.kernel.shape[0] + 1
    gram, cross = np.zeros((width, width)), np.zeros((width, model.num_classes))
    parts = [slice(first, first + PART) for first in range(0, len(features), PART)]
    for rows in parts:
        seen = _seen(model, features[rows])
        gram += seen.T @ seen
        cross += seen.T @ (2.0 * targets[rows] - 1.0)
    gram[np.diag_indices(width - 1)] += RIDGE * len(features)
    weights = np.linalg.lstsq(gram, cross, rcond=None)[0]
    model.classifier.kernel.assign(weights[:-1])
    model.classifier.bias.assign(weights[-1])
    hits = 0
    for rows in parts:
        best = (_seen(model, features[rows]) @ weights).argmax(axis=1)
        hits += int(np.take_along_axis(targets[rows], best[:, None], axis=1).sum())
    return hits / max(len(features), 1)


def _seen(model, features):
    """Returns the inputs of the class layer for rows of features, with a column of ones."""
    seen = np.asarray(model.method.seen(*model.hash_head(features)), np.float64)
    return np.concatenate([seen, np.ones((len(seen), 1))], axis=1)
