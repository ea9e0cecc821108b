"""IAH by hand, the regions of its head, and mosaics of images."""

import keras
import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf
from training_runs import train

from dah_tf import layers, losses, metrics
from dah_tf.errors import UserError
from dah_tf.model import HashModel, methods


def test_by_hand():
    # As for NINH: F = 00, F+ = 01, F- = 11 with the labels 0, 0, 1 cost 1/2. Log-odds ln 3 and 0:
    # an image of class 0 costs -ln 3/4 - ln 1/2 = 0.287682 + 0.693147, of class 1 -ln 1/4 - ln 1/2.
    # Halves of 0.980829, 0.980829, 2.079442; mean 0.673517. 0.5 + 2 * 0.673517 = 1.847033.
    outputs = {
        "hash": np.array([[[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]),
        "regions": np.tile([np.log(3), 0.0], (1, 3, 1)),
    }
    method = methods.get("iah:region_weight=2")
    for labels in (np.array([[0, 0, 1]]), np.array([[[1, 0], [1, 0], [0, 1]]])):
        terms = method.terms(labels, outputs, {}, 0)
        assert [*terms] == ["loss", "triplets", "region_loss"]
        np.testing.assert_allclose([*terms.values()], [1.847033, 0.5, 0.673517], atol=1e-6)
    # An image with both labels is similar to both others, and only they have a triplet with it.
    terms = method.terms(np.array([[[1, 1], [1, 0], [0, 1]]]), outputs, {}, 0)
    # F+ as the query: to F 1, to F- 1, 1 - 1 + 1. F- as the query: to F 2, to F+ 1, 2 - 1 + 1.
    assert float(terms["triplets"]) == 1.5


def test_the_gradient_is_that_of_both_parts():
    """That of the triplets is NINH's; that of the regions is exact."""
    logits, labels = parts.logits_of("iah"), parts.labels_of("iah")
    values, regions = 0.5 * (1 + np.tanh(logits)), np.random.default_rng(0).normal(size=(2, 6, 3))

    def loss(values, regions):
        outputs = {"hash": values, "regions": regions}
        return methods.get("iah:region_weight=0.5").terms(labels, outputs, {}, 0)["loss"]

    parts.check_gradient(lambda x: loss(values, x), regions)
    _, found = parts.gradient(lambda x: loss(x, regions), values)
    rounded = layers.thresholded(values, 0.1)
    similar = losses.similarity(labels)
    _, expected = parts.gradient(lambda x: losses.triplet_hinge(x, similar, 1.0), rounded)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def built(bits=4, classes=3, channels=5, side=4):
    head = layers.RegionHash(bits, classes, width=2, name="hash_head")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, channels)), np.abs(rng.normal(size=(7, side, side, channels)))
    x = tuple(each.astype("float32") for each in x)
    head(x)
    for weight in head.weights:
        weight.assign(rng.normal(size=weight.shape))
    return head, x


@pytest.mark.parametrize("side", [1, 3, 4])
def test_the_head_against_numpy(side):
    head, x = built(side=side)
    slices, shift, dense, bias, kernel, offset = (np.array(w, float) for w in head.get_weights())
    logits, values = head(x)
    features, scores = (np.array(each) for each in head.regions(x[1]))
    for n, found in enumerate(x[1].astype(float) / np.sqrt(5)):
        regions = [found[i, j] for i in range(side) for j in range(side)]
        for i in range(0, side - 1, 2):
            regions += [found[i : i + 2, j : j + 2].max(axis=(0, 1)) for j in range(0, side - 1, 2)]
        np.testing.assert_allclose(features[n], regions, rtol=1e-4)
        odds = 8 * np.array(regions) @ kernel + offset
        np.testing.assert_allclose(scores[n], odds, rtol=1e-3, atol=1e-4)
        z = (1 / (1 + np.exp(-odds)))[:, :, None] * np.array(regions)[:, None]
        hidden = np.maximum(z.max(axis=0).ravel() @ dense + bias, 0).reshape(4, 2)
        expected = (hidden * slices).sum(axis=1) + shift
        np.testing.assert_allclose(logits[n], expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(
            head.more(x[1], None)["regions"][n], odds.max(axis=0), rtol=1e-3, atol=1e-4
        )
    np.testing.assert_allclose(values, (1 + np.tanh(logits)) / 2, rtol=1e-4, atol=1e-6)


def test_the_order_of_regions_does_not_matter():
    """Blocks of 2x2 positions change places, and so do the positions of each block."""
    head, (features, found) = built()
    back = found.reshape(7, 2, 2, 2, 2, 5)[:, ::-1, :, :, ::-1].reshape(found.shape)
    expected = np.array(head((features, found))[0])
    np.testing.assert_allclose(head((features, back))[0], expected, rtol=1e-4, atol=1e-5)
    # If rows of different blocks change places, the regions of the second scale are others.
    moved = found[:, [0, 2, 1, 3]]
    assert np.abs(np.array(head((features, moved))[0]) - expected).max() > 1e-3


def test_a_class_that_no_region_shows_has_no_features():
    head, (_, found) = built()
    kernel, offset = head.scores.get_weights()
    kernel[:, 1], offset[1] = 0.0, -200.0
    head.scores.set_weights([kernel, offset])
    groups = np.array(head.groups(found))
    assert groups.shape == (7, 3, 5) and not groups[:, 1].any() and groups[:, [0, 2]].all()
    # With a probability of 1 everywhere, the group holds the largest value of each channel.
    head.scores.set_weights([kernel, np.abs(offset)])
    largest = found.max(axis=(1, 2)) / np.sqrt(5)
    np.testing.assert_allclose(np.array(head.groups(found))[:, 1], largest, rtol=1e-5)


def test_a_reloaded_head():
    head, x = built()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    again([each[:2] for each in x])
    again.set_weights(head.get_weights())
    np.testing.assert_array_equal(again([each[:2] for each in x])[0], head([e[:2] for e in x])[0])
    assert head.compute_output_shape([(7, 5), (7, 4, 4, 5)]) == ((7, 4), (7, 4))
    # A model tells its head the number of classes.
    assert parts.small("iah").hash_head.classes == parts.CLASSES


# === Mosaics of 2 x 2 images ===
CLASSES, BITS, TILE = 9, 16, 8


def mosaics(count, seed):
    """Images of four tiles, the classes of the tiles, and the rows of labels."""
    rng = np.random.default_rng(seed)
    plain = np.random.default_rng(0).uniform(30, 225, (CLASSES, 4, 4)).repeat(2, 1).repeat(2, 2)
    tiles = rng.integers(0, CLASSES, (count, 2, 2))
    images = plain[tiles].transpose(0, 1, 3, 2, 4).reshape(count, 2 * TILE, 2 * TILE, 1)
    images = np.clip(images + rng.normal(scale=15, size=images.shape), 0, 255).astype("uint8")
    labels = (tiles.reshape(count, 4, 1) == np.arange(CLASSES)).any(axis=1).astype("uint8")
    return images, tiles, labels


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 1))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = keras.layers.Conv2D(32, 8, strides=4, padding="same", activation="gelu")(x)
    backbone = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(x))
    return HashModel(
        backbone, BITS, CLASSES, image_size=2 * TILE, multi_label=True, method="iah:region_weight=5"
    )


@pytest.mark.slow
def test_mosaics(tmp_path):
    (images, _, labels), (queries, tiles, wanted) = mosaics(300, 1), mosaics(60, 2)
    model, log = train(network(), labels, images, tmp_path, 150)
    assert log[-1]["region_loss"] < 0.75 * log[0]["region_loss"]
    head, maps = model.hash_head, model._extra.network(tf.constant(queries))[1]
    side = maps.shape[1]
    scores = np.array(head.regions(maps)[1])[:, : side * side].reshape(-1, side, side, CLASSES)
    right = []
    for n, c in zip(*np.nonzero(wanted), strict=True):
        row, column = np.unravel_index(scores[n, :, :, c].argmax(), (side, side))
        right.append(tiles[n, 2 * row // side, 2 * column // side] == c)

    def score(model):
        codes = model.encode(queries), wanted, model.encode(images), labels, BITS
        return metrics.mean_average_precision(*metrics.histograms(*codes)).expected

    assert np.mean(right) > 0.7  # by chance it would be about 0.35
    assert score(model) > score(network()) + 0.03


@pytest.mark.parametrize(
    "spec, words",
    [
        ("iah:width=0", "method iah: width=0 must be above 0"),
        ("iah:margin=0", "method iah: margin=0.0 must be above 0"),
        ("iah:band=0.6", "method iah: band=0.6 must lie from 0 to 0.5"),
        ("iah:region_weight=-1", "method iah: region_weight=-1.0 must be at least 0"),
    ],
)
def test_what_is_refused(spec, words):
    with pytest.raises(UserError, match=words):
        methods.get(spec)
    with pytest.raises(ValueError, match="`classes` must be at least 1. Received: classes=0"):
        layers.RegionHash(4, 0)
