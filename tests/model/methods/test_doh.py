"""DOH by hand, its two branches, and the order of its scores."""

import keras
import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf

from dah_tf import layers
from dah_tf.errors import UserError
from dah_tf.model import methods


def built(bits=4, features=5, channels=3):
    head = layers.OrdinalHash(bits, name="hash_head")
    head.build([(None, features), (None, 2, 2, channels)])
    rng = np.random.default_rng(0)
    for weight in head.weights:
        weight.assign(rng.normal(size=weight.shape))
    x = rng.normal(size=(7, features)), rng.normal(size=(7, 2, 2, channels))
    return head, tuple(each.astype("float32") for each in x)


def test_by_hand():
    # Logits ln 9, 0 and ln 9, -ln 9, of which the first way has p = 9/10, 1/2 and 9/10, 1/10.
    # Sum of p.p: 0.82 + 0.5 = 1.32 of 2 bits, so theta = 0.32. A similar pair costs
    # log(1 + exp(-0.32)) = 0.545893, another log(1 + exp(0.32)) = 0.865893.
    logits = np.log(9) * np.array([[[1.0, 0.0], [1.0, -1.0]]])
    for labels, expected in (([[0, 0]], 0.545893), ([[0, 1]], 0.865893)):
        terms = methods.get("doh:temperature=1").terms(np.array(labels), {"logits": logits}, {}, 0)
        assert [*terms] == ["loss"]
        assert float(terms["loss"]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_loss_is_that_of_the_expected_number_of_equal_bits(temperature):
    logits, labels = parts.logits_of("doh"), parts.labels_of("doh")
    scores = np.stack([logits + 3.0, np.full(logits.shape, 3.0)], axis=-1) / temperature
    p = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    total = 0.0
    for group, classes in zip(p, labels, strict=True):
        for i, j in [(i, j) for i in range(6) for j in range(6) if i != j]:
            theta = (group[i] * group[j]).sum() - parts.BITS / 2
            total += np.logaddexp(0, theta) - (classes[i] == classes[j]) * theta
    found = parts.Loss(f"doh:temperature={temperature}")(logits, labels)["loss"]
    assert float(found) == pytest.approx(total / (30 * parts.GROUPS), rel=1e-9)


def test_at_a_low_temperature_the_loss_is_that_of_the_codes():
    logits, labels = parts.logits_of("doh"), parts.labels_of("doh")
    cold = methods.get("doh:temperature=1e-6").terms(labels, {"logits": logits}, {}, 0)
    codes = {"logits": np.where(logits > 0, 1e9, -1e9)}
    expected = methods.get("doh").terms(labels, codes, {}, 0)
    assert float(cold["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-9)


def test_increasing_maps_of_all_scores_change_no_bit():
    head, x = built()
    scores, bits = np.array(head.scores(x)), np.array(head(x)[0]) > 0
    assert 0 < bits.mean() < 1
    for change in (np.exp, np.arctan, lambda s: s**3, lambda s: 5 * s - 2):
        changed = change(scores.astype(float))
        np.testing.assert_array_equal(changed.argmax(axis=-1) == 0, bits)


def test_the_head_against_numpy_and_reloaded():
    head, x = built()
    features, found = (each.astype(float) for each in x)
    attention, dense = (np.array(weight, float) for weight in head.get_weights())
    cells = found.reshape(7, 4, 3)
    weights = np.exp(cells @ attention)
    weights /= weights.sum(axis=1, keepdims=True)
    local = (cells * weights).sum(axis=1) / np.sqrt(3)
    scores = (np.concatenate([features, local], axis=1) @ dense).reshape(7, 4, 2)
    logits, values = head(x)
    np.testing.assert_allclose(logits, scores[..., 0] - scores[..., 1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(values, (1 + np.tanh(logits)) / 2, rtol=1e-4, atol=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    again.set_weights(head.get_weights())
    np.testing.assert_array_equal(
        again([each[:2] for each in x])[0], head([each[:2] for each in x])[0]
    )
    assert head.compute_output_shape([(7, 5), (7, 2, 2, 3)]) == ((7, 4), (7, 4))


def test_each_branch_reaches_the_bits_and_places_do_not_matter():
    head, (features, found) = built()
    logits = np.array(head((features, found))[0])
    moved = found.reshape(7, 4, 3)[:, [2, 0, 3, 1]].reshape(found.shape)
    np.testing.assert_allclose(head((features, moved))[0], logits, rtol=1e-4, atol=1e-5)
    for other in ((features + 1, found), (features, found * [1, -1, 1])):
        other = tuple(each.astype("float32") for each in other)
        assert np.abs(np.array(head(other)[0]) - logits).max() > 0.1
    # One position that stands out gets all of the attention.
    head.attention.set_weights([np.array([[50.0], [0.0], [0.0]])])
    found = np.zeros((1, 2, 2, 3), "float32")
    found[0, 1, 0] = 1.0
    np.testing.assert_allclose(head.weights_of(found), [[0, 0, 1, 0]], atol=1e-6)


def test_codes_of_images_see_the_map():
    """In encoding as in training, where the map comes from the same network."""
    model = parts.small("doh")
    model.hash_head.attention.kernel.assign(3 * tf.ones((8, 1)))
    images = np.random.default_rng(1).integers(0, 256, (6, parts.SIDE, parts.SIDE, 1), np.uint8)
    found = model.outputs(images)
    grouped = {"images": images.reshape(2, 3, parts.SIDE, parts.SIDE, 1)}
    outputs = model(grouped | {"augment": np.zeros((2, 3, 5), "int32")})
    assert set(found) == set(outputs) == {"features", "logits", "hash", "classes"}
    for key, value in found.items():
        np.testing.assert_allclose(value, np.array(outputs[key]).reshape(value.shape), atol=1e-5)
    features, maps = model._extra.network(tf.constant(images))
    np.testing.assert_allclose(found["logits"], model.hash_head((features, maps))[0], atol=1e-5)
    before = found["logits"]
    model.hash_head.attention.kernel.assign(-3 * tf.ones((8, 1)))
    assert np.abs(model.outputs(images)["logits"] - before).max() > 1e-3


def test_what_is_refused():
    with pytest.raises(UserError, match="method doh: temperature=0.0 must be above 0"):
        methods.get("doh:temperature=0")
    with pytest.raises(ValueError, match="`bits` must be at least 1. Received: bits=0"):
        layers.OrdinalHash(0)
