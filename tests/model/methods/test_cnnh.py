"""CNNH: its targets, and that they follow their images."""

import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf

from dah_tf.errors import UserError
from dah_tf.model import methods


def facts(labels, num_classes=3, seed=0):
    known = parts.facts("cnnh").__dict__
    return methods.Facts(
        **{**known, "labels": labels, "num_classes": num_classes, "seed": seed, "bits": 8}
    )


def of_images(labels, **more):
    """The target of each image."""
    state = methods.get("cnnh").variables(facts(np.asarray(labels), **more))
    return state["targets"][state["sets"]]


def test_by_hand():
    # The sets 0 and 1 have the targets (1, -1) and (-1, -1). Images 5 and 2 are of the sets 1 and 0.
    # Their logits are (0, ln 3) and (-ln 3, -ln 3). A bit costs log(1 + exp(-t u)): log 2 = 0.693147
    # and log 4 = 1.386294 for image 5; log 4 and log(4/3) = 0.287682 for image 2. Mean 0.938354.
    state = {
        "targets": tf.constant([[1, -1], [-1, -1]], tf.int8),
        "sets": tf.constant([9, 9, 0, 9, 9, 1]),
    }
    logits = np.log(3) * np.array([[[0.0, 1.0], [-1.0, -1.0]]])
    outputs = {"logits": tf.constant(logits), "rows": tf.constant([[5, 2]])}
    found = methods.get("cnnh").terms(np.array([[0, 1]]), outputs, state, 0)
    assert [*found] == ["loss", "right_bits"]
    assert float(found["loss"]) == pytest.approx(0.938354, abs=1e-6)
    # One bit of each image is that of its target. The bit of the logit 0 is 0, which is -1 here.
    assert float(found["right_bits"]) == 0.5


def test_equal_labels_have_equal_targets_and_others_have_others():
    labels = np.random.default_rng(0).integers(0, 3, 40)
    found = of_images(labels)
    assert set(np.unique(found)) == {-1, 1}
    alike = (found[:, None] == found).all(axis=2)
    np.testing.assert_array_equal(alike, labels[:, None] == labels)


def test_targets_follow_their_images_in_any_order():
    """Other versions read the labels in another order than the targets, which are then random."""
    rng = np.random.default_rng(0)
    labels, order = rng.integers(0, 3, 40), rng.permutation(40)
    np.testing.assert_array_equal(of_images(labels[order]), of_images(labels)[order])
    # In a run the rows are those of the plan's labels, whatever the order of a batch.
    model, _ = parts.once_trained("cnnh")
    state = {name: np.array(value) for name, value in model.state.items()}
    first = methods.get("cnnh").variables(model.facts)
    np.testing.assert_array_equal(state["sets"], first["sets"])
    by_class = [set(state["sets"][np.asarray(model.facts.labels) == c]) for c in range(3)]
    assert all(len(each) == 1 for each in by_class) and len(set.union(*by_class)) == 3


def test_rows_of_one_label_have_the_same_targets():
    labels = np.random.default_rng(0).integers(0, 3, 40)
    np.testing.assert_array_equal(of_images(np.eye(3, dtype="uint8")[labels]), of_images(labels))
    # Sets with a label in common are nearer to each other than sets without one.
    several = np.array([[1, 1, 0, 0]] * 5 + [[1, 0, 0, 0]] * 5 + [[0, 0, 1, 1]] * 5)
    one, near, far = of_images(several, num_classes=4)[[0, 5, 10]]
    assert (one != near).sum() < (one != far).sum()


def test_a_run_learns_its_targets():
    _, log = parts.trained("cnnh", steps=60)
    assert log[-1]["right_bits"] > 0.75 > log[0]["right_bits"]


def test_what_is_refused():
    with pytest.raises(UserError, match="method cnnh: sweeps=0 must be at least 1"):
        methods.get("cnnh:sweeps=0")
    with pytest.raises(UserError, match="y has one class only; method cnnh needs two or more"):
        of_images([1, 1, 1])
