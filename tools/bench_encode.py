"""Times what turns pixels into codes: every runtime, network and batch size, in one run.

    python tools/bench_encode.py [--networks=resnet30,compact,resnet50] [--rounds=5]

Each network, of random weights, is exported and run at --image_size by: Keras' `predict`; the
SavedModel in float32, and in bfloat16; ONNX Runtime; OpenVINO in float32, in bfloat16 and in int8;
LiteRT in float32 and in int8. bfloat16 is left out where the processor does not multiply it.
Printed are images a second, GFLOP/s (two a multiply-add) and these as a share of the fastest
float32 matrix product of the same run, and the share of bits that differ from `predict`'s codes.
Medians of rounds in which all rivals alternate; loading and first calls are not counted.
--json=FILE has all values.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands do

from dah_tf.machine import memory

memory.keep_freed()  # as the commands do

import keras
import numpy as np
import tensorflow as tf

from dah_tf import codes, runtimes
from dah_tf.exporting import export, parity
from dah_tf.machine import devices
from dah_tf.model import HashModel, backbones, describe

BITS, CLASSES, SECONDS = 36, 10, 0.7  # SECONDS is the shortest measurement


@contextlib.contextmanager
def policy(name):
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def make(network, size, images, precision="float32"):
    """A model of random weights; each bit's threshold is in the middle of what it sees."""
    keras.utils.set_random_seed(0)
    with policy(precision):
        model = HashModel(backbones.get(network), BITS, CLASSES, size)
    model.hash_head.dense.bias.assign(-np.median(model.outputs(images)["logits"], axis=0))
    return model


def rivals(network, options, images, folder):
    """Name to function of pixels, to packed codes; and multiply-adds of an image."""
    half = devices.bfloat16_is_fast()
    model = make(network, options.image_size, images)
    labels = np.zeros(len(images), np.int32)
    samples = parity.Samples(images, images, labels, images[:8], labels[:8])
    formats = [name for name in runtimes.FORMATS if half or name != "openvino_bf16"]
    export.save(model, folder / "float32", formats=formats, samples=samples)

    def predict(pixels):
        logits = model.predict(pixels, batch_size=len(pixels), verbose=0)["logits"]
        return codes.pack(codes.binarize(logits))

    def opened(name, part="float32"):
        run = runtimes.load(name, folder / part)
        return lambda pixels: run(pixels)["codes"]

    found = {"Keras predict": predict}
    found |= {f"{runtimes.get(name).TITLE}": opened(name) for name in formats}
    if half:
        rounded = make(network, options.image_size, images, "mixed_bfloat16")
        rounded.set_weights(model.get_weights())
        export.save(rounded, folder / "bfloat16")
        found["TensorFlow bfloat16"] = opened("savedmodel", "bfloat16")
    return found, describe.multiply_adds(model.backbone, options.image_size)


def rate(function, pixels):
    """Images a second over at least `SECONDS`."""
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        function(pixels)
        done += len(pixels)
    return done / (time.perf_counter() - start)


def peak(size=2048):
    """GFLOP/s of one float32 product of square matrices."""
    one = tf.random.normal((size, size))
    start = time.perf_counter()
    tf.matmul(one, one).numpy()
    return 2e-9 * size**3 / (time.perf_counter() - start)


def measure(found, images, batches, rounds):
    """Images a second of each rival and batch size, a list of all rounds."""
    values = {name: {batch: [] for batch in batches} for name in found}
    products = [peak() for _ in range(3)][1:]
    for function in found.values():
        for batch in batches:
            function(images[:batch])
    for _ in range(rounds):
        for batch in batches:
            for name, function in found.items():
                values[name][batch].append(rate(function, images[:batch]))
            products += [peak() for _ in range(2)]
    return values, max(products)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", default="resnet30,compact,resnet50")
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--batches", default="1,32,256")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    batches = [int(each) for each in options.batches.split(",")]
    shape = (max(batches), options.image_size, options.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    packages = ("tensorflow", "keras", "onnxruntime", "openvino", "ai_edge_litert")
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(f"{devices.hardware()}; {', '.join(f'{k} {v}' for k, v in versions.items())}")
    result = {"hardware": devices.hardware(), "versions": versions, "networks": {}}
    for network in options.networks.split(","):
        with tempfile.TemporaryDirectory() as name:
            found, cost = rivals(network, options, images, pathlib.Path(name))
            values, fastest = measure(found, images, batches, options.rounds)
            right = found["Keras predict"](images)
            differing = {
                name: int(np.unpackbits(run(images) ^ right).sum()) / (len(images) * BITS)
                for name, run in found.items()
            }
        result["networks"][network] = {
            "gmacs": cost / 1e9,
            "matrix_product_gflops": fastest,
            "images_per_second": values,
            "bits_differing": differing,
        }
        show(network, cost, fastest, values, differing, options)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


def show(network, cost, fastest, values, differing, options):
    print(
        f"\n{network}, {options.image_size} px, {cost / 1e9:.3f} GMAC for an image; matrix product "
        f"{fastest:.0f} GFLOP/s; images/s, medians of {options.rounds} rounds"
    )
    last = max(next(iter(values.values())))
    heads = "".join(f"{f'batch {batch}':>11}" for batch in next(iter(values.values())))
    print(f"{'':<20}{heads}  GFLOP/s*  share*   / predict (rounds)      bits differ")
    base = values["Keras predict"][last]
    for name, row in values.items():
        rates = {batch: statistics.median(each) for batch, each in row.items()}
        flops = 2e-9 * cost * max(rates.values())
        ratios = [a / b for a, b in zip(row[last], base, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(
            f"{name:<20}{''.join(f'{each:>11,.1f}' for each in rates.values())}"
            f"{flops:>10.1f}{flops / fastest:>8.0%}   {spread:<22}{differing[name]:>8.3%}"
        )
    print("* is the figure of the best batch; / predict compares the largest batches")


if __name__ == "__main__":
    main()
