"""DRSCH, a reconstruction: by hand, with its bit weights, and shortened."""

import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf

from dah_tf import codes, layers
from dah_tf.errors import UserError
from dah_tf.model import methods
from dah_tf.model.methods.drsch import shortened

VALUES = np.array([[[0.0, 0.0], [0.5, 0.0], [0.0, 1.0]]])
LABELS = np.array([[0, 0, 1]])


def terms(values, labels, spec="drsch", weights=None):
    outputs = {"hash": tf.convert_to_tensor(values)}
    if weights is not None:
        outputs["bit_weights"] = tf.broadcast_to(tf.constant(weights), values.shape)
    return methods.get(spec).terms(np.asarray(labels), outputs, {}, 0)


def test_by_hand():
    # D_01 = 1/4, D_02 = 1, D_12 = 5/4. With the margin 2, triplets (0, 1, 2): 0.25 - 1 + 2 = 1.25,
    # and (1, 0, 2): 0.25 - 1.25 + 2 = 1; mean 1.125. Similar pairs: 2 of 6 ordered ones, 1/12.
    found = terms(VALUES, LABELS, "drsch:margin=2,laplacian=0.6")
    assert [*found] == ["loss", "triplets", "pairs"]
    np.testing.assert_allclose([*found.values()], [1.125 + 0.05, 1.125, 1 / 12], rtol=1e-9)
    # With weights 2 and 1/2: D_01 = 1, D_02 = 1/4, D_12 = 5/4. Triplets: 1 - 0.25 + 2 = 2.75, and
    # 1 - 1.25 + 2 = 1.75; mean 2.25. Pairs: 1/3.
    found = terms(VALUES, LABELS, "drsch:margin=2,laplacian=0.6", [2.0, 0.5])
    np.testing.assert_allclose([*found.values()], [2.25 + 0.2, 2.25, 1 / 3], rtol=1e-9)


def test_the_margin_is_a_quarter_of_the_bits():
    values = np.zeros((1, 3, 12))
    for different in range(6):
        values[0, 2, :different] = 1.0
        found = float(terms(values, LABELS)["triplets"])
        assert found == max(0, 3 - different)


def test_what_is_separated_is_left_alone():
    values, labels = np.zeros((1, 4, 8)), [[0, 0, 1, 1]]
    for different, moves in ((1, True), (3, False)):
        values[0, 2:, :different] = 0.9
        x = tf.constant(values)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = terms(x, labels, "drsch:laplacian=0")["loss"]
        assert (np.abs(tape.gradient(loss, x)).max() > 0) == moves


def test_the_order_of_bits_does_not_matter():
    rng = np.random.default_rng(0)
    values, weights, order = rng.random((1, 6, 5)), rng.random(5), rng.permutation(5)
    labels = [[0, 0, 1, 1, 2, 2]]
    one = terms(values, labels, weights=weights)
    other = terms(values[:, :, order], labels, weights=weights[order])
    np.testing.assert_allclose([*one.values()], [*other.values()], rtol=1e-9)
    plain = terms(values[:, :, order], labels, weights=weights)
    assert abs(float(one["loss"]) - float(plain["loss"])) > 1e-3


def test_dsch_has_no_weights():
    head = methods.get("drsch:weighted=false,laplacian=0").head(parts.BITS)
    assert type(head) is layers.HashHead
    model, log = parts.trained("drsch:weighted=false,laplacian=0")
    assert not hasattr(model.hash_head, "bit_weights") and log[-1]["loss"] == log[-1]["triplets"]


def test_codes_and_their_distances_do_not_know_the_weights():
    model, _ = parts.once_trained("drsch")
    images = np.random.default_rng(0).integers(0, 256, (9, parts.SIDE, parts.SIDE, 1), np.uint8)
    weights, before = np.array(model.hash_head.bit_weights), model.encode(images)
    found = model.outputs(images)
    assert np.abs(weights - 1).max() > 0 and "bit_weights" not in found
    model.hash_head.bit_weights.assign([0, -5, 1, 1, 1, 1])
    np.testing.assert_array_equal(model.encode(images), before)
    model.hash_head.bit_weights.assign(weights)


def test_the_weights_are_trained_by_the_loss():
    model, _ = parts.once_trained("drsch")
    batch = {
        "images": np.random.default_rng(0).integers(0, 256, (1, 4, 8, 8, 1), np.uint8),
        "augment": np.zeros((1, 4, 5), "int32"),
    }
    outputs = model(batch, training=True)
    weights = np.array(model.hash_head.bit_weights)
    np.testing.assert_array_equal(outputs["bit_weights"], np.tile(weights, (1, 4, 1)))
    # They count as in the function of values and weights above.
    found = float(model.terms(np.array([[0, 0, 1, 1]]), outputs)["loss"])
    expected = terms(np.array(outputs["hash"]), [[0, 0, 1, 1]], weights=weights)
    assert found == pytest.approx(float(expected["loss"]), rel=1e-6)


def test_the_smallest_weights_are_dropped():
    head = layers.WeightedHash(5)
    head.build((None, 3))
    head.bit_weights.assign([0.5, -3.0, 1.0, 0.0, 1.0])
    assert head.heaviest(5).tolist() == [0, 1, 2, 3, 4]
    assert head.heaviest(3).tolist() == [1, 2, 4]
    # Of equal weights, the first one stays.
    assert head.heaviest(2).tolist() == [1, 2]
    assert head.heaviest(1).tolist() == [1]
    for count in (0, 6):
        with pytest.raises(ValueError, match=f"count={count}"):
            head.heaviest(count)


def test_a_shortened_model_has_the_codes_of_the_bits_that_stay(tmp_path):
    import keras

    model = parts.small("drsch")
    model.hash_head.bit_weights.assign([0.1, 2.0, -1.5, 0.2, 0.3, 1.0])
    shorter = shortened(model, 3)
    images = np.random.default_rng(0).integers(0, 256, (9, parts.SIDE, parts.SIDE, 1), np.uint8)
    full, short = model.outputs(images), shorter.outputs(images)
    np.testing.assert_allclose(short["logits"], full["logits"][:, [1, 2, 5]], atol=1e-5)
    bits = codes.unpack(model.encode(images), parts.BITS)[:, [1, 2, 5]]
    np.testing.assert_array_equal(codes.unpack(shorter.encode(images), 3), bits)
    np.testing.assert_allclose(shorter.hash_head.bit_weights, [2.0, -1.5, 1.0])
    # The class layer loses the part of the other bits.
    kernel, bias = model.classifier.get_weights()
    seen = np.array(model.method.seen(None, full["hash"]))[:, [1, 2, 5]]
    expected = seen @ kernel[[1, 2, 5]] + bias
    np.testing.assert_allclose(short["classes"], expected, atol=1e-4)
    shorter.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    assert again.fingerprint() == shorter.fingerprint()


def test_what_cannot_be_shortened_is_one_line():
    with pytest.raises(UserError, match="method dsh has no weights by which to choose bits"):
        shortened(parts.small("dsh"), 3)
    for bits in (0, 7):
        with pytest.raises(UserError, match=f"bits={bits} must lie from 1 to 6"):
            shortened(parts.small("drsch"), bits)


def test_what_is_refused():
    with pytest.raises(UserError, match="method drsch: laplacian=-1.0 must be at least 0"):
        methods.get("drsch:laplacian=-1")
