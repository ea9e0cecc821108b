"""Hash layers with normalised logits: their values, their two ways to compute, and their reload."""

import inspect

import keras
import numpy as np
import pytest

from dah_tf import layers

X = np.random.default_rng(0).normal(2.0, 3.0, size=(40, 7)).astype("float32")


def test_in_training_each_logit_has_mean_0_and_variance_1():
    head = layers.BatchNormHead(5)
    logits, values = head(X, training=True)
    product = X @ np.array(head.dense.kernel)
    expected = (product - product.mean(axis=0)) / np.sqrt(product.var(axis=0) + 1e-5)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    np.testing.assert_allclose(np.array(logits).mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(values, 0.5 + 0.5 * np.tanh(logits), atol=1e-6)
    # Momentum 0.9: a tenth of the batch's statistics.
    np.testing.assert_allclose(head.norm.moving_mean, 0.1 * product.mean(axis=0), rtol=1e-4)


def test_outside_of_training_one_product_is_the_normalised_logit():
    head = layers.BatchNormHead(5)
    for _ in range(3):
        head(X, training=True)
    moved = X @ np.array(head.dense.kernel) - np.array(head.norm.moving_mean)
    expected = moved / np.sqrt(np.array(head.norm.moving_variance) + 1e-5)
    np.testing.assert_allclose(head(X)[0], expected, rtol=1e-4, atol=1e-4)
    again = head.norm(head.dense(X), training=False)
    np.testing.assert_allclose(head(X)[0], again, rtol=1e-4, atol=1e-4)
    assert [weight.path.split("/")[-1] for weight in head.trainable_weights] == ["kernel"]


def test_the_model_says_whether_it_trains():
    """The layer gets `training` from the call of the model around it."""
    inputs = keras.Input((7,))
    model = keras.Model(inputs, layers.BatchNormHead(5)(inputs))
    trained, _ = model(X, training=True)
    used, _ = model(X, training=False)
    np.testing.assert_allclose(np.array(trained).mean(axis=0), 0.0, atol=1e-5)
    assert np.abs(np.array(used).mean(axis=0)).max() > 0.1


def test_layer_normalisation_by_numpy():
    head = layers.LayerNormHead(5)
    head(X)
    rng = np.random.default_rng(1)
    for weight in head.weights:
        weight.assign(rng.normal(size=weight.shape))
    u = X @ np.array(head.dense.kernel) + np.array(head.dense.bias)
    u = (u - u.mean(axis=1, keepdims=True)) / np.sqrt(u.var(axis=1, keepdims=True) + 1e-5)
    u = u * np.array(head.norm.gamma) + np.array(head.norm.beta)
    np.testing.assert_allclose(head(X)[0], u, rtol=1e-3, atol=1e-4)


def test_cosine_classifier_by_numpy():
    layer = layers.CosineClassifier(3, temperature=0.5)
    found = np.array(layer(X))
    p = np.array(layer.proxies)
    lengths = np.linalg.norm(X, axis=1)[:, None] * np.linalg.norm(p, axis=0)
    np.testing.assert_allclose(found, 2 * (X @ p) / lengths, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer(np.zeros((2, 7), "float32")), np.zeros((2, 3)))


LAYERS = [layers.BatchNormHead(5), layers.LayerNormHead(5, "shrink_sigmoid")]
LAYERS += [layers.CosineClassifier(4, temperature=0.3)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layers_reload_equal_and_take_another_batch_size(layer, tmp_path):
    inputs = keras.Input(X.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    model(X, training=True)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for x in (X, X[:1]):
        ours, again = model(x), loaded(x)
        for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(again), strict=True):
            np.testing.assert_array_equal(a, b)
    named = set(inspect.signature(type(layer).__init__).parameters) - {"self", "kwargs"}
    assert named <= set(layer.get_config())
