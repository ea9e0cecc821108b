"""Layers against plain NumPy, and through a reload."""

import inspect

import keras
import numpy as np
import pytest

from dah_tf import layers
from dah_tf.layers.cpu import convolution

X = np.random.default_rng(0).normal(size=(3, 5, 6, 8)).astype("float32")


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def conv2d(x, kernel, stride=1):
    """ "same" convolution by explicit loops over the window; TensorFlow's padding rule."""
    n, h, w, _ = x.shape
    kh, kw, _, out = kernel.shape
    oh, ow = -(-h // stride), -(-w // stride)
    ph, pw = max((oh - 1) * stride + kh - h, 0), max((ow - 1) * stride + kw - w, 0)
    x = np.pad(x, ((0, 0), (ph // 2, ph - ph // 2), (pw // 2, pw - pw // 2), (0, 0)))
    y = np.zeros((n, oh, ow, out))
    for i in range(kh):
        for j in range(kw):
            window = x[:, i : i + (oh - 1) * stride + 1 : stride]
            window = window[:, :, j : j + (ow - 1) * stride + 1 : stride]
            y += window @ kernel[i, j]
    return y


def depthwise(x, kernel, stride=1):
    channels = [
        conv2d(x[..., c : c + 1], kernel[:, :, c : c + 1], stride) for c in range(x.shape[-1])
    ]
    return np.concatenate(channels, axis=-1)


def batch_norm(x, layer, training):
    if training:
        mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    else:
        mean, variance = np.array(layer.moving_mean), np.array(layer.moving_variance)
    scaled = (x - mean) / np.sqrt(variance + layer.epsilon)
    return scaled * np.array(layer.gamma) + np.array(layer.beta)


def randomised(layer, shape=X.shape):
    layer.build(shape)
    rng = np.random.default_rng(1)
    layer.set_weights([np.abs(rng.normal(size=w.shape)) * 0.3 + 0.1 for w in layer.get_weights()])
    return layer


def test_shrink_sigmoid_is_eq_1():
    x = np.array([-50.0, -1.0, 0.0, 2.0, 50.0], "float32")
    # 1/4 + 1/(2(1 + e)) at -1 = 0.25 + 0.5 * 0.26894 = 0.38447
    expected = [0.25, 0.38447, 0.5, 0.69040, 0.75]
    np.testing.assert_allclose(layers.ShrinkSigmoid()(x), expected, atol=1e-5)


def test_hash_head_is_a_dense_layer_and_the_activation_in_float32():
    head = layers.HashHead(12)
    features = np.random.default_rng(2).normal(size=(4, 7)).astype("float32")
    logits, values = head(keras.ops.cast(features, "bfloat16"))
    rounded = np.array(keras.ops.cast(keras.ops.cast(features, "bfloat16"), "float32"))
    expected = rounded @ np.array(head.dense.kernel) + np.array(head.dense.bias)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values, 0.25 + 0.5 * sigmoid(expected), rtol=1e-5)
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    np.testing.assert_array_equal(np.array(logits) > 0, np.array(values) > 0.5)


def numpy_channel(layer, x):
    w1, b1, w2, b2 = [np.array(w) for w in layer.weights]

    def mlp(v):
        return np.maximum(v @ w1 + b1, 0) @ w2 + b2

    return x * sigmoid(mlp(x.mean(axis=(1, 2))) + mlp(x.max(axis=(1, 2))))[:, None, None]


def numpy_spatial(layer, x):
    pooled = np.stack([x.mean(axis=-1), x.max(axis=-1)], axis=-1)
    return x * sigmoid(conv2d(pooled, np.array(layer.weights[0])))


def test_channel_attention():
    layer = randomised(layers.ChannelAttention(reduction=4))
    assert [tuple(w.shape) for w in layer.weights] == [(8, 2), (2,), (2, 8), (8,)]
    np.testing.assert_allclose(layer(X), numpy_channel(layer, X), rtol=1e-4, atol=1e-5)


def test_spatial_attention():
    layer = randomised(layers.SpatialAttention())
    np.testing.assert_allclose(layer(X), numpy_spatial(layer, X), rtol=1e-4, atol=1e-5)


def test_cbam_is_channel_then_spatial():
    layer = randomised(layers.CBAM(reduction=2, kernel_size=3))
    expected = numpy_spatial(layer.spatial, numpy_channel(layer.channel, X))
    np.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("stride, project", [(1, False), (1, True), (2, True)])
def test_separable_bottleneck(stride, project, training):
    block = randomised(layers.SeparableBottleneck(2, stride=stride, project=project))

    def norm(x, layer):
        return batch_norm(x, layer, training)

    y = np.maximum(norm(conv2d(X, np.array(block.reduce.kernel)), block.reduce_norm), 0)
    depth, point = (np.array(w) for w in block.separable.weights)
    y = conv2d(depthwise(y, depth, stride), point)
    y = np.maximum(norm(y, block.separable_norm), 0)
    y = norm(conv2d(y, np.array(block.expand.kernel)), block.expand_norm)
    shortcut = X
    if project:
        shortcut = norm(conv2d(X, np.array(block.shortcut.kernel), stride), block.shortcut_norm)
    # Must come last: a training call moves the statistics.
    actual = block(X, training=training)
    assert actual.shape == block.compute_output_shape(X.shape)
    np.testing.assert_allclose(actual, np.maximum(y + shortcut, 0), rtol=2e-3, atol=2e-4)


def test_separable_bottleneck_starts_near_its_shortcut():
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 32)).astype("float32")
    branch = np.array(layers.SeparableBottleneck(8)(x, training=True)) - np.maximum(x, 0)
    # A normalised branch has a deviation of 1; a tenth of it is added, and a ReLU cuts some off.
    assert 0.05 < branch.std() < 0.1


def test_separable_bottleneck_refuses_a_shortcut_that_cannot_be():
    with pytest.raises(ValueError, match="project"):
        layers.SeparableBottleneck(2, stride=2)
    with pytest.raises(ValueError, match="8 input channels"):
        layers.SeparableBottleneck(2).build((None, 4, 4, 3))


def gradients(layer, x, weights):
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True) * weights)
    return [np.array(g) for g in tape.gradient(loss, [x, layer.gamma, layer.beta])]


def test_batch_norm_equals_keras_in_values_gradients_and_statistics():
    ours = randomised(layers.BatchNorm(momentum=0.7, epsilon=1e-3))
    theirs = randomised(keras.layers.BatchNormalization(momentum=0.7, epsilon=1e-3))
    weights = np.random.default_rng(3).normal(size=X.shape).astype("float32")
    for a, b in zip(gradients(ours, X, weights), gradients(theirs, X, weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours(X, training=True), theirs(X, training=True), atol=1e-4)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-4, atol=1e-5)


def test_batch_norm_keeps_float32_statistics_under_bfloat16():
    layer = layers.BatchNorm(momentum=0.0, dtype="mixed_bfloat16")
    x = keras.ops.cast(X + 100.0, "bfloat16")
    y = layer(x, training=True)
    exact = np.array(keras.ops.cast(x, "float32"))
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    np.testing.assert_allclose(layer.moving_mean, exact.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, exact.var(axis=(0, 1, 2)), rtol=1e-3)


@pytest.mark.parametrize("tile", range(1, 8))
def test_minimal_filtering_is_the_correlation(tile):
    of_input, of_kernel, of_output = convolution.minimal_filtering(tile)
    rng = np.random.default_rng(tile)
    inputs, kernel = rng.normal(size=tile + 2), rng.normal(size=3)
    outputs = of_output @ ((of_kernel @ kernel) * (of_input @ inputs))
    np.testing.assert_allclose(outputs, np.correlate(inputs, kernel, "valid"), atol=1e-12)


# Sides that one tile covers, several tiles, and tiles that reach over the edge.
@pytest.mark.parametrize("sides", [(1, 2), (3, 4), (7, 5), (6, 15), (11, 17)])
def test_winograd_equals_the_direct_convolution_in_values_and_gradients(sides):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x, kernel, weights = (
        tf.constant(rng.normal(size=shape).astype("float32"))
        for shape in ((2, *sides, 16), (3, 3, 16, 8), (2, *sides, 8))
    )

    def run(function):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function(x, kernel)
            loss = tf.reduce_sum(y * weights)
        return [np.array(each) for each in (y, *tape.gradient(loss, [x, kernel]))]

    def direct(x, kernel):
        return tf.nn.conv2d(x, kernel, 1, "SAME")

    ours, theirs = run(convolution.winograd), run(direct)
    np.testing.assert_allclose(theirs[0], conv2d(np.array(x), np.array(kernel)), atol=1e-4)
    for a, b in zip(ours, theirs, strict=True):
        assert np.sqrt(np.mean((a - b) ** 2)) < 3e-4 * np.std(b)


@pytest.mark.parametrize(
    ("dtype", "channels", "side", "training", "direct"),
    [
        ("float32", 64, 7, True, False),
        ("float32", 64, 7, False, True),
        ("float32", 32, 7, True, True),
        ("float32", 64, 2, True, True),
        ("mixed_bfloat16", 64, 7, True, True),
    ],
)
def test_conv3x3_is_kerass_and_multiplies_by_winograd_where_it_pays(
    dtype, channels, side, training, direct
):
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    layer = layers.Conv3x3(64, dtype=dtype)
    keras_layer = keras.layers.Conv2D(64, 3, padding="same", use_bias=False, dtype=dtype)
    for each in (layer, keras_layer):
        each.build((None, side, side, channels))
    keras_layer.set_weights(layer.get_weights())
    x = np.random.default_rng(0).normal(size=(2, side, side, channels)).astype("float32")
    run = tf.function(lambda x: layer(x, training=training))
    kinds = {each.type for each in run.get_concrete_function(x).graph.get_operations()}
    assert ("Conv2D" in kinds) == direct
    ours, theirs = (np.array(keras.ops.cast(y, "float32")) for y in (run(x), keras_layer(x)))
    if direct:
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("name", ["groups", "activation", "use_bias", "strides", "dilation_rate"])
def test_conv3x3_refuses_what_its_transforms_are_not_made_for(name):
    with pytest.raises(TypeError, match=name):
        layers.Conv3x3(64, **{name: 2})


LAYERS = [
    layers.Conv3x3(4),
    layers.ShrinkSigmoid(),
    layers.HashHead(5),
    layers.ChannelAttention(reduction=4),
    layers.SpatialAttention(kernel_size=3),
    layers.CBAM(reduction=4, kernel_size=5),
    layers.SeparableBottleneck(2),
    layers.SeparableBottleneck(3, stride=2, project=True),
    layers.BatchNorm(momentum=0.8),
    layers.BatchNorm(rectify=True, name="rectified"),
    layers.Activation("gelu"),
    layers.Activation("relu", name="relu"),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layers_reload_equal_and_take_another_batch_size(layer, tmp_path):
    inputs = keras.Input(X.shape[1:])
    outputs = layer(inputs)
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for x in (X, X[:1]):
        ours, again = model(x), loaded(x)
        for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(again), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_every_constructor_argument_is_in_the_config(layer):
    named = set(inspect.signature(type(layer).__init__).parameters) - {"self", "kwargs"}
    assert named <= set(layer.get_config())
