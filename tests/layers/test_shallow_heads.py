"""Hash functions of shallow methods as layers, against the estimators."""

import keras
import numpy as np
import pytest

from dah_tf import baselines
from dah_tf.layers import KernelHash
from dah_tf.model import methods

RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 20)).astype("float32") @ RNG.normal(size=(20, 20)).astype("float32") + 5
Y = np.tile(np.arange(4), 60)


@pytest.mark.parametrize("text", [*baselines.METHODS, "ksh:anchors=40", "sdh:anchors=50"])
def test_a_head_gives_the_estimators_codes(text, tmp_path):
    method = methods.get(text)
    estimator = method.estimator(12, seed=3).fit(X, Y)
    head = method.head(12)
    inputs = keras.Input((20,))
    model = keras.Model(inputs, head(inputs))
    head.take(estimator)
    right = estimator.decision_function(X)
    logits, values = (np.asarray(each) for each in model(X))
    scale = np.abs(right).mean(axis=0)
    assert (np.abs(logits - right) < 5e-3 * scale).all()
    clear = np.abs(right) > 5e-3 * scale  # a value near 0 may fall on either side by rounding
    assert clear.mean() > 0.95
    assert np.array_equal((logits > 0)[clear], (right > 0)[clear])
    assert np.array_equal(values > 0.5, logits > 0) and values.min() >= 0 and values.max() <= 1
    assert not model.trainable_weights
    model.save(tmp_path / "head.keras")
    again = keras.saving.load_model(tmp_path / "head.keras")
    assert np.array_equal(again(X[:7])[0], model(X[:7])[0])


def test_a_kernel_with_fewer_rows_than_anchors():
    estimator = baselines.get("ksh:anchors=300", 8).fit(X[:100], Y[:100])
    assert len(estimator.anchors_) == 100
    head = KernelHash(8, 300)
    head.build((None, 20))
    head.take(estimator)
    right = estimator.decision_function(X)
    assert np.abs(head(X)[0] - right).max() < 1e-3 * np.abs(right).max()
    small = KernelHash(8, 50)
    small.build((None, 20))
    with pytest.raises(ValueError, match="the layer has 50 anchors, not 50 more"):
        small.take(estimator)
