"""Two replicas train the weights of one; both back ends train alike, and run the command."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from dah_tf.model import HashModel, backbones

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
import keras

devices, policy, output, method = int(sys.argv[1]), *sys.argv[2:]
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from dah_tf import data
from dah_tf.data import feed, image_sources
from dah_tf.model import HashModel, backbones
from dah_tf.training import loop

keras.utils.set_random_seed(0)
keras.config.set_dtype_policy(policy)
strategy = loop.strategy("mirrored" if devices == 2 else "one")
assert strategy.num_replicas_in_sync == devices
rng = np.random.default_rng(0)
labels = np.repeat(np.arange(3), 20).astype("int32")
images = image_sources.ArrayImages(
    (rng.integers(0, 100, (60, 16, 16, 1)) + 60 * labels[:, None, None, None]).astype("uint8")
)
# No cutout: inside a box of one grey every maximum is a tie, which rounding decides.
plan = data.GroupPlan(labels, groups=4, shift=2, image_size=16)
with strategy.scope():
    model = HashModel(
        backbones.get("compact:widths=8/8/8,attention", channels=1), 12, 3,
        image_size=16, method=method,
    )
    optimizer = keras.optimizers.SGD(0.02, momentum=0.9, nesterov=True)
    if policy == "mixed_float16":  # a scale at which no step overflows
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0)
    model.compile(optimizer=optimizer)
    model.optimizer.build(model.trainable_variables)
    model.begin(loop.method_facts(model, plan, 6))
step = loop.compiled_step(model, strategy)
batches = feed.dataset(plan, images, 0, 6)
if devices == 2:
    batches = strategy.experimental_distribute_dataset(batches)
first = {f"f{i:03d}": np.asarray(w) for i, w in enumerate(model.weights)}
terms = [{k: float(v) for k, v in step(batch).items()} for batch in batches]
assert len(terms) == 6
np.savez(
    output, **first,
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


DAH = "dah:balance_weight=1,similar_weight=0.3,class_scale=4"


@pytest.mark.parametrize(
    "policy, tolerance, method",
    [
        ("float32", 2e-5, DAH),
        ("mixed_float16", 5e-2, DAH),
        # The hash layer is normalised, and the method has a state. Its first steps are large, and
        # the normalisation enlarges what they round off.
        ("float32", 1e-3, "orthohash"),
    ],
    ids=["float32", "float16", "orthohash"],
)
def test_two_replicas_equal_one(policy, tolerance, method, tmp_path):
    for devices in (1, 2):
        run(["-c", SCRIPT], devices, policy, tmp_path / f"{devices}.npz", method)
    one, two = np.load(tmp_path / "1.npz"), np.load(tmp_path / "2.npz")
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=tolerance)
    moved = 0.0
    for name in one.files:
        scale = np.abs(one[name]).max() + 1e-3
        np.testing.assert_allclose(one[name] / scale, two[name] / scale, atol=tolerance)
        if name[0] == "w":
            moved = max(moved, np.abs(one[name] - one[f"f{name[1:]}"]).max())
    assert moved > 0.01


RUN = """
import sys, types
import keras
import numpy as np
from dah_tf import data
from dah_tf.data import image_sources
from dah_tf.model import HashModel, backbones
from dah_tf.training import checkpoint, loop, optimizers

start, output, workdir = sys.argv[1:]
rng = np.random.default_rng(0)
labels = np.repeat(np.arange(3), 20).astype("int32")
pixels = rng.integers(0, 100, (60, 16, 16, 1)) + 60 * labels[:, None, None, None]
plan = data.GroupPlan(labels, groups=4, shift=2, flip="random", image_size=16)
ours = HashModel(
    backbones.get("compact:widths=8/8/8,attention", channels=1), 12, 3, image_size=16,
    method="dah:balance_weight=1,similar_weight=0.3,class_scale=4",
)
given = np.load(start)
ours.set_weights([given[name] for name in given.files])
ours.compile(optimizer=optimizers.get("sgd:momentum=0.5,weight_decay=0.1", 0.02))
ours.optimizer.build(ours.trainable_variables)
rows = []
log = types.SimpleNamespace(
    scalars=lambda step, values, time: rows.append(values),
    tensorboard=lambda *_: None, flush=lambda fsync: None,
)
progress = types.SimpleNamespace(
    update=lambda *_: None, close=lambda: None, message=print, images_per_second=1, eta_seconds=1
)
settings = loop.Settings(workdir, 9, [(12, 0), (16, 5)], frozen_steps=2, checkpoint_steps=4)
run = loop.Run(
    ours, plan, image_sources.ArrayImages(pixels.astype("uint8")), settings, log=lambda _: log,
    progress=lambda _: progress, strategy=loop.strategy("one"),
)
frozen = [np.array(v) for v in ours.backbone.trainable_variables]
save = run.save
def saved():
    save()
    assert int(ours.optimizer.iterations) == run.step
run.save = saved
traced, train_step = [], ours.train_step
def counted(*arguments):
    traced.append(ours.train_size)
    return train_step(*arguments)
ours.train_step = counted
after = run.after
def seen(terms):
    after(terms)
    if run.step == 2:
        run.flush()
        for variable, value in zip(ours.backbone.trainable_variables, frozen):
            np.testing.assert_array_equal(np.array(variable), value)
run.after = seen
run.fit()
if keras.backend.backend() == "jax":  # once for each size and for the frozen steps
    assert traced == [12, 12, 16], traced
meta, arrays = checkpoint.read(run.folder)[1:]
assert meta["step"] == 9
last = dict(zip(meta["names"], arrays))
np.savez(
    output, names=[*rows[0]], terms=np.array([[*row.values()] for row in rows]),
    **{f"w{i:03d}": np.array(w) for i, w in enumerate(ours.weights)},
    **{f"c{i:03d}": a for i, a in enumerate(arrays[:len(ours.variables)])},
)
"""


def test_jax_and_tensorflow_train_alike(tmp_path):
    """Frozen steps, two image sizes, weight decay, checkpoints on the way."""
    pytest.importorskip("jax", reason="JAX is not installed")
    keras.utils.set_random_seed(0)
    backbone = backbones.get("compact:widths=8/8/8,attention", channels=1)
    start = HashModel(backbone, 12, 3, image_size=16).get_weights()
    np.savez(tmp_path / "start.npz", *start)
    results = []
    for backend in ("tensorflow", "jax"):
        output = tmp_path / f"{backend}.npz"
        run(["-c", RUN], tmp_path / "start.npz", output, tmp_path / backend, KERAS_BACKEND=backend)
        results.append(np.load(output))
    ours, theirs = results
    assert ours["terms"].shape == (9, 7)
    assert ours["names"].tolist() == theirs["names"].tolist() and ours["names"][0] == "loss"
    np.testing.assert_allclose(ours["terms"], theirs["terms"], rtol=2e-3, atol=2e-4)
    moved = 0.0
    first = np.load(tmp_path / "start.npz")
    for name in ours.files[2:]:
        if name[0] == "w":
            moved = max(moved, np.abs(first[f"arr_{int(name[1:])}"] - ours[name]).max())
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=2e-4, err_msg=name)
    assert moved > 0.01


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
