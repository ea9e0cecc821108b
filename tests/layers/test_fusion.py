"""What training computes in compiled loops on a CPU, against the plain operations and NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dah_tf.layers import CBAM, Activation, BatchNorm, SeparableBottleneck
from dah_tf.layers.cpu import fusion


def trained(layer, x, dtype="float32"):
    """Outputs in training, and the gradients of a weighted sum of them, compiled as in training."""
    x = tf.cast(x, dtype)

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            weights = tf.cast(
                tf.reshape(tf.cos(tf.range(tf.size(y), dtype="float32")), y.shape), y.dtype
            )
            loss = tf.reduce_sum(y * weights)
        return y, *tape.gradient(loss, [x, *layer.trainable_variables])

    return [np.asarray(each, "float32") for each in both()]


def plain(monkeypatch, layer, x, dtype="float32"):
    """The same by the operations one by one."""
    with monkeypatch.context() as patch:
        patch.setattr(fusion, "pays", lambda: False)
        return trained(layer, x, dtype)


def test_it_pays_on_a_cpu(monkeypatch):
    assert fusion.pays()
    monkeypatch.setattr(fusion, "on_cpu", lambda: False)
    assert not fusion.pays()


@pytest.mark.parametrize("length", [1, 7, 8, 9, 31, 49, 225, 256])
@pytest.mark.parametrize("axis", [1, -1])
def test_reductions_of_any_length(length, axis):
    shape = (3, length, 5) if axis == 1 else (3, 5, length)
    x = np.random.default_rng(length).normal(size=shape).astype("float32")
    for found, right in ((fusion.total, np.sum), (fusion.largest, np.max)):
        np.testing.assert_allclose(
            found(tf.constant(x), axis, 4), right(x, axis=axis, keepdims=True), rtol=1e-5, atol=1e-5
        )


def test_gradients_are_taken_again_from_one_forward_pass():
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, 32)).astype("float32"))
    layer = CBAM()
    layer.build(x.shape)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = layer(x, training=True)
        one, two = tf.reduce_sum(y), tf.reduce_sum(y**2)
    parts = [tape.gradient(each, x) for each in (one, two)]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        both = tf.reduce_sum(y) + tf.reduce_sum(y**2)
    np.testing.assert_allclose(tape.gradient(both, x), parts[0] + parts[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (lambda: Activation("gelu"), [(12, 14)]),
        (lambda: Activation("relu"), [(12, 14)]),
        (lambda: CBAM(), [(12, 14), (32, 32), (5, 7)]),
        (lambda: SeparableBottleneck(16), [(12, 14), (1, 1)]),
        pytest.param(
            lambda: SeparableBottleneck(8, 2, project=True),
            [(12, 14), (13, 9), (2, 3)],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["gelu", "relu", "cbam", "identity", "stride"],
)
def test_values_and_gradients_are_those_of_the_operations(monkeypatch, make, sizes):
    keras.utils.set_random_seed(0)
    layer = make()
    layer.build((None, None, None, 64))
    for height, width in sizes:
        x = np.random.default_rng(height).normal(size=(4, height, width, 64)).astype("float32")
        x[0] = 0.5  # where every value is the maximum
        ours, theirs = trained(layer, x), plain(monkeypatch, layer, x)
        assert len(ours) == 2 + len(layer.trainable_variables)
        for found, right in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(found, right, rtol=2e-4, atol=2e-5 * np.abs(right).max())


@pytest.mark.parametrize(("height", "width"), [(6, 10), (5, 7)], ids=["loops", "operation"])
@pytest.mark.parametrize("rectify", [False, True])
def test_batch_norm_is_keras(height, width, rectify):
    """Values, gradients and moving statistics; weights go both ways."""
    rng = np.random.default_rng(0)
    x = (3.0 * rng.normal(size=(8, height, width, 16)) + 5.0).astype("float32")
    ours = BatchNorm(momentum=0.7, epsilon=1e-3, rectify=rectify)
    keras_own = keras.layers.BatchNormalization(momentum=0.7, epsilon=1e-3)
    for layer in (ours, keras_own):
        layer.build((None, None, None, 16))
    keras_own.set_weights([rng.uniform(0.5, 1.5, 16) for _ in range(4)])
    ours.set_weights(keras_own.get_weights())

    class Rectified(keras.layers.Layer):
        def call(self, x, training=None):
            y = keras_own(x, training=training)
            return tf.nn.relu(y) if rectify else y

    found = trained(ours, x)
    layer = Rectified()
    layer.inner = keras_own  # tracks its weights
    right = trained(layer, x)
    np.testing.assert_allclose(found[0], right[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], right[1], rtol=1e-3, atol=1e-5)
    for one, other in zip(found[2:], right[2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    for one, other in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    keras_own.set_weights(ours.get_weights())
    np.testing.assert_allclose(
        ours(x, training=False), Rectified()(x, training=False), rtol=1e-4, atol=1e-5
    )


def test_batch_norm_gradient_by_hand():
    """One channel, values 1, 2, 3, 6: mean 3, variance 3.5; scale 2, no offset, epsilon 0."""
    layer = BatchNorm(epsilon=0.0)
    layer.build((None, 2, 2, 1))
    layer.set_weights([np.array([2.0]), np.zeros(1), np.zeros(1), np.ones(1)])
    x = tf.constant([1.0, 2.0, 3.0, 6.0], shape=(1, 2, 2, 1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = y[0, 0, 0, 0]
    # h = (-2, -1, 0, 3) / sqrt(3.5); the gradient of y is g = (1, 0, 0, 0), so that the gradient
    # of the scale is h_1 = -2 / sqrt(3.5), of the offset 1, and of the inputs
    # 2 / sqrt(3.5) (g - 1/4 - h h_1 / 4), where h h_1 = (4, 2, 0, -6) / 3.5.
    of_x, of_scale, of_offset = tape.gradient(loss, [x, *layer.trainable_variables])
    root = 3.5**0.5
    np.testing.assert_allclose(np.ravel(y), 2 * np.array([-2, -1, 0, 3]) / root, rtol=1e-6)
    np.testing.assert_allclose(of_scale, [-2 / root], rtol=1e-6)
    np.testing.assert_allclose(of_offset, [1.0], rtol=1e-6)
    shared = 0.25 + np.array([4, 2, 0, -6]) / 3.5 / 4
    np.testing.assert_allclose(
        np.ravel(of_x), 2 / root * (np.array([1, 0, 0, 0]) - shared), rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: SeparableBottleneck(16), lambda: CBAM()])
def test_bfloat16_is_float32_but_for_rounding(make, monkeypatch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = make()
    finally:
        keras.config.set_dtype_policy("float32")
    whole = make()
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 64)).astype("float32")
    x = np.array(tf.cast(tf.cast(x, "bfloat16"), "float32"))
    for layer in (half, whole):
        layer.build(x.shape)
    half.set_weights(whole.get_weights())
    found, right = trained(half, x, "bfloat16"), trained(whole, x)
    one_by_one = plain(monkeypatch, half, x, "bfloat16")
    for one, other, rounded in zip(found, right, one_by_one, strict=True):
        # A share of the energy: single values may cross a ReLU's or a maximum's edge. The plain
        # operations cross it too, in as many places.
        allowed = 0.005 * np.sum(other**2) + 1.5 * np.sum((rounded - other) ** 2)
        assert np.sum((one - other) ** 2) < allowed
