"""Exports a `HashModel` to a SavedModel that turns image bytes into packed codes.

The file `dah.json` is written beside it. The SavedModel has two signatures, each for n >= 0 images:

- `serving_default` takes `image_bytes`, string `(n,)`. These are encoded images, and their formats
  and sizes may be mixed. It returns `codes`, `probabilities` and `valid`.
- `pixels` takes `pixels`, uint8 `(n, h, w, channels)`, with values 0..255. All images have the same
  size, which may be any size. It returns `codes`, `probabilities` and `hash`.

These are the outputs:

- `codes` is uint8 `(n, ceil(bits / 8))` in the bit order of `dah_tf.codes`.
- `probabilities` is float32 `(n, classes)`, from a softmax, or from a sigmoid for multi-label
  models.
- `hash` is float32 `(n, bits)`. It holds the values of the hash layer, which lie between the two
  numbers that `dah.json` stores as `span`.
- `valid` is bool `(n,)`. An image that cannot be decoded does not affect the others. Its `valid` is
  false, and its codes and probabilities are 0.

The file `assets.extra/tf_serving_warmup_requests` holds requests that TensorFlow Serving runs
before it answers the first request (`dah_tf.serving.warmup`).
"""

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

from dah_tf import __version__, runtimes
from dah_tf.data import pixels
from dah_tf.errors import UserError
from dah_tf.exporting import parity
from dah_tf.files import durable
from dah_tf.files.plain import plain
from dah_tf.model.hash_model import mirrored
from dah_tf.serving import layout, warmup

BIT_ORDER = (
    "bit i is in byte i // 8, most significant bit first; unused low bits of the last byte are 0"
)

# TensorFlow raises these errors if a disk is full or broken, or if it cannot be written to.
DISK = (
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,  # The file exceeds the allowed size.
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnknownError,
)

# This many images are decoded at a time. A request is too short for AUTOTUNE to find a number.
DECODERS = 16


def save(
    model,
    output,
    *,
    class_names=None,
    mirror=False,
    flags=None,
    metrics=None,
    extra=None,
    formats=(runtimes.SAVEDMODEL,),
    samples=None,
):
    """Writes a model's files, `dah.json` and warm-up requests. Writes the whole folder or nothing.

    The files are first written to a hidden folder beside `output`. TensorFlow Serving ignores that
    folder, and requires that the name of `output` is a version number, as in `MODELS/dah/1`.

    Args:
        model: `HashModel`.
        output: path of the folder to create.
        class_names: list of str, one name for each class. If it is None, the numbers from 0 are
            the names.
        mirror: bool, whether the logits of each image and of its left-right mirror image are
            averaged.
        flags: dict, the settings of the run that trained the model.
        metrics: dict, the measured quality of the model.
        extra: dict of further entries for `dah.json`.
        formats: names of `runtimes.FORMATS`.
        samples: `parity.Samples`. Every format except the SavedModel needs them.

    Returns:
        Dict, the contents of `dah.json`: `bits`, `bytes_per_code`, `bit_order`, `classes`,
        `class_names`, `multi_label`, `image_size`, `channels`, `mirror`, `span` (the lowest and the
        highest hash value), `fingerprint` (computed from the weights and `mirror`, which determine
        the codes), `flags`, `metrics`, `versions`, `formats` (see `parity.Reference`), and the
        entries of `extra`.

    Raises:
        UserError: the folder exists or cannot be written, Keras runs on another back end, a
            format's packages are missing, or a format's codes differ from those of the model.
        ValueError: the number of class names is wrong, an entry of `extra` has the name of one of
            the entries above, or `samples` are missing although a format needs them.
    """
    output = Path(output)
    if samples is None and set(formats) - {runtimes.SAVEDMODEL}:
        raise ValueError(f"Formats other than the SavedModel need `samples`. Received: {formats}")
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"export needs TensorFlow, but Keras runs on {keras.backend.backend()}; "
            "repeat the command with KERAS_BACKEND=tensorflow"
        )
    check(output, formats)
    description = _describe(model, class_names, mirror, flags, metrics, extra)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as hidden:
            # The files go into an inner folder, because only the owner can read a temporary folder.
            staging = Path(hidden, output.name)
            staging.mkdir()
            others = [name for name in formats if name != runtimes.SAVEDMODEL]
            if len(others) < len(formats):
                description["formats"][runtimes.SAVEDMODEL] = _saved_model(model, mirror, staging)
            if others:
                found = _other_formats(others, model, mirror, staging, samples)
                description["formats"].update(found)
            Path(staging, layout.DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
            for folder, _, names in os.walk(staging):
                for name in (*names, "."):
                    durable.sync(Path(folder, name))
            os.rename(staging, output)
            durable.sync(output.parent)
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"cannot write the model to {output}: {reason}") from error
    return description


def _saved_model(model, mirror, folder):
    """Writes the SavedModel and its warm-up requests. Returns its entries for `dah.json`."""
    archive = _archive(model, mirror)
    try:
        archive.write_out(folder, verbose=False)
    except DISK as error:
        raise OSError(error.message) from error
    Path(folder, layout.WARMUP).parent.mkdir()
    Path(folder, layout.WARMUP).write_bytes(warmup.encode(model.channels))
    return {"files": list(runtimes.get(runtimes.SAVEDMODEL).FILES)}


def _other_formats(names, model, mirror, folder, samples):
    """Writes the other formats. Returns the entries of each for `dah.json`."""
    shape = [None, model.image_size, model.image_size, model.channels]
    exact = model.in_float32()

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, "pixels")])
    def fixed(images):
        outputs = _outputs(exact, images, mirror, tf.ones([tf.shape(images)[0]], tf.bool))
        return {name: outputs[name] for name in ("codes", "hash", "probabilities")}

    reference = parity.Reference(model, exact, mirror, samples)
    found = {}
    for name in names:
        written = runtimes.write(name, fixed, folder, samples.calibration)
        found[name] = {**written, **reference.compare(name, runtimes.load(name, folder))}
    return found


def check(output, formats):
    """Raises an error if `save` could not write the formats to the folder.

    Raises:
        UserError: the folder exists, or a format's packages are missing.
    """
    if os.path.lexists(output):
        raise UserError(
            f"{output} exists already; name a new folder for the version, or remove the old one"
        )
    for name in formats:
        if name != runtimes.SAVEDMODEL:
            runtime = runtimes.get(name)
            runtimes.require(name, (*runtime.WRITING, *runtime.PACKAGES))


def _fingerprint(model, mirror):
    """Returns the fingerprint of the weights. With `mirror` it differs, as the codes do."""
    weights = model.fingerprint()
    return hashlib.sha256(f"{weights} mirror".encode()).hexdigest() if mirror else weights


def _describe(model, class_names, mirror, flags, metrics, extra):
    if class_names is None:
        class_names = range(model.num_classes)
    class_names = [str(name) for name in class_names]
    if len(class_names) != model.num_classes:
        raise ValueError(
            f"The model has {model.num_classes} classes. Received: class_names={class_names}"
        )
    description = {
        "bits": model.bits,
        "bytes_per_code": math.ceil(model.bits / 8),
        "bit_order": BIT_ORDER,
        "classes": model.num_classes,
        "class_names": class_names,
        "multi_label": model.multi_label,
        "image_size": model.image_size,
        "channels": model.channels,
        "mirror": mirror,
        "span": list(model.span),
        "fingerprint": _fingerprint(model, mirror),
        "flags": flags or {},
        "metrics": metrics or {},
        "versions": {
            "dah_tf": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
        "formats": {},
    }
    hidden = description.keys() & (extra or {}).keys()
    if hidden:
        raise ValueError(f"`extra` may not replace these entries: {sorted(hidden)}")
    return plain({**description, **(extra or {})})


def _archive(model, mirror):
    """Returns a `keras.export.ExportArchive` with both signatures.

    `tf.saved_model.save` on a `tf.Module` that holds the model is not suitable. The result would
    load in Python, but the C++ loader of TensorFlow Serving would not find the variables.
    """
    size, channels = model.image_size, model.channels

    def serve_bytes(image_bytes):
        images, valid = _decoded(image_bytes, size, channels)
        outputs = _outputs(model, images, mirror, valid)
        return {name: outputs[name] for name in ("codes", "probabilities", "valid")}

    def serve_pixels(images):
        valid = tf.ones([tf.shape(images)[0]], tf.bool)
        outputs = _outputs(model, pixels.resize(_never_empty(images), size), mirror, valid)
        return {name: outputs[name] for name in ("codes", "probabilities", "hash")}

    archive = keras.export.ExportArchive()
    archive.add_endpoint(
        "serving_default", serve_bytes, [tf.TensorSpec([None], tf.string, "image_bytes")]
    )
    archive.add_endpoint(
        "pixels", serve_pixels, [tf.TensorSpec([None, None, None, channels], tf.uint8, "pixels")]
    )
    return archive


def _decoded(image_bytes, size, channels):
    """Decodes images to the model's size, and says which of them could be decoded.

    A `tf.data.Dataset` is used because nothing else can continue after an error inside a graph. It
    drops the broken images, so each image carries its row number. A blank image in an additional
    last row ensures that the data set is never empty.

    Args:
        image_bytes: string tensor of shape `(n,)`.
        size: int, the side of the images in pixels.
        channels: int, 1 or 3.

    Returns:
        Pair of arrays: uint8 `(max(n, 1), size, size, channels)`, which is 0 for broken images, and
        bool `(n,)`, which is True for the images that were decoded.
    """
    shape = [size, size, channels]
    n = tf.size(image_bytes, out_type=tf.int64)

    def image(row):
        decoded = pixels.resize(pixels.decode(image_bytes[row], channels), size)
        return row, tf.ensure_shape(decoded, shape)

    rows = tf.data.Dataset.range(n).map(image, num_parallel_calls=DECODERS)
    blank = tf.data.Dataset.from_tensors((n, tf.zeros(shape, tf.uint8)))
    rows = rows.ignore_errors().concatenate(blank).batch(n + 1)
    row, images = rows.get_single_element()
    images = tf.scatter_nd(row[:, None], images, tf.stack([n + 1, *shape]))
    valid = tf.scatter_nd(row[:, None], tf.ones_like(row, tf.bool), [n + 1])
    return images[: tf.maximum(n, 1)], valid[:n]


def _never_empty(images):
    """Returns the images, or one blank image if there are none.

    Resizing fails on an empty batch, and so do the fused convolutions of the C++ runtime.
    """
    blank = tf.cast(tf.shape(images)[0] == 0, tf.int32)
    return tf.pad(images, [[0, blank], [0, blank], [0, blank], [0, 0]])


def _outputs(model, images, mirror, valid):
    """Computes what the signatures return for uint8 images of the model's size.

    Rows that are not valid are set to 0. Images beyond the length of `valid` are left out.
    """
    images = tf.ensure_shape(images, [None, model.image_size, model.image_size, model.channels])
    outputs = mirrored(model, images) if mirror else model(images, training=False)
    n = tf.shape(valid)[0]
    outputs = {name: tf.cast(value[:n], tf.float32) for name, value in outputs.items()}
    activation = tf.sigmoid if model.multi_label else tf.nn.softmax
    return {
        "codes": _pack((outputs["logits"] > 0) & valid[:, None], model.bits),
        "probabilities": tf.where(valid[:, None], activation(outputs["classes"]), 0.0),
        "hash": outputs["hash"],
        "valid": valid,
    }


def _pack(ones, bits):
    """Packs bool `(n, bits)` into uint8 `(n, ceil(bits / 8))`, as `codes.pack` does."""
    size = math.ceil(bits / 8)
    # Integers are used because quantisation would round the products of floats.
    padded = tf.pad(tf.cast(ones, tf.int32), [[0, 0], [0, 8 * size - bits]])
    octets = tf.reshape(padded, tf.stack([tf.shape(ones)[0], size, 8]))
    return tf.cast(tf.reduce_sum(octets * [128, 64, 32, 16, 8, 4, 2, 1], axis=-1), tf.uint8)
