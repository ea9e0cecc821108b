"""A small model exported once for all tests of serving, and real images to send to it."""

import atexit
import functools
import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

BITS, CLASSES, SIZE = 12, 5, 16


@functools.cache
def model_folder():
    """Path of a model's folder, `.../models/dah`, that holds version 1. Not to be changed."""
    import keras

    from dah_tf.exporting import export
    from dah_tf.model import HashModel, backbones

    scratch = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, scratch)
    folder = Path(scratch, "models", "dah")
    keras.utils.set_random_seed(1)
    model = HashModel(backbones.get("compact:widths=8/16/16", channels=3), BITS, CLASSES, SIZE)
    # Thresholds in the middle of what the bits see, or every image had the same code.
    logits = model.outputs(np.stack(list(crops())))["logits"]
    model.hash_head.dense.bias.assign(-np.median(logits, axis=0))
    export.save(model, folder / "1", class_names=[f"class {i}" for i in range(CLASSES)])
    return folder


def crops(n=64):
    """n colour crops of photographs, uint8 `(SIZE, SIZE, 3)`."""
    photographs, rng = load_sample_images().images, np.random.default_rng(0)
    for i in range(n):
        photograph = photographs[i % 2]
        top, left = (rng.integers(length - SIZE) for length in photograph.shape[:2])
        yield photograph[top : top + SIZE, left : left + SIZE]


def encoded(image, form="PNG", **options):
    """The bytes of an image file; `image` is a PIL image or an array."""
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def files(n=40):
    """n encoded images: grey digits and colour crops, in every format."""
    digits = (load_digits().images[: n // 2] * 255 / 16).astype(np.uint8)
    images = [*digits, *crops(n - len(digits))]
    forms = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
    return [encoded(image, forms[i % 5]) for i, image in enumerate(images)]
