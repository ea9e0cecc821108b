"""Backbones: parameters, image sizes, channels, the whitened stem, and Keras Applications."""

import json

import keras
import numpy as np
import pytest

from dah_tf import layers
from dah_tf.errors import UserError
from dah_tf.model import HashModel, backbones, describe
from dah_tf.model.backbones import compact


def trainable(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def test_resnet30_has_the_papers_parameters():
    model = HashModel(backbones.get("resnet30"), bits=12, num_classes=10)
    assert trainable(model) == 3_210_516
    # This counts all parameters of ResNet50 in Keras Applications, with its 1,000 classes.
    resnet50 = keras.applications.ResNet50(weights=None).count_params()
    assert resnet50 == 25_636_712
    assert f"{1 - 3_210_516 / resnet50:.2%}" == "87.48%"


def test_attention_is_three_cbams():
    # The stages have 256, 512 and 1,024 channels. With reduction 8, an MLP has 2 c^2/8 + c/8 + c
    # parameters, and a spatial convolution has 7 * 7 * 2 = 98.
    extra = sum(2 * c * c // 8 + c // 8 + c + 98 for c in (256, 512, 1024))
    with_cbam, without = (backbones.get(f"resnet30:attention={a}") for a in (True, False))
    assert trainable(with_cbam) - trainable(without) == extra


def test_thirty_weighted_layers():
    backbone = backbones.get("resnet30:attention=false")
    kernels = [w for w in backbone.trainable_weights if w.path.endswith("kernel")]
    # A separable convolution counts as one layer with two kernels, and shortcuts do not count.
    counted = [w for w in kernels if "shortcut" not in w.path and "depthwise" not in w.path]
    assert len({w.path.rsplit("/", 1)[0] for w in counted}) + 2 == 30


@pytest.mark.parametrize("name", ["resnet30", "compact"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_and_both_channel_counts(name, channels):
    backbone = backbones.get(name, channels=channels)
    for size in (32, 40):
        x = np.random.default_rng(0).integers(0, 256, (2, size, size, channels), np.uint8)
        y = np.array(backbone(x))
        assert y.shape == (2, backbone.output_shape[-1]) and np.isfinite(y).all()


def test_whitened_stem_decorrelates_patches():
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (50, 9, 9, 3)).repeat(2, axis=1).repeat(2, axis=2)
    backbone = backbones.get("compact")
    compact.whiten(backbone, smooth.astype(np.uint8))
    layer = backbone.get_layer("whiten")
    assert not layer.trainable
    y = np.array(layer(smooth.astype("float32") / 127.5 - 1)).reshape(-1, 24)[:, :12]
    second_moment = y.T @ y / len(y)
    np.testing.assert_allclose(second_moment, np.eye(12), atol=0.02)
    np.testing.assert_array_equal(layer.kernel[..., :12], -np.array(layer.kernel[..., 12:]))


def test_the_stem_of_many_large_images_is_made_in_parts(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (7, 20, 30, 3), np.uint8)
    kernels = []
    for patches in (1 << 20, 1300, 1):
        monkeypatch.setattr(compact, "PATCHES", patches)
        backbone = backbones.get("compact")
        compact.whiten(backbone, images)
        kernels.append(np.array(backbone.get_layer("whiten").kernel))
    np.testing.assert_allclose(kernels[1], kernels[0], rtol=1e-4)
    np.testing.assert_allclose(kernels[2], kernels[0], rtol=1e-4)


def test_partial_identity_passes_channels_through():
    kernel = np.array(layers.PartialIdentity(seed=1)((3, 3, 4, 6)))
    x = np.random.default_rng(0).normal(size=(1, 5, 5, 4)).astype("float32")
    y = np.array(keras.ops.conv(x, kernel, padding="same"))
    np.testing.assert_allclose(y[..., :4], x, rtol=1e-6)
    assert np.abs(kernel[..., 4:]).max() <= 1 / 6 and kernel[..., 4:].std() > 0.05


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2", "DenseNet121", "EfficientNetB0"])
def test_pixel_transform_is_the_applications_own(name):
    import importlib

    constructor = getattr(keras.applications, name)
    preprocess = importlib.import_module(constructor.__module__).preprocess_input
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("float32")
    ours = layers.PixelTransform.like(preprocess)(x)
    np.testing.assert_allclose(ours, preprocess(x.copy()), rtol=1e-5, atol=1e-4)


def test_any_keras_application_by_name():
    backbone = backbones.get("mobilenetv2", channels=1)
    assert np.array(backbone(np.zeros((1, 32, 32, 1), np.uint8))).shape == (1, 1280)


@pytest.mark.parametrize(
    "text, weights, message",
    [
        ("vgg99", None, "there is no backbone 'vgg99'; there are resnet30, compact, "),
        ("resnet30", "imagenet", "no ImageNet weights for resnet30"),
        (
            "resnet30:widths=1/2/3",
            None,
            "resnet30 has no option 'widths'; its options are attention",
        ),
        ("compact:widths=64/256", None, "compact: widths=64/256 must be three positive numbers"),
        ("resnet30:depth=3", None, "resnet30 has no option 'depth'"),
        ("compact:depth=0", None, "compact: depth=0 must be at least 1"),
        ("compact:widths=a/b/c", None, "widths=a/b/c is not a whole number"),
        ("MobileNetV2:attention", None, "MobileNetV2 has no options; leave out attention"),
        ("compact", "nowhere.weights.h5", "backbone_weights=nowhere.weights.h5 is not there"),
    ],
)
def test_bad_arguments(text, weights, message):
    with pytest.raises(UserError) as caught:
        backbones.get(text, weights=weights)
    assert message in str(caught.value)


def test_channels_are_one_or_three():
    with pytest.raises(ValueError, match="1 or 3"):
        backbones.get("compact", channels=2)


@pytest.mark.parametrize("kind", [TypeError, ValueError, OSError])
def test_a_bug_in_a_backbone_is_not_a_users_error(monkeypatch, kind):
    def broken(channels=3, *, wide: bool = False, **_):
        raise kind("a bug")

    monkeypatch.setitem(backbones.BACKBONES, "broken", broken)
    monkeypatch.setattr(keras.applications, "VGG16", broken)
    for text in ("broken:wide", "vgg16"):
        with pytest.raises(kind, match="a bug") as caught:
            backbones.get(text)
        assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("name", backbones.names())
def test_every_backbone_says_what_it_is(name):
    facts = backbones.facts(name)
    assert facts.smallest >= 8
    spec = backbones.resolved(name)
    assert backbones.resolved(spec) == spec
    assert facts.paper == (name == "resnet30")


def test_widths_are_the_stages_channels():
    backbone = backbones.get("compact:widths=8/12/20")
    shapes = [w.shape[2:] for w in backbone.trainable_weights if len(w.shape) == 4]
    assert shapes == [(24, 8), (8, 8), (8, 12), (12, 12), (12, 20), (20, 20)]
    assert backbone.output_shape == (None, 20)


def test_depth_adds_convolutions_inside_a_shortcut():
    deep = backbones.get("compact:widths=8/12/20,depth=3")
    first = backbones.get("compact:widths=8/12/20,depth=1")
    shapes = [w.shape[2:] for w in deep.trainable_weights if len(w.shape) == 4]
    assert shapes == [(24, 8), (8, 8), (8, 8), (8, 12), *[(12, 12)] * 2, (12, 20), *[(20, 20)] * 2]
    for layer in deep.layers:
        if layer.name in {each.name for each in first.layers}:
            layer.set_weights(first.get_layer(layer.name).get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    assert np.abs(np.array(deep(images)) - np.array(first(images))).max() > 0.01
    for layer in deep.layers:  # the added convolutions then have no effect
        if layer.name.endswith(("_2_norm", "_3_norm")):
            layer.gamma.assign(layer.gamma * 0)
    np.testing.assert_allclose(np.array(deep(images)), np.array(first(images)), atol=1e-6)


def test_weights_file_is_loaded(tmp_path):
    one, two = backbones.get("compact"), backbones.get("compact")
    path = str(tmp_path / "b.weights.h5")
    one.save_weights(path)
    two = backbones.get("compact", weights=path)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_multiply_adds_by_hand():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(5, 3, padding="same")(inputs)  # 8*8*5 outputs of 27 products are 8,640
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(
        x
    )  # 4*4*5 outputs of 9 products are 720
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(7)(x)  # 35
    assert describe.multiply_adds(keras.Model(inputs, x), 8) == 8_640 + 720 + 35


def test_describe_adds_up():
    model = HashModel(backbones.get("resnet30"), bits=36, num_classes=10)
    result = json.loads(json.dumps(describe.describe(model)))
    assert sum(row["parameters"] for row in result["layers"]) == result["parameters"]
    assert result["trainable_parameters"] == trainable(model)
    assert 0.44 < result["gmacs"] < 0.46  # it is 0.45 at 32x32 pixels
    assert result["bytes_per_code"] == 5
    assert "0.45" in describe.table(result)


@pytest.mark.parametrize("name", ["resnet50", "MobileNetV2", "efficientnetv2b0"])
def test_describe_lists_the_layers_of_a_keras_application(name):
    model = HashModel(backbones.get(name, channels=1), bits=36, num_classes=10, image_size=40)
    before = json.dumps(model.get_config(), default=str)
    result = json.loads(json.dumps(describe.describe(model)))
    assert sum(row["parameters"] for row in result["layers"]) == result["parameters"]
    rows = {row["name"]: row for row in result["layers"]}
    assert len(rows) == len(result["layers"]) and rows["pixels"]["output"] == [40, 40, 1]
    network = model.backbone.layers[-1]
    inner = network.layers[1:]  # all layers except the input
    every = keras.Model(network.inputs, [layer.output for layer in inner])
    outputs = every([np.zeros((1, 40, 40, 3), "float32")])
    for layer, output in zip(inner, outputs, strict=True):
        assert rows[layer.name]["output"] == [*output.shape[1:]], layer.name
        assert rows[layer.name]["kind"] == type(layer).__name__
    lines = describe.table(result).splitlines()[1 : len(rows) + 1]
    ends = {len(line) for line in lines}
    assert len(ends) == 1, "the columns stand below each other"
    assert json.dumps(model.get_config(), default=str) == before, "the model is as it was"


def test_describe_lists_the_layers_of_sequences_too():
    inputs = keras.Input((None, None, 3), name="pixels")
    block = keras.Sequential(
        [keras.layers.Conv2D(4, 3, name="one"), keras.layers.Conv2D(5, 3, strides=2, name="two")]
    )
    rows = describe.layers_of(keras.Model(inputs, block(inputs)), (1, 12, 12, 3))
    # The parameters are 3 * 9 * 4 + 4 and 4 * 9 * 5 + 5. The side 12 becomes 10, and then 4.
    assert rows == [
        ["pixels", "InputLayer", [12, 12, 3], 0],
        ["one", "Conv2D", [10, 10, 4], 112],
        ["two", "Conv2D", [4, 4, 5], 185],
    ]


def test_multiply_adds_of_a_published_network():
    # Sandler et al., "MobileNetV2" (2018), Table 4: 300 million multiply-adds at 224x224, of which
    # 1.28 million belong to the classifier, which is left out here.
    found = describe.multiply_adds(backbones.get("mobilenetv2"), 224)
    assert 0.97 * 300e6 < found < 1.03 * 300e6
