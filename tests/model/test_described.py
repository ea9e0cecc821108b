"""Backbones with hand-made features, compared to those of `baselines.features`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dah_tf.baselines import features
from dah_tf.errors import UserError
from dah_tf.model import backbones

LENGTHS = {"gist": 512, "hog": 324, "pixels": 3072}


def images(side, channels=3, count=5):
    rng = np.random.default_rng(side)
    smooth = rng.normal(size=(count, side, side, channels)).cumsum(axis=1).cumsum(axis=2)
    low, high = smooth.min(axis=(1, 2, 3), keepdims=True), smooth.max(axis=(1, 2, 3), keepdims=True)
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize(("side", "channels"), [(32, 3), (33, 1), (16, 3)])
def test_values_are_those_of_numpy(name, side, channels):
    x = images(side, channels)
    x[2] = 77  # a constant image
    backbone = backbones.get(f"{name}:size={side}", channels=channels)
    found = tf.function(backbone)(x)
    np.testing.assert_allclose(found, features.extract(name, x), atol=1e-5)


@pytest.mark.parametrize("name", LENGTHS)
def test_a_saved_backbone_gives_the_same(name, tmp_path):
    backbone = backbones.get(name)
    assert backbone.output_shape == (None, LENGTHS[name])
    assert not backbone.weights and backbones.facts(name).fixed
    backbone.save(tmp_path / "x.keras")
    again = keras.saving.load_model(tmp_path / "x.keras")
    x = images(32)
    assert np.array_equal(again(x), backbone(x))
    assert np.array_equal(backbone(x[:2]), backbone(x)[:2]) or np.allclose(
        backbone(x[:2]), backbone(x)[:2], atol=1e-6
    )


def test_options_of_hog():
    x = images(32)
    found = backbones.get("hog:cell=4,orientations=6,block=3")(x)
    numpy = features.extract("hog:cell=4,orientations=6,block=3", x)
    np.testing.assert_allclose(found, numpy, atol=1e-5)
    with pytest.raises(UserError, match="size at least cell"):
        backbones.get("hog:cell=20")


def test_images_of_another_side_are_resized():
    x = images(48)
    small = np.asarray(keras.ops.image.resize(x.astype("float32"), (32, 32), antialias=True))
    for name in LENGTHS:
        backbone = backbones.get(name)
        np.testing.assert_allclose(backbone(x), backbone(small), atol=1e-5)
