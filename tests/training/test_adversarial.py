"""The loop with three optimisers: its losses, what learns from which, and that it resumes."""

import pathlib
import types

import keras
import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf
from training_runs import train

from dah_tf.errors import UserError
from dah_tf.model import methods
from dah_tf.training import adversarial, checkpoint

LABELS = np.repeat(np.arange(3), 8).astype("int32")
IMAGES = np.random.default_rng(0).integers(0, 255, (24, 8, 8, 1)).astype("uint8")


@pytest.fixture
def run(monkeypatch):
    """The run that `train` makes, which notes itself when it is made."""
    made, begin = [], adversarial.Adversarial.__init__

    def noting(self, *args, **more):
        made.append(self)
        begin(self, *args, **more)

    monkeypatch.setattr(adversarial.Adversarial, "__init__", noting)
    return made


def trained(folder, steps, spec="bgan", **more):
    keras.utils.clear_session()  # names of layers without one start anew, as in a new process
    return train(parts.small(spec), LABELS, IMAGES, pathlib.Path(folder), steps, **more)


@pytest.mark.parametrize("size, channels", [(8, 1), (13, 3)])
def test_the_networks_have_the_images_size(size, channels):
    codes = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    images = adversarial.generator(6, size, channels)(codes)
    assert images.shape == (5, size, size, channels)
    assert np.abs(images).max() <= 1 and np.std(images) > 0
    odds, layer = adversarial.discriminator(size, channels)(images)
    assert odds.shape == (5, 1) and layer.shape == (5, -(-size // 8), -(-size // 8), 128)


def test_the_losses_against_numpy(tmp_path, run):
    trained(tmp_path, 0)
    (it,) = run
    rng = np.random.default_rng(1)
    outputs = {"logits": rng.normal(size=(2, 3, 6)), "features": rng.normal(size=(2, 3, 8))}
    outputs = {name: value.astype("float32") for name, value in outputs.items()}
    pixels = rng.uniform(-1, 1, (6, 8, 8, 1)).astype("float32")
    found = [float(each) for each in it._losses(pixels, outputs, tf.constant(4))]
    h = np.tanh(outputs["logits"].reshape(6, 6))  # beta is 2
    noise, z = tf.random.stateless_normal((2, 6, 6), (it.plan.seed, 4)).numpy()
    kernel, bias = it.spread.get_weights()
    v = outputs["features"].reshape(6, 8) @ kernel + bias
    again = it.generator(h + noise * np.exp(v / 2))
    real, layer = (np.array(each, float) for each in it.discriminator(pixels))
    other = np.array(it.discriminator(again)[1], float)
    fake = np.array(it.discriminator(it.generator(z))[0], float)
    probability = 1 / (1 + np.exp(-fake))
    expected = [
        np.square(layer - other).sum(axis=(1, 2, 3)).mean() / (64 * 64 * 3),
        -np.log(probability).mean(),
        np.log1p(np.exp(-real)).mean() - np.log(1 - probability).mean(),
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    # The noise is another in each step.
    assert float(it._losses(pixels, outputs, tf.constant(5))[0]) != found[0]


@pytest.mark.slow
def test_each_network_learns_from_its_own_loss(tmp_path, run):
    """A step of the generator and of the discriminator leaves the encoder alone."""
    one, log = trained(tmp_path / "slow", 3, "bgan:rate=1e-12")
    other, again = trained(tmp_path / "fast", 3, "bgan:rate=0.1")
    assert [*log[0]][-3:] == ["content", "generator_loss", "discriminator_loss"]
    # Both encoders are the same before their first and their second step.
    for name in ("loss", "pairs", "quantisation", "probe_loss"):
        assert log[0][name] == again[0][name] and log[1][name] == again[1][name] != log[0][name]
    assert log[0]["content"] == again[0]["content"] and log[1]["content"] != again[1]["content"]
    # The content reaches the encoder: with other networks, its second step is another.
    assert log[2]["loss"] != again[2]["loss"] and one.fingerprint() != other.fingerprint()
    slow, fast = run
    for network in ("generator", "discriminator", "spread"):
        pairs = [getattr(each, network).get_weights() for each in (slow, fast)]
        moved = [np.abs(a - b).max() for a, b in zip(*pairs, strict=True)]
        assert min(moved) > 1e-7, (network, moved)


@pytest.mark.slow
def test_a_run_that_resumes_is_the_whole_run_bit_for_bit(tmp_path, run):
    whole, log = trained(tmp_path / "whole", 5)
    _, first = trained(tmp_path / "parts", 5, stop=3)
    resumed, second = trained(tmp_path / "parts", 5)
    assert log == first + second and len(first) == 3
    assert whole.fingerprint() == resumed.fingerprint()
    for ours, theirs in zip(run[0].variables, run[2].variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)
    # beta grew within the run.
    assert [row["beta"] for row in log] == [2, 5, 10, 15, 20]
    # The other networks are in checkpoints and not in the model.
    assert len(resumed.weights) == len(parts.small("dsh").weights)
    _, meta, _ = checkpoint.read(tmp_path / "parts" / "checkpoints")
    names = [name for name in meta["names"] if name.startswith(f"{methods.STATE}/")]
    assert len(names) == len(meta["names"]) - len(resumed.variables + resumed.optimizer.variables)
    for part in ("generator_conv1", "discriminator_dense", "spread", "generator_adam"):
        assert any(part in name.split("/") for name in names), part
    # The model alone can be had of it, as `evaluate` has it.
    keras.utils.clear_session()
    other = parts.small("bgan")
    other.compile(optimizer=keras.optimizers.SGD(0.02, momentum=0.9, name="sgd"))
    other.optimizer.build(other.trainable_variables)
    variables = [*other.variables, *other.optimizer.variables]
    restored = checkpoint.restore(
        tmp_path / "parts" / "checkpoints", variables, {}, without=methods.STATE
    )
    assert restored == 5 and other.fingerprint() == resumed.fingerprint()


def test_the_pixels_are_those_that_the_encoder_sees(tmp_path, run):
    model, _ = trained(tmp_path, 0)
    x = {"images": IMAGES[:6].reshape(2, 3, 8, 8, 1), "augment": np.zeros((2, 3, 5), "int32")}
    x["augment"][1, 2, 0] = 1  # a flip
    expected = IMAGES[:6].astype("float32") / 127.5 - 1
    expected[5] = expected[5, :, ::-1]
    np.testing.assert_allclose(run[0]._pixels(x), expected, atol=1e-6)
    # If a part of the run trains on smaller images, they are enlarged.
    model.train_size = 4
    small = np.array(run[0]._pixels(x))
    assert small.shape == expected.shape and 0 < np.std(small) < np.std(expected)


def test_another_back_end_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    model = types.SimpleNamespace(method=methods.get("bgan"))
    with pytest.raises(UserError, match="method=bgan needs KERAS_BACKEND=tensorflow"):
        adversarial.Adversarial(model, None, None, None)
