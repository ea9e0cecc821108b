"""DSaH by hand, its mask, and what learns in which step."""

import keras
import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf

from dah_tf import layers
from dah_tf.errors import UserError
from dah_tf.model import methods

PLAIN = "dsah:class_weight=0"
IMAGES = np.random.default_rng(1).integers(0, 256, (12, parts.SIDE, parts.SIDE, 1), np.uint8)


def hand():
    # u = (2, 0), (1, 1), (0, -2) of classes 0, 0, 1. As for DPSH, the pairs cost 0.439890 and the
    # quantisation is (2 + 0 + 2) / 3. One pair of two bits is similar. h of its salient parts: (1, 1), (1, 0):
    # D = 1 / 8. h of its backgrounds: (1, 0), (1, -1/2): D = 1 / 32. 1/8 - 1/32 + 1/4 = 11/32.
    salient = np.arctanh([[[0.999999999, 0.999999999], [0.999999999, 0.0], [0.3, -0.2]]])
    background = np.arctanh([[[0.999999999, 0.0], [0.999999999, -0.5], [-0.1, 0.9]]])
    outputs = {"logits": np.array([[[2.0, 0.0], [1.0, 1.0], [0.0, -2.0]]])}
    for name in ("", "_mask"):
        outputs |= {"salient" + name: salient, "background" + name: background}
    return np.array([[0, 0, 1]]), outputs


def test_by_hand():
    labels, outputs = hand()
    for step in (0, 1):
        method = methods.get(f"{PLAIN},saliency=2,quantisation=0.3")
        terms = method.terms(labels, outputs, {}, tf.constant(step))
        assert [*terms] == ["loss", "pairs", "saliency", "quantisation"]
        expected = [0.439890 + 2 * 11 / 32 + 0.3 * 4 / 3, 0.439890, 11 / 32, 4 / 3]
        np.testing.assert_allclose([*terms.values()], expected, atol=1e-6)
    # A larger distance of the backgrounds leaves nothing to learn.
    outputs["background"] = np.array([[[9.0, 9.0], [-9.0, -9.0], [0.0, 0.0]]])
    terms = methods.get(PLAIN).terms(labels, outputs, {}, tf.constant(0))
    assert float(terms["saliency"]) == 0
    terms = methods.get(f"{PLAIN},margin=0.9").terms(labels, outputs, {}, tf.constant(0))
    assert float(terms["saliency"]) == pytest.approx(1 / 8 - 1 + 0.9, abs=1e-6)


@pytest.mark.parametrize("step", [0, 1])
def test_the_hinge_has_the_gradient_of_the_step(step):
    labels, outputs = hand()
    name = ["salient", "salient_mask"][step]

    def hinge(x):
        changed = outputs | {name: x}
        return methods.get(PLAIN).terms(labels, changed, {}, tf.constant(step))["loss"]

    parts.check_gradient(hinge, np.random.default_rng(0).normal(size=(1, 3, 2)))


def gradients(model, term, step):
    """The gradients of a term with respect to the mask, the bits, and the backbone."""
    x = {"images": IMAGES.reshape(2, 6, *IMAGES.shape[1:]), "augment": np.zeros((2, 6, 5), "int32")}
    labels = tf.constant([[0, 0, 1, 1, 2, 2]] * 2)
    head = model.hash_head
    weights = [head.attention.kernel, head.dense.kernel, model.backbone.trainable_weights[0]]
    weights = [getattr(weight, "value", weight) for weight in weights]
    with tf.GradientTape() as tape:
        value = model.terms(labels, model(x, training=True), tf.constant(step))[term]
    found = tape.gradient(value, weights)
    return [each is not None and np.abs(np.array(each)).max() > 0 for each in found]


def test_the_hinge_reaches_the_mask_in_its_own_step_only():
    model = parts.small("dsah")
    assert gradients(model, "saliency", 0) == [False, True, True]
    assert gradients(model, "saliency", 1) == [True, False, False]
    assert gradients(model, "saliency", 2) == [False, True, True]
    for term in ("pairs", "quantisation", "class_loss"):
        for step in (0, 1):
            assert gradients(model, term, step) == [False, True, True], term


def test_both_gradients_belong_to_one_value():
    model = parts.small("dsah")
    x = {"images": IMAGES[None], "augment": np.zeros((1, 12, 5), "int32")}
    outputs = model(x)
    for name in ("salient", "background"):
        assert outputs[name].shape == (1, 12, parts.BITS)
        np.testing.assert_array_equal(outputs[name], outputs[name + "_mask"])
    assert np.abs(np.array(outputs["salient"] - outputs["background"])).max() > 1e-3
    # Images that are only encoded have no parts.
    assert set(model(IMAGES)) == {"features", "logits", "hash", "classes"}


def test_a_mask_of_one_leaves_no_background():
    model = parts.small("dsah")
    model.hash_head.attention.bias.assign([200.0])
    x = {"images": IMAGES[None], "augment": np.zeros((1, 12, 5), "int32")}
    outputs = model(x)
    np.testing.assert_allclose(outputs["salient"], outputs["logits"], atol=1e-5)
    background = np.array(outputs["background"])
    np.testing.assert_array_equal(background, np.broadcast_to(background[:, :1], background.shape))
    # The codes of whole images do not depend on the mask.
    before = np.array(outputs["logits"])
    model.hash_head.attention.bias.assign([-200.0])
    outputs = model(x)
    np.testing.assert_array_equal(outputs["logits"], before)
    np.testing.assert_allclose(outputs["background"], before, atol=1e-5)


def test_the_head_against_numpy_and_reloaded():
    head = layers.SaliencyHash(4, name="hash_head")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 3)).astype("float32")
    found = rng.normal(size=(5, 4, 2, 3)).astype("float32")
    head(features)
    more = head.more(found, lambda x: tf.reduce_mean(x, axis=(1, 2)))
    kernel, bias, filters, shift = (np.array(weight, float) for weight in head.get_weights())
    pooled = np.stack([found.mean(axis=-1), found.max(axis=-1)], axis=-1)
    padded = np.pad(pooled, [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    mask = 1 / (1 + np.exp(-np.einsum("nhwcij,ijco->nhwo", windows, filters) - shift))
    np.testing.assert_allclose(head.mask(found), mask, rtol=1e-4)
    for name, part in {"salient": mask, "background": 1 - mask}.items():
        expected = (found * part).mean(axis=(1, 2)) @ kernel + bias
        np.testing.assert_allclose(more[name], expected, rtol=1e-3, atol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    again(features)
    again.set_weights(head.get_weights())
    np.testing.assert_array_equal(again(features[:2])[0], head(features[:2])[0])
    np.testing.assert_array_equal(again.mask(found), head.mask(found))


def test_parts_are_made_into_features_by_the_end_of_the_backbone():
    model = parts.small("dsah")
    features, found = model._extra.network(tf.constant(IMAGES))
    np.testing.assert_array_equal(model._extra.pool(found), features)
    # This adds no weight to the model.
    heads = model.hash_head.weights + model.classifier.weights
    assert len(model.weights) == len(model.backbone.weights) + len(heads)


def test_what_is_refused():
    for name in ("saliency", "margin", "quantisation", "class_weight"):
        with pytest.raises(UserError, match=f"method dsah: {name}=-1.0 must be at least 0"):
            methods.get(f"dsah:{name}=-1")
