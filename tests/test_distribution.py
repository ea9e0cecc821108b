"""Two replicas train the weights of one; both back ends run the command."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
import keras

devices, policy, output = int(sys.argv[1]), sys.argv[2], sys.argv[3]
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from dah_tf import backbones, data, training
from dah_tf.data import feed, sources
from dah_tf.model import HashModel

keras.utils.set_random_seed(0)
keras.config.set_dtype_policy(policy)
strategy = training.strategy("mirrored" if devices == 2 else "one")
assert strategy.num_replicas_in_sync == devices
rng = np.random.default_rng(0)
labels = np.repeat(np.arange(3), 20).astype("int32")
images = sources.ArrayImages(
    (rng.integers(0, 100, (60, 16, 16, 1)) + 60 * labels[:, None, None, None]).astype("uint8")
)
# No cutout: inside a box of one grey every maximum is a tie, which rounding decides.
plan = data.GroupPlan(labels, groups=4, shift=2, image_size=16)
with strategy.scope():
    model = HashModel(
        backbones.compact(channels=1, attention=True, widths=(8, 8, 8)), 12, 3,
        image_size=16, balance_weight=1.0, similar_weight=0.3, class_scale=4.0,
    )
    optimizer = keras.optimizers.SGD(0.02, momentum=0.9, nesterov=True)
    if policy == "mixed_float16":  # a scale at which no step overflows
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0)
    model.compile(optimizer=optimizer)
    model.optimizer.build(model.trainable_variables)
step = training.compiled_step(model, strategy)
batches = feed.dataset(plan, images, 0, 6)
if devices == 2:
    batches = strategy.experimental_distribute_dataset(batches)
terms = [{k: float(v) for k, v in step(batch).items()} for batch in batches]
assert len(terms) == 6
np.savez(
    output,
    loss=[t["loss"] for t in terms],
    **{f"w{i:03d}": np.asarray(w) for i, w in enumerate(model.weights)},
)
"""


def run(script, *arguments, **environment):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    done = subprocess.run(
        [sys.executable, *script, *map(str, arguments)],
        check=False,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    "policy, tolerance", [("float32", 2e-5), ("mixed_float16", 5e-2)], ids=["float32", "float16"]
)
def test_two_replicas_equal_one(policy, tolerance, tmp_path):
    for devices in (1, 2):
        run(["-c", SCRIPT], devices, policy, tmp_path / f"{devices}.npz")
    one, two = np.load(tmp_path / "1.npz"), np.load(tmp_path / "2.npz")
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=tolerance)
    moved = 0.0
    for name in one.files:
        scale = np.abs(one[name]).max() + 1e-3
        np.testing.assert_allclose(one[name] / scale, two[name] / scale, atol=tolerance)
        moved = max(moved, np.abs(one[name]).max())
    assert moved > 0


def test_the_command_trains_under_jax(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    workdir = tmp_path / "jax"
    flags = (
        "--dataset=digits --backbone=compact --noattention --bits=12 --groups=2 "
        "--validation=50 --checkpoint_steps=5 --precision=float32 --validate_epochs=0.1"
    )
    command = ["-m", "dah_tf.train", *flags.split(), f"--workdir={workdir}"]
    out = run(command, "--epochs=0.3", KERAS_BACKEND="jax")
    assert "jax" in out and "MAP" in out
    assert (workdir / "model.keras").exists()
    # The file trained under JAX is evaluated under TensorFlow.
    out = run(["-m", "dah_tf.evaluate", f"--workdir={workdir}"], KERAS_BACKEND="tensorflow")
    assert "MAP" in out
