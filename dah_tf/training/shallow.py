"""The run of a method that learns in one fit: features of all training images, then constants."""

import contextlib
import time

import numpy as np

from dah_tf.training import loop

RIDGE = 1e-3  # of the probe, as a share of the number of rows
PART = 8192  # rows whose hash values are held at a time


class Fit(loop.Run):
    """`loop.Run` for a method whose `one_fit` is True: the run is one step, the fit."""

    def fit(self):
        """Fits the method and the probe, unless a checkpoint holds them already.

        Raises:
            UserError: an image cannot be read, the method refuses the features, or the disk is
                full.
        """
        try:
            self.watchers.begin()
            with self._sigterm() if self.stop_on_sigterm else contextlib.nullcontext():
                if not self.step:
                    self.after(self._learn())
            self.flush()
            if self.saved_step != self.step:
                self.save()
            self.watchers.end()
        finally:
            self.progress.close()

    def _learn(self):
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
        model: `HashModel`, its head fitted.
        features: float array of shape `(n, d)`.
        labels: int array of shape `(n,)`, or 0/1 array of shape `(n, classes)`.

    Returns:
        float, the share of rows whose largest logit belongs to a class of theirs.
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
    """What the class layer sees of rows of features, and a column of ones."""
    seen = np.asarray(model.method.seen(*model.hash_head(features)), np.float64)
    return np.concatenate([seen, np.ones((len(seen), 1))], axis=1)
