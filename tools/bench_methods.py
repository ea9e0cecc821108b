"""Times the shallow methods of `dah_tf.baselines` and their features, and states peak memory.

    python tools/bench_methods.py
    python tools/bench_methods.py --methods ksh sdh:anchors=2000 --items 50000 --rounds=3

Each method runs in a process of its own, on made rows: unit vectors near the centres of ten
classes, in float32. `fit` and `encode` (`transform` of the same rows) are medians over the rounds,
and all raw values are printed. The memory is what the process held at most, of which `rows` is
what it held before the fit, Python and its libraries included. Features are timed on random
images of 32 x 32 pixels.
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
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
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
