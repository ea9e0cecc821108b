"""3x3 convolutions of `compact`, Winograd's against the direct ones: ratios in one run.

    python tools/bench_convolution.py [--images=500] [--image_size=32] [--pairs=5]

For each convolution of the network: its forward pass and both of its gradients, as training on a
CPU takes them, the root mean square error of both forward passes against float64, relative to the
outputs' deviation, and the ratio of their times, the median over interleaved pairs.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands do

from dah_tf.machine import memory

memory.keep_freed()  # as the commands do, before the first tensor exists

import numpy as np
import tensorflow as tf
from absl import app, flags

from dah_tf.layers.cpu.convolution import winograd
from dah_tf.machine import devices

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 500, "images: the number of images in a batch.", 1)
flags.DEFINE_integer("image_size", 32, "image_size: the side of the images in pixels.", 8)
flags.DEFINE_integer("pairs", 5, "pairs: the number of pairs of alternating measurements.", 1)


def main(_):
    print(f"{devices.hardware()}; {FLAGS.images} images of {FLAGS.image_size} px, float32")
    print(
        "side channels  direct ms  Winograd ms  ratio (lowest to highest)  direct error  Winograd"
    )

    def direct(x, kernel):
        return tf.nn.conv2d(x, kernel, 1, "SAME")

    def step(convolution):
        @tf.function
        def run(x, kernel, weights):
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                y = convolution(x, kernel)
            return y, tape.gradient(y, [x, kernel], output_gradients=weights)

        return run

    rng = np.random.default_rng(0)
    side = FLAGS.image_size - 1
    # After the stem every stage halves the side between its two convolutions.
    sides = [side // 2, side // 2, side // 4, side // 4, side // 8]
    widths = [(64, 64), (64, 256), (256, 256), (256, 256), (256, 256)]
    for side, (channels, filters) in zip(sides, widths, strict=True):
        shapes = (FLAGS.images, side, side, channels), (3, 3, channels, filters)
        x, kernel, weights = (
            tf.constant(rng.normal(size=shape).astype("float32"))
            for shape in (*shapes, (FLAGS.images, side, side, filters))
        )
        exact = direct(tf.cast(x[:8], "float64"), tf.cast(kernel, "float64")).numpy()
        steps = [step(direct), step(winograd)]
        errors = [_error(run(x, kernel, weights)[0][:8].numpy(), exact) for run in steps]
        times = [[_seconds(run, x, kernel, weights) for run in steps] for _ in range(FLAGS.pairs)]
        ratios = [a / b for a, b in times]
        before, after = (1e3 * statistics.median(each) for each in zip(*times, strict=True))
        print(
            f"{side:4} {channels:3}-{filters:3} {before:11.1f} {after:12.1f} "
            f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            f"{errors[0]:21.1e} {errors[1]:9.1e}"
        )


def _error(found, exact):
    return np.sqrt(np.mean((found - exact) ** 2)) / np.std(exact)


def _seconds(run, *arguments):
    start = time.perf_counter()
    run(*arguments)  # on a CPU this returns when the work is done
    return time.perf_counter() - start


if __name__ == "__main__":
    app.run(main)
