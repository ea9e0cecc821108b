"""How much of the training step is the network: ratios measured in one run.

    python tools/bench_train.py [--backbone=compact] [--pairs=7] [--groups=25]

Interleaves, in pairs, the whole step as `dah_tf.train` runs it (plan, feeding, augmentation, loss,
logging of terms) with a bare loop over the same backbone with plain cross-entropy on a ready-made
batch, and times the input pipeline alone. The first calls (compilation) are left out.
"""

import statistics
import sys
import time

import numpy as np
from absl import app, flags

sys.path.insert(0, str(__import__("pathlib").Path(__file__).resolve().parent.parent))

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "compact", "Backbone.")
flags.DEFINE_integer("groups", 25, "Groups of 20 images a step.", 1)
flags.DEFINE_integer("pairs", 7, "Interleaved pairs.", 1)
flags.DEFINE_integer("steps", 4, "Steps in each measurement.", 1)
flags.DEFINE_string("precision", "auto", "As in dah_tf.train.")


def main(_):
    from dah_tf import memory

    memory.keep_freed()
    import keras
    import tensorflow as tf

    from dah_tf import backbones, data, pipeline, training
    from dah_tf.data import feed, sources
    from dah_tf.model import HashModel

    precision = pipeline.set_precision(FLAGS.precision)
    rng = np.random.default_rng(0)
    images = sources.ArrayImages(rng.integers(0, 256, (10_000, 32, 32, 3), np.uint8))
    labels = np.repeat(np.arange(10), 1000).astype(np.int32)
    plan = data.GroupPlan(labels, groups=FLAGS.groups, shift=2)
    count = FLAGS.groups * plan.group_size

    model = HashModel(backbones.get(FLAGS.backbone), 36, 10)
    model.compile(optimizer=keras.optimizers.SGD(1e-3, momentum=0.9))
    whole = training.compiled_step(model, tf.distribute.get_strategy())

    backbone = backbones.get(FLAGS.backbone)
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
    print(f"{FLAGS.backbone}, {precision}, {count} images a step, {FLAGS.pairs} pairs")
    print(f"whole step  {rate:8.0f} images/s (median)")
    print(f"bare loop   {statistics.median(b for _, b in pairs):8.0f} images/s (median)")
    print(
        f"ratio       {statistics.median(ratios):8.3f} (median; {min(ratios):.3f} to "
        f"{max(ratios):.3f}), goal 0.95"
    )
    print(f"input alone {feeding:8.0f} images/s, {feeding / rate:.1f} times the step, goal 5")


if __name__ == "__main__":
    app.run(main)
