"""Times the encoding of a folder of image files against the model alone, in one run.

    python tools/bench_files.py --model=runs/cifar10-compact-36 --input=photos
    python tools/bench_files.py --model=MODEL --input=FOLDER --items=2000 --rounds=7

The rivals, over the same images, alternate in each round:

- `encode`: what `python -m dah_tf.encode` does, from the list of files to durable shards;
- `model alone`: the model on the same images, decoded before, in full batches;
- `one at a time`: a loop that reads, decodes and encodes one image after the other, over a tenth
  of the images.

Loading the model and the first batch are not counted. Medians and all raw values are printed.
--memory=N measures the command's peak memory in two processes, over N images and over 8 N.
"""

import argparse
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands do

from dah_tf.machine import cores, memory

memory.keep_freed()  # as the commands do

import numpy as np
import tensorflow as tf

from dah_tf.data import pixels
from dah_tf.encoding import Codes, Encoder, job, listing


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def listed(options, folder):
    """A file that lists the images to encode."""
    paths = [path for path, _ in listing.below(options.input, "none")][: options.items]
    path = folder / "paths"
    path.write_bytes(b"".join(os.path.abspath(each) + b"\0" for each in paths))
    return path, paths


def encode(encoder, path, output, batch):
    """As the command does; returns the codes."""
    shutil.rmtree(output, ignore_errors=True)

    def work(begun):
        for _ in begun.encode(encoder, begun.missing(), batch):
            pass

    job.run(encoder.path, f"list:{path}", output, labels="none", work=work)


def alone(encoder, images, batch):
    parts = [encoder(images[at : at + batch])["codes"] for at in range(0, len(images), batch)]
    return np.concatenate(parts)


def one_at_a_time(encoder, paths):
    codes = []
    for path in paths:
        image = pixels.resize(
            pixels.decode(tf.io.read_file(path), encoder.channels), encoder.image_size
        )
        codes.append(encoder(image[None])["codes"])
    return np.concatenate(codes)


# The peak of a new process starts at that of its parent, so a small process starts it.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def memory(options, paths, folder):
    """Prints the peak memory of the command over lists of two lengths, of the same images."""
    for count in (options.memory, 8 * options.memory):
        rows = [os.path.abspath(paths[i % len(paths)]) for i in range(count)]
        (folder / f"{count}").write_bytes(b"".join(row + b"\0" for row in rows))
        command = [sys.executable, "-m", "dah_tf.encode", f"--model={options.model}"]
        command += [f"--input=list:{folder / str(count)}", f"--output={folder / f'{count}.codes'}"]
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *command], check=True, capture_output=True, text=True
        )
        peak = int(done.stdout) / 1024
        print(f"  peak memory over {count:,} images: {peak:,.0f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True, help="input: a folder of images")
    parser.add_argument("--items", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", type=int, default=0)
    options = parser.parse_args()
    encoder = Encoder(options.model)
    print(
        f"{cores.cores()} cores, {platform.machine()}; Python {platform.python_version()}, "
        f"TensorFlow {tf.__version__}; {encoder.bits} bits, {encoder.image_size} px"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path, paths = listed(options, folder)
        rows = tf.data.Dataset.from_tensor_slices(paths).map(
            lambda each: pixels.resize(
                pixels.decode(tf.io.read_file(each), encoder.channels), encoder.image_size
            )
        )
        images = np.stack(list(rows.as_numpy_iterator()))
        few = paths[: max(len(paths) // 10, 1)]
        alone(encoder, images[: options.batch], options.batch)
        one_at_a_time(encoder, few[:2])
        seconds, differing = {"encode": [], "model alone": [], "one at a time": []}, 0.0
        for _ in range(options.rounds):
            seconds["encode"].append(
                timed(lambda: encode(encoder, path, folder / "codes", options.batch))[0]
            )
            took, expected = timed(lambda: alone(encoder, images, options.batch))
            seconds["model alone"].append(took)
            took, single = timed(lambda: one_at_a_time(encoder, few))
            seconds["one at a time"].append(took * len(paths) / len(few))
            found = Codes.open(folder / "codes").read()[0]
            if not np.array_equal(found, expected):
                raise SystemExit("the codes of encode differ from those of the model")
            wrong = np.unpackbits(single ^ expected[: len(few)]).sum()
            differing = max(differing, wrong / (len(few) * encoder.bits))
        print(f"{len(paths):,} images, batches of {options.batch}, {options.rounds} rounds")
        medians = {name: statistics.median(each) for name, each in seconds.items()}
        for name, each in seconds.items():
            raw = " ".join(f"{len(paths) / s:,.0f}" for s in each)
            print(f"  {name:<14}{len(paths) / medians[name]:10,.0f} images/s   {raw}")
        costs = [a / b for a, b in zip(seconds["encode"], seconds["model alone"], strict=True)]
        gains = [a / b for a, b in zip(seconds["one at a time"], seconds["encode"], strict=True)]
        for name, each in (("encode / model alone", costs), ("one at a time / encode", gains)):
            print(f"  {name}: {statistics.median(each):.3f} ({min(each):.3f} to {max(each):.3f})")
        print(f"  share of bits that differ in batches of one image: {differing:.6f}")
        if options.memory:
            memory(options, paths, folder)


if __name__ == "__main__":
    main()
