"""What flags stand for: networks that fit their images, weights that are there, averages."""

import types

import keras
import pytest
import tensorflow as tf

from dah_tf import assembly, backbones, optimizers
from dah_tf.errors import UserError


@pytest.mark.parametrize("size, fits", [(9, True), (8, False)])
def test_images_that_would_shrink_to_nothing(size, fits):
    backbone = backbones.compact(channels=1, widths=(8, 8, 8))
    if fits:
        assembly.check_size(backbone, size)
        backbone(tf.zeros((1, size, size, 1)))
        return
    with pytest.raises(UserError, match="compact cannot take images of 8 pixels"):
        assembly.check_size(backbone, size)
    with pytest.raises((ValueError, tf.errors.OpError)):
        backbone(tf.zeros((1, size, size, 1)))


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def offline(*_, **__):
        raise Exception("URL fetch failure on https://there")  # noqa: TRY002 - as Keras does

    monkeypatch.setattr(backbones, "get", offline)
    options = types.SimpleNamespace(
        backbone="resnet50", backbone_weights="imagenet", attention=False, widths=None
    )
    with pytest.raises(UserError, match="--backbone_weights=imagenet: URL fetch failure"):
        assembly.build_model(options, num_classes=3, channels=3, image_size=32)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_average_is_taken_whatever_the_precision(policy):
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(2, dtype=policy)
    model = keras.Model(inputs, dense(inputs))
    model.dtype_policy = policy
    model.compile(optimizer=optimizers.get("sgd", 0.1, ema=0.5))
    assert hasattr(model.optimizer, "inner_optimizer") == (policy == "mixed_float16")
    model.optimizer.build(model.trainable_variables)
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    kernel = dense.kernel
    first = kernel.numpy()
    inner.apply([tf.ones_like(v) for v in model.trainable_variables])
    inner.apply([tf.ones_like(v) for v in model.trainable_variables])
    last = kernel.numpy()
    optimizers.take_average(model)
    assert abs(kernel.numpy() - last).max() > 1e-3
    assert (kernel.numpy() >= last - 1e-6).all() and (kernel.numpy() <= first + 1e-6).all()
