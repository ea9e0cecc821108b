"""Reference points by hand, and that they stand in an evaluation of a real model."""

import numpy as np
import pytest

from dah_tf import codes
from dah_tf.evaluation import reference_points


def test_one_hot_codes():
    logits = np.array([[0.1, 3.0, -1.0], [2.0, -1.0, 1.0]])
    np.testing.assert_array_equal(
        codes.unpack(reference_points.one_hot(logits), 3), [[0, 1, 0], [1, 0, 0]]
    )
    several = codes.unpack(reference_points.one_hot(logits, multi_label=True), 3)
    np.testing.assert_array_equal(several, [[1, 1, 0], [1, 0, 1]])


def test_a_perfect_classifiers_code_reaches_its_accuracy():
    # Four queries in two classes, one of them misjudged; every database item is judged rightly.
    labels, truth = np.array([0, 0, 1, 1]), np.repeat([0, 1], 50)
    query = {"classes": np.eye(2)[[0, 0, 1, 0]], "features": None}
    database = {"classes": np.eye(2)[truth], "features": None}
    found = reference_points.evaluate(query, labels, database, truth, bits=16)
    # Three queries find their class first, AP 1. The fourth finds the 50 of the other class
    # first: the mean over j = 1 .. 50 of j / (50 + j).
    last = np.mean([j / (50 + j) for j in range(1, 51)])
    assert found["one_hot"]["map"]["expected"] == pytest.approx((3 + last) / 4)
    assert found["one_hot"]["bits"] == 2
    # Half of the items are relevant: random codes retrieve a half, and MAP is a little above.
    assert 0.45 < found["random"]["map"]["expected"] < 0.6
    assert found["random"]["bits"] == 16
    assert "features_cosine" not in found


def test_features_by_cosine():
    labels, truth = np.array([0, 1]), np.array([0, 1, 0, 1])
    features = np.array([[1.0, 0.1], [0.1, 1.0]])
    found = reference_points.evaluate(
        {"classes": np.zeros((2, 2)), "features": features},
        labels,
        {"classes": np.zeros((4, 2)), "features": np.concatenate([features, 3 * features])},
        truth,
        bits=8,
    )["features_cosine"]
    assert found["map"] == {"expected": None, "worst": 1.0, "best": 1.0}
    assert found["dimensions"] == 2


def test_random_codes_are_repeatable_and_padded():
    part = {"classes": np.zeros((40, 3)), "features": None}
    labels = np.arange(40) % 3
    first, second = (
        reference_points.evaluate(part, labels, part, labels, bits=13)["random"] for _ in range(2)
    )
    assert first == second
