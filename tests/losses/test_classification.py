"""Cross-entropy and accuracy of a class layer."""

import numpy as np
import pytest

from dah_tf import losses


def test_one_label_by_hand():
    # softmax(ln 1, ln 2, ln 5) = (1, 2, 5) / 8; the class is the second: -ln 1/4 = 1.386294.
    logits = np.log([[[1.0, 2.0, 5.0]]])
    np.testing.assert_allclose(losses.cross_entropy(np.array([[1]]), logits), 1.386294, rtol=1e-6)
    # Smoothed by 0.3: q = (0.1, 0.8, 0.1): 0.1 ln 8 + 0.8 ln 4 + 0.1 ln 8/5 = 1.363980.
    smooth = losses.cross_entropy(np.array([[1]]), logits, 0.3)
    np.testing.assert_allclose(smooth, 1.363980, rtol=1e-6)


def test_several_labels_by_hand():
    # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4: (ln 2 + -ln 1/4) / 2 where the second is not there.
    logits, labels = np.array([[[0.0, np.log(3.0)]]]), np.array([[[1, 0]]], "uint8")
    np.testing.assert_allclose(losses.cross_entropy(labels, logits), 1.5 * np.log(2), rtol=1e-6)
    # Smoothed by 0.2: q = (0.9, 0.1); ln 2, and 0.1 -ln 3/4 + 0.9 ln 4 = 1.276433; mean 0.984790.
    smooth = losses.cross_entropy(labels, logits, 0.2)
    np.testing.assert_allclose(smooth, 0.984790, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_accuracy_by_hand(dtype):
    logits = np.array([[[1.0, 2.0], [3.0, -1.0], [-1.0, -2.0]]], "float32")
    assert float(losses.accuracy(np.array([[1, 0, 1]], dtype), logits)) == pytest.approx(2 / 3)
    # Of several labels all must be right: (1, 1), (1, 0), (0, 0) are given.
    several = np.array([[[1, 1], [1, 1], [0, 0]]], dtype)
    assert float(losses.accuracy(several, logits)) == pytest.approx(2 / 3)
