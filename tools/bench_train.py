"""How much of the training step is the network: ratios measured in one run.

    python tools/bench_train.py [--backbone=compact] [--pairs=7] [--groups=25]
    python tools/bench_train.py --profile [--noattention] [--image_size=32] [--optimizer=muon]
    python tools/bench_train.py --loops [--backbone=resnet30]

Interleaves, in pairs, the whole step as `dah_tf.train` runs it (plan, feeding, augmentation, loss,
logging of terms) with a bare loop over the same backbone with plain cross-entropy on a ready-made
batch, and times the input pipeline alone. The first calls (compilation) are left out.

--profile says instead where the time of --steps steps goes on a CPU, by part, and what share of
the machine's own matrix products they reach. --loops says how much faster the step is on a CPU by
the compiled loops and gradients of `dah_tf.layers.cpu.fusion` and `pointwise`.
"""

import os
import statistics
import sys
import time

import numpy as np
from absl import app, flags

sys.path.insert(0, str(__import__("pathlib").Path(__file__).resolve().parent.parent))

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "compact", "backbone: the backbone.")
flags.DEFINE_integer("groups", 25, "groups: the number of groups of 20 images in a step.", 1)
flags.DEFINE_integer("pairs", 7, "pairs: the number of pairs of alternating measurements.", 1)
flags.DEFINE_integer("steps", 4, "steps: the number of steps in each measurement.", 1)
flags.DEFINE_string("precision", "auto", "precision: the same as in dah_tf.train.")
flags.DEFINE_integer("image_size", 32, "image_size: the side of the images in pixels.", 8)
flags.DEFINE_bool("attention", True, "attention: whether the backbone has CBAM.")
flags.DEFINE_list("widths", None, "widths: the same as in dah_tf.train.")
flags.DEFINE_integer("depth", None, "depth: the same as in dah_tf.train.")
flags.DEFINE_bool("profile", False, "profile: shows which parts of a step take how long.")
flags.DEFINE_bool(
    "loops", False, "loops: compares the step with compiled loops to one without them."
)
flags.DEFINE_enum(
    "optimizer",
    "muon",
    ["adam", "sgd", "muon"],
    "optimizer: the optimizer of --profile and --loops.",
)
flags.DEFINE_integer("slowest", 8, "slowest: the number of operations that --profile lists.", 0)


def main(_):
    from dah_tf.machine import memory

    memory.keep_freed()  # as the command does
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command does
    from dah_tf import data
    from dah_tf.data import image_sources
    from dah_tf.training import session

    precision = session.set_precision(FLAGS.precision)
    rng = np.random.default_rng(0)
    shape = (10_000, FLAGS.image_size, FLAGS.image_size, 3)
    images = image_sources.ArrayImages(rng.integers(0, 256, shape, np.uint8))
    labels = np.repeat(np.arange(10), 1000).astype(np.int32)
    plan = data.GroupPlan(labels, groups=FLAGS.groups, shift=2, image_size=FLAGS.image_size)
    mode = profile if FLAGS.profile else loops if FLAGS.loops else compare
    mode(precision, images, labels, plan)


def network():
    from dah_tf.model import backbones

    return backbones.get(FLAGS.backbone)


def loops(precision, images, labels, plan):
    from unittest import mock

    import tensorflow as tf

    from dah_tf.data import feed
    from dah_tf.layers.cpu import fusion
    from dah_tf.machine import devices
    from dah_tf.model import HashModel
    from dah_tf.training import loop, optimizers

    if devices.accelerators():
        raise SystemExit("--loops is for CPUs; hide the GPU: CUDA_VISIBLE_DEVICES=-1")
    batches = iter(feed.dataset(plan, images, 0, 10**9))
    strategy = tf.distribute.get_strategy()

    def made():
        model = HashModel(network(), 36, 10)
        model.compile(optimizer=optimizers.get(FLAGS.optimizer, 1e-3))
        step = loop.compiled_step(model, strategy)
        step(next(batches))  # traces the step with or without the loops
        return step

    def timed(step):
        start = time.perf_counter()
        for _ in range(FLAGS.steps):
            float(step(next(batches))["loss"])
        return (time.perf_counter() - start) / FLAGS.steps

    with mock.patch.object(fusion, "pays", lambda: False):
        without = made()
    steps = without, made()
    times = [[timed(step) for step in steps] for _ in range(FLAGS.pairs)]
    ratios = [a / b for a, b in times]
    before, after = (statistics.median(each) for each in zip(*times, strict=True))
    count = FLAGS.groups * plan.group_size
    print(
        f"{devices.hardware()}; {FLAGS.backbone}{' + CBAM' if FLAGS.attention else ''}, "
        f"{precision}, {count} images of {FLAGS.image_size} px in a step, {FLAGS.pairs} pairs of "
        f"{FLAGS.steps} steps"
    )
    print(
        f"a step takes {1e3 * before:,.0f} ms without and {1e3 * after:,.0f} ms with them (medians, "
        f"{count / before:.0f} and {count / after:.0f} images/s): {statistics.median(ratios):.2f} "
        f"times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def profile(precision, images, labels, plan):
    import keras
    import step_profile

    from dah_tf.data import feed
    from dah_tf.machine import devices
    from dah_tf.training import optimizers, session

    if devices.accelerators():
        raise SystemExit(
            "--profile times a CPU's operations; hide the GPU: CUDA_VISIBLE_DEVICES=-1"
        )
    backbone = network()
    model = step_profile.named_model(backbone, 36, 10, FLAGS.image_size)
    model.compile(optimizer=optimizers.get(FLAGS.optimizer, 1e-3))
    batches = iter(feed.dataset(plan, images, 0, 10**9))
    dtype, size = keras.config.dtype_policy().compute_dtype, 1024
    before = step_profile.peak(dtype, size)
    found = step_profile.measure(model, batches, FLAGS.steps)
    peak = max(before, step_profile.peak(dtype, size))
    facts = session.surroundings()
    count = FLAGS.groups * plan.group_size
    rate = found.flops / found.untraced
    onednn = any(kind.startswith("_Mkl") for *_, kind, _ in found.operations)
    print(facts["hardware"] + "; " + ", ".join(f"{k} {v}" for k, v in facts["versions"].items()))
    print(
        f"{FLAGS.backbone}{' + CBAM' if FLAGS.attention else ''}, {count} images of "
        f"{FLAGS.image_size} px in a step, {FLAGS.optimizer}, {precision}, {FLAGS.steps} steps, "
        f"oneDNN {'on' if onednn else 'off'}"
    )
    print(
        "The shares are of the wall time. Operations that run at the same time share it equally.\n"
    )
    print(step_profile.table(found, FLAGS.slowest))
    print(
        f"\nan untraced step takes {1e3 * found.untraced:.1f} ms (median), {found.flops / 1e9:.2f} GFLOP, "
        f"{rate / 1e9:.1f} GFLOP/s: {rate / peak:.0%} of the {peak / 1e9:.1f} GFLOP/s of "
        f"{size}x{size} products in {dtype}"
    )


def compare(precision, images, labels, plan):
    import keras
    import tensorflow as tf

    from dah_tf.data import feed
    from dah_tf.model import HashModel
    from dah_tf.training import loop

    count = FLAGS.groups * plan.group_size
    model = HashModel(network(), 36, 10)
    model.compile(optimizer=keras.optimizers.SGD(1e-3, momentum=0.9))
    whole = loop.compiled_step(model, tf.distribute.get_strategy())

    backbone = network()
    bare = keras.Sequential([backbone, keras.layers.Dense(10, dtype="float32")])
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
    optimizer.build(bare.trainable_variables)
    x = tf.constant(images.array[:count])
    y = tf.constant(labels[:count])

    @tf.function
    def bare_step():
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(
                keras.losses.sparse_categorical_crossentropy(
                    y, bare(x, training=True), from_logits=True
                )
            )
        gradients = tape.gradient(loss, bare.trainable_variables)
        optimizer.apply(gradients, bare.trainable_variables)
        return loss

    batches = iter(feed.dataset(plan, images, 0, 10**9))

    def timed(function):
        start = time.perf_counter()
        for _ in range(FLAGS.steps):
            function()
        return FLAGS.steps * count / (time.perf_counter() - start)

    def one():
        return {k: float(v) for k, v in whole(next(batches)).items()}

    def two():
        return float(bare_step())

    one(), two()
    pairs = [(timed(one), timed(two)) for _ in range(FLAGS.pairs)]
    ratios = [a / b for a, b in pairs]
    start = time.perf_counter()
    for _ in feed.dataset(plan, images, 0, 60):
        pass
    feeding = 60 * count / (time.perf_counter() - start)
    rate = statistics.median(a for a, _ in pairs)
    print(f"{FLAGS.backbone}, {precision}, {count} images in a step, {FLAGS.pairs} pairs")
    print(f"whole step  {rate:8.0f} images/s (median)")
    print(f"bare loop   {statistics.median(b for _, b in pairs):8.0f} images/s (median)")
    print(
        f"ratio       {statistics.median(ratios):8.3f} (median; {min(ratios):.3f} to "
        f"{max(ratios):.3f}); the goal is 0.95"
    )
    print(
        f"input alone {feeding:8.0f} images/s, {feeding / rate:.1f} times the step; the goal is 5"
    )


if __name__ == "__main__":
    app.run(main)
