"""Times the shallow methods and their features, or a training step of each deep method.

    python tools/bench_methods.py
    python tools/bench_methods.py --methods ksh sdh:anchors=2000 --items 50000 --rounds=3

Each method runs in a process of its own, on made rows: unit vectors near the centres of ten
classes, in float32. `fit` and `encode` (`transform` of the same rows) are medians over the rounds,
and all raw values are printed. The memory is what the process held at most, of which `rows` is
what it held before the fit, Python and its libraries included. Features are timed on random
images of 32 x 32 pixels.

    python tools/bench_methods.py --deep
    python tools/bench_methods.py --deep csq dpsh:eta=0.1 --rounds=7 --groups=20

--deep alternates training steps of each method with those of DAH, on the same network and batches,
and prints the ratio of the times: the median, and the smallest and the largest. The first steps,
which compile, are left out. So is what a method does between steps, such as renewing its centres.
"""

import argparse
import multiprocessing
import platform
import resource
import statistics
import time

import numpy as np

from dah_tf import baselines
from dah_tf.baselines import features
from dah_tf.machine import cores


def make(items, dims):
    """float32 rows of unit length and their classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, items)
    rows = rng.standard_normal((10, dims), np.float32)[labels]
    for start in range(0, items, 10_000):
        part = rows[start : start + 10_000]
        part += 3 * rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows, labels


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def run_method(text, items, dims, bits, rounds):
    """Seconds of all fits and of all encodings, and MiB before and at most."""
    rows, labels = make(items, dims)
    baselines.get(text, bits).fit(rows[:300, :bits], labels[:300])  # loads the libraries
    before, fits, encodings = peak_mib(), [], []
    for _ in range(rounds):
        method = baselines.get(text, bits)
        fits.append(timed(method.fit, rows, labels))
        encodings.append(timed(method.transform, rows))
    return fits, encodings, before, peak_mib()


def run_feature(text, images, rounds):
    """Seconds of all rounds, and MiB before and at most."""
    pictures = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), np.uint8)
    features.extract(text, pictures[:2])
    before = peak_mib()
    return [timed(features.extract, text, pictures) for _ in range(rounds)], before, peak_mib()


def step_of(text, groups, backbone):
    """Makes a function that takes one training step of a deep method on made images."""
    from dah_tf import data
    from dah_tf.data import feed, image_sources
    from dah_tf.model import HashModel, backbones
    from dah_tf.training import loop, optimizers

    images = np.random.default_rng(0).integers(0, 256, (2_000, 32, 32, 3), np.uint8)
    labels = np.repeat(np.arange(10), 200).astype(np.int32)
    plan = data.GroupPlan(labels, groups=groups, shift=2, image_size=32)
    model = HashModel(backbones.get(backbone), 36, 10, method=text)
    model.compile(optimizer=optimizers.get("muon", 1e-3))
    model.optimizer.build(model.trainable_variables)
    model.begin(loop.method_facts(model, plan, 10**6))
    needs = model.method.needs
    source = image_sources.ArrayImages(images)
    batches = iter(feed.dataset(plan, source, 0, 10**6, rows=needs.rows, views=needs.views))
    step = loop.compiled_step(model, loop.strategy("one"))
    return lambda: float(step(next(batches))["loss"])


def bench_deep(options):
    """Prints the time of a step of each deep method as a ratio to that of DAH."""
    from dah_tf.machine import devices, memory
    from dah_tf.model import methods
    from dah_tf.training import session

    memory.keep_freed()  # as the command does
    precision = session.set_precision("auto")
    print(
        f"{devices.hardware()}; {options.backbone}, {precision}, {options.groups * 20} images of "
        f"32 px in a step, {options.rounds} rounds"
    )
    first = step_of("dah", options.groups, options.backbone)
    # A method with a loop of its own has no single step.
    every = [name for name in methods.METHODS if methods.get(name).loop is None]
    for text in options.deep or every[1:]:
        other = step_of(text, options.groups, options.backbone)
        for _ in range(2):
            other(), first()
        pairs = [(timed(other), timed(first)) for _ in range(options.rounds)]
        ratios = [a / b for a, b in pairs]
        seconds = statistics.median(a for a, _ in pairs)
        print(
            f"  {text:<12} {statistics.median(ratios):.2f} of DAH's step "
            f"({min(ratios):.2f} to {max(ratios):.2f}), {1e3 * seconds:,.0f} ms",
            flush=True,
        )


def apart(function, *arguments):
    """A function's result, from a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def shown(seconds):
    return f"{statistics.median(seconds):8.2f} s ({' '.join(f'{s:.2f}' for s in seconds)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="*", default=list(baselines.METHODS))
    parser.add_argument("--features", nargs="*", default=list(features.FEATURES))
    parser.add_argument("--items", nargs="+", type=int, default=[5_000, 50_000])
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--bits", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--deep", nargs="*", help="deep methods; all if none is named")
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--backbone", default="compact")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.deep is None else 5)
    if options.deep is not None:
        bench_deep(options)
        return
    print(
        f"{cores.cores()} cores, {platform.machine()}; Python {platform.python_version()}, "
        f"NumPy {np.__version__}"
    )
    for text in options.features:
        seconds, before, most = apart(run_feature, text, options.images, options.rounds)
        print(
            f"{text}: {options.images:,} images {shown(seconds)}, "
            f"{options.images / statistics.median(seconds):.0f} images/s, "
            f"{most:.0f} MiB, images {before:.0f}"
        )
    for items in options.items:
        print(f"{items:,} rows of {options.dims} float32 features, {options.bits} bits")
        for text in options.methods:
            fits, encodings, before, most = apart(
                run_method, text, items, options.dims, options.bits, options.rounds
            )
            print(
                f"  {text:<12} fit {shown(fits)}   encode {shown(encodings)}   "
                f"{most:.0f} MiB, rows {before:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
