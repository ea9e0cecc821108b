"""NINH by hand, its slices and its threshold."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dah_tf import layers, losses
from dah_tf.errors import UserError
from dah_tf.model import methods


def terms(values, labels, spec="ninh"):
    outputs = {"hash": tf.convert_to_tensor(values)}
    return methods.get(spec).terms(np.asarray(labels), outputs, {}, 0)


def test_by_hand():
    # F = 00, F+ = 01, F- = 11: |F - F+|^2 = 1, |F - F-|^2 = 2, and 1 - 2 + 1 = 0. As the query,
    # F+ has the distances 1 and 1: 1 - 1 + 1 = 1. The image F- has no partner. The mean is 1/2.
    values = np.array([[[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    found = terms(values, [[0, 0, 1]])
    assert [*found] == ["loss"] and float(found["loss"]) == 0.5
    similar = np.array([[[1, 1, 0], [0, 1, 0], [0, 0, 1]]])
    assert float(losses.triplet_hinge(values, similar, 1.0)) == 0
    # Values outside the band count as their bits.
    near = np.array([[[0.3, 0.1], [0.39, 0.61], [0.7, 0.9]]])
    assert float(terms(near, [[0, 0, 1]])["loss"]) == 0.5
    # Inside it they count as they are: with 0.5 for the first bit of F+, the distances are
    # 1 + 1/4 and 2 for F, 1 + 1/4 and 1/4 for F+: (1.25 - 2 + 1 + 1.25 - 0.25 + 1) / 2 = 1.125.
    near[0, 1, 0] = 0.5
    assert float(terms(near, [[0, 0, 1]])["loss"]) == pytest.approx(1.125)


def test_threshold_by_hand():
    values = tf.constant([0.0, 0.39, 0.41, 0.5, 0.59, 0.61, 1.0], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = layers.thresholded(values, 0.1)
    np.testing.assert_allclose(found, [0, 0, 0.41, 0.5, 0.59, 1, 1], atol=1e-12)
    # The gradient passes straight through, also outside the band.
    np.testing.assert_array_equal(tape.gradient(found, values), np.ones(7))
    np.testing.assert_array_equal(layers.thresholded(values, 0.5), values)


def test_gradient_is_that_of_the_loss_at_the_thresholded_values():
    rng = np.random.default_rng(0)
    values, labels = rng.random((1, 6, 5)), np.array([[0, 0, 1, 1, 2, 2]])
    x, rounded = tf.constant(values), layers.thresholded(tf.constant(values), 0.1)
    assert np.abs(rounded - values).max() > 0.1
    with tf.GradientTape() as tape:
        tape.watch([x, rounded])
        ours = terms(x, labels)["loss"]
        plain = losses.triplet_hinge(rounded, losses.similarity(labels), 1.0)
    expected = tape.gradient([ours, plain], [x, rounded])
    np.testing.assert_allclose(*expected, rtol=1e-9)
    assert float(ours) == float(plain) and np.abs(expected[0]).max() > 0.1


def test_a_slice_moves_one_bit_only():
    head = methods.get("ninh:width=3").head(4)
    x = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    before = np.array(head(x)[0])
    kernel = np.array(head.kernel)
    kernel[2] += 1.0
    head.kernel.assign(kernel)
    moved = np.abs(np.array(head(x)[0]) - before).max(axis=0) > 0
    np.testing.assert_array_equal(moved, [False, False, True, False])
    # So do the features of its slice, of which there are three for each bit.
    before, (weights, bias) = np.array(head(x)[0]), head.dense.get_weights()
    assert weights.shape == (5, 12)
    weights[:, 6:9] += 1.0
    head.dense.set_weights([weights, bias])
    moved = np.abs(np.array(head(x)[0]) - before).max(axis=0) > 0
    np.testing.assert_array_equal(moved, [False, False, True, False])


def test_the_head_against_numpy_and_reloaded():
    head = layers.SlicedHash(4, width=3, name="hash_head")
    x = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    logits, values = head(x)
    slices, shift, kernel, bias = head.get_weights()
    features = np.maximum(x @ kernel + bias, 0).reshape(7, 4, 3)
    expected = np.einsum("nks,ks->nk", features, slices) + shift
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values, (1 + np.tanh(expected)) / 2, rtol=1e-4)
    again = layers.SlicedHash.from_config(head.get_config())
    again.build((None, 5))
    again.set_weights(head.get_weights())
    np.testing.assert_array_equal(again(x[:2])[0], head(x[:2])[0])
    assert head.compute_output_shape((7, 5)) == ((7, 4), (7, 4))
    assert isinstance(
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head)),
        layers.SlicedHash,
    )


@pytest.mark.parametrize(
    "spec, words",
    [
        ("ninh:width=0", "method ninh: width=0 must be above 0"),
        ("ninh:band=0.6", "method ninh: band=0.6 must lie from 0 to 0.5"),
        ("ninh:margin=0", "method ninh: margin=0.0 must be above 0"),
    ],
)
def test_what_is_refused(spec, words):
    with pytest.raises(UserError, match=words):
        methods.get(spec)
    with pytest.raises(ValueError, match="bits=0, width=50"):
        layers.SlicedHash(0)
