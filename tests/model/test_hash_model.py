"""HashModel: augmentation, loss terms, saving, encoding and precision."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from dah_tf import codes
from dah_tf.errors import UserError
from dah_tf.model import backbones
from dah_tf.model.hash_model import HashModel, augment, mirrored

TERMS = ("loss", "class_loss", "w1_similar", "w1_dissimilar", "w2", "balance", "accuracy")


def small(**options):
    keras.utils.set_random_seed(0)
    options = {"bits": 12, "num_classes": 4, "image_size": 16, **options}
    backbone = backbones.get("compact:widths=8/8/8,attention", channels=1)
    return HashModel(backbone, **options)


def batch(groups=2, classes=4, size=16, seed=0):
    rng = np.random.default_rng(seed)
    m = 2 * classes
    x = {
        "images": rng.integers(0, 256, (groups, m, size, size, 1), np.uint8),
        "augment": np.stack(
            [
                rng.integers(0, 2, (groups, m)),
                *rng.integers(-2, 3, (2, groups, m)),
                *rng.integers(-2, 14, (2, groups, m)),
            ],
            axis=-1,
        ).astype("int32"),
    }
    return x, np.tile(np.repeat(np.arange(classes), 2), (groups, 1)).astype("int32")


def numpy_augment(image, flip, dy, dx, top, left, cutout):
    """Flips the image, pads it by mirroring, cuts the window out, and blanks the cutout box."""
    size, pad = image.shape[0], 8
    image = image[:, ::-1] if flip else image
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    out = padded[pad - dy : pad - dy + size, pad - dx : pad - dx + size].copy()
    if cutout:
        out[max(top, 0) : max(top + cutout, 0), max(left, 0) : max(left + cutout, 0)] = 128
    return out


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("cutout", [0, 5])
def test_augment_equals_numpy(cutout, compiled):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 12, 12, 3), np.uint8)
    plan = np.stack(
        [
            rng.integers(0, 2, 40),
            *rng.integers(-4, 5, (2, 40)),
            *rng.integers(-3, 12, (2, 40)),
        ],
        axis=-1,
    ).astype("int32")
    function = tf.function(augment, jit_compile=True) if compiled else augment
    actual = np.array(function(tf.constant(pixels), tf.constant(plan), cutout))
    assert actual.dtype == np.uint8
    for image, row, got in zip(pixels, plan, actual, strict=True):
        np.testing.assert_array_equal(got, numpy_augment(image, *row, cutout))


def test_a_step_trains_and_reports_every_term():
    model = small(cutout=4, method="dah:class_scale=8")
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    step = tf.function(model.train_step)
    x, y = batch()
    first = {k: float(v) for k, v in step((x, y)).items()}
    assert tuple(first) == TERMS and np.isfinite(list(first.values())).all()
    for _ in range(60):
        last = {k: float(v) for k, v in step((x, y)).items()}
    assert last["loss"] < 0.7 * first["loss"] and last["accuracy"] > 0.9


def test_loss_is_its_parts():
    model = small(method="dah:phi1=0.5,phi2=2,balance_weight=3")
    x, y = batch()
    terms = {k: float(v) for k, v in model.terms(y, model(x)).items()}
    # 8 images have 56 ordered pairs, and 8 of them are similar.
    w1 = (8 * terms["w1_similar"] + 48 * terms["w1_dissimilar"]) / 56
    expected = terms["class_loss"] + 0.5 * w1 + 2.0 * terms["w2"] + 3.0 * terms["balance"]
    np.testing.assert_allclose(terms["loss"], expected, rtol=1e-5)


def test_class_loss_against_numpy():
    x, y = batch()
    model = small(method="dah:label_smoothing=0.1,class_scale=8")
    outputs = model(x)
    logits = np.array(outputs["classes"], np.float64)
    kernel, bias = (np.array(w) for w in model.classifier.weights)
    expected_logits = 8.0 * (np.array(outputs["hash"]) - 0.5) @ kernel + bias
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-5)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    truth = np.eye(4)[y] * 0.9 + 0.1 / 4
    expected = -(truth * log_p).sum(axis=-1).mean()
    np.testing.assert_allclose(model.terms(y, outputs)["class_loss"], expected, rtol=1e-5)


def test_multi_label_takes_binary_cross_entropy():
    model = small(multi_label=True)
    x, _ = batch()
    truth = np.random.default_rng(1).integers(0, 2, (2, 8, 4)).astype("uint8")
    outputs = model(x)
    p = 1 / (1 + np.exp(-np.array(outputs["classes"], np.float64)))
    expected = -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()
    np.testing.assert_allclose(model.terms(truth, outputs)["class_loss"], expected, rtol=1e-5)


def test_encode_packs_the_sign_of_the_logits_for_any_count():
    model = small()
    images = np.random.default_rng(0).integers(0, 256, (11, 16, 16, 1), np.uint8)
    logits = np.array(model(images)["logits"])
    expected = np.packbits(logits > 0, axis=1)
    np.testing.assert_array_equal(model.encode(images), expected)
    np.testing.assert_array_equal(model.encode(images, batch_size=4), expected)
    assert model.encode(images[:0]).shape == (0, 2)
    both = (logits + np.array(model(images[:, :, ::-1])["logits"])) / 2
    clear = np.abs(both) > 1e-5
    got = codes.unpack(model.encode(images, mirror=True), 12)
    np.testing.assert_array_equal(got[clear], (both > 0)[clear])
    # A model that was made for mirror images uses them unless `mirror` is False.
    again = HashModel.from_config({**model.get_config(), "mirror": True})
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.encode(images), model.encode(images, mirror=True))
    np.testing.assert_array_equal(again.encode(images, mirror=False), model.encode(images))
    np.testing.assert_allclose(mirrored(model, images)["logits"], both, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_heads_are_float32_under_every_policy(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = small()
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = model(np.zeros((2, 16, 16, 1), np.uint8))
    assert {keras.backend.standardize_dtype(v.dtype) for v in outputs.values()} == {"float32"}
    assert model.backbone.get_layer("stage1_1_conv").compute_dtype == policy.removeprefix("mixed_")
    whole = model.in_float32()
    assert whole.backbone.get_layer("stage1_1_conv").compute_dtype == "float32"
    assert whole.in_float32() is whole and whole.fingerprint() == model.fingerprint()
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), np.uint8)
    right = small()
    right.set_weights(model.get_weights())
    np.testing.assert_array_equal(whole(images)["logits"], right(images)["logits"])


def test_saved_model_reloads_equal(tmp_path):
    model = small(method="dah:t=2,similar_weight=0.2,class_scale=4")
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    for n in (5, 1):
        images = np.random.default_rng(n).integers(0, 256, (n, 16, 16, 1), np.uint8)
        for name, value in model(images).items():
            np.testing.assert_array_equal(value, loaded(images)[name])
    named = set(inspect.signature(HashModel.__init__).parameters) - {"self", "kwargs"}
    assert named <= set(model.get_config())
    x, y = batch()
    ours, theirs = model.terms(y, model(x)), loaded.terms(y, loaded(x))
    for name in TERMS:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_frozen_backbone_stays_as_it_is():
    model = small()
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    model.optimizer.build(model.trainable_variables)
    model.backbone_frozen = True
    before = [np.array(w) for w in model.backbone.weights]
    head = np.array(model.hash_head.dense.kernel)
    tf.function(model.train_step)(batch())
    for a, b in zip(before, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(head - np.array(model.hash_head.dense.kernel)).max() > 1e-3


def test_train_size_shrinks_the_images():
    model = small(image_size=32)
    x, _y = batch(size=32)
    model.train_size = 16
    outputs = model(x)
    assert outputs["hash"].shape == (2, 8, 12)
    pixels = augment(x["images"].reshape(-1, 32, 32, 1), x["augment"].reshape(-1, 5))
    resized = tf.image.resize(tf.cast(pixels, "float32"), (16, 16), antialias=True)
    np.testing.assert_allclose(
        np.array(outputs["logits"]).reshape(-1, 12), model(resized)["logits"], atol=1e-4
    )


def test_the_whole_step_compiles_with_xla():
    model = small(cutout=4)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    model.optimizer.build(model.trainable_variables)
    x, y = batch()
    plain = tf.function(model.train_step)((x, y))
    compiled = tf.function(model.train_step, jit_compile=True)((x, y))
    for name in TERMS:
        np.testing.assert_allclose(plain[name], compiled[name], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name, advice",
    [
        ("fit", r"call dah_tf.train\(recipe, data\)"),
        ("train_on_batch", r"call dah_tf.train\(recipe, data\)"),
        ("evaluate", r"call dah_tf.evaluate\(run\)"),
        ("test_on_batch", r"call dah_tf.evaluate\(run\)"),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_what_keras_would_do_without_groups_names_what_to_call(name, advice, compiled):
    model = HashModel(backbones.get("compact:widths=8/8/8"), bits=12, num_classes=3)
    if compiled:
        model.compile(optimizer="sgd")
    with pytest.raises(UserError, match=advice) as caught:
        getattr(model, name)(np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4), batch_size=2)
    assert "\n" not in str(caught.value)


def test_what_the_advice_names_is_there():
    import dah_tf
    from dah_tf.evaluation import measure

    assert callable(dah_tf.train) and callable(dah_tf.evaluate)
    assert [*inspect.signature(measure.evaluate).parameters][:3] == ["model", "dataset", "protocol"]
