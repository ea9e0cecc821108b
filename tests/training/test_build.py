"""From flags to networks: images of the right size, and weights that can be downloaded."""

import keras
import pytest
import tensorflow as tf

from dah_tf.errors import UserError
from dah_tf.model import backbones
from dah_tf.training import build


@pytest.mark.parametrize("size, fits", [(9, True), (8, False)])
def test_images_that_would_shrink_to_nothing(size, fits):
    backbone = backbones.get("compact:widths=8/8/8", channels=1)
    if fits:
        build.check_size(backbone, size)
        backbone(tf.zeros((1, size, size, 1)))
        return
    with pytest.raises(UserError, match="compact cannot take images of 8 pixels"):
        build.check_size(backbone, size)
    with pytest.raises((ValueError, tf.errors.OpError)):
        backbone(tf.zeros((1, size, size, 1)))


def test_a_network_that_takes_no_image_is_a_bug():
    @keras.saving.register_keras_serializable("tests")
    class Broken(keras.layers.Layer):
        def call(self, x):
            if x.shape[1] is not None:
                raise ValueError("a bug")
            return x

    inputs = keras.Input((None, None, 1))
    backbone = keras.Model(inputs, Broken()(inputs))
    with pytest.raises(ValueError, match="a bug") as caught:
        build.check_size(backbone, 32)
    assert not isinstance(caught.value, UserError)


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def offline(*_, **__):
        raise Exception("URL fetch failure on https://there")  # noqa: TRY002 - Keras raises this

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    with pytest.raises(UserError, match="ImageNet weights of ResNet50 .*URL fetch failure"):
        backbones.get("resnet50", weights="imagenet")
