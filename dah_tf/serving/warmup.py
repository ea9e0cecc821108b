"""Requests that TensorFlow Serving runs before a model is ready, so that the first is not slow.

They call both signatures with each batch size in `BATCH_SIZES`. Their images are an artificial
pattern in every format that the model reads, and contain no data of the user.
"""

import io

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image

from dah_tf.files import tfrecord
from dah_tf.serving import layout, messages

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
"""The batch sizes that a server runs. configs/serving/batching.config has the same. They are powers
of 2, so that a batch is padded to at most twice its size."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

MAX_RECORDS = 1000
"""The largest number of warm-up requests. TensorFlow Serving refuses a model with more."""


def encode(channels):
    """Returns the content of the warm-up file: a TFRecord of serialised `PredictionLog`s.

    Args:
        channels: int, 1 or 3, the channels of the model.
    """
    logs = []
    for size in BATCH_SIZES:
        for signature, inputs in _requests(size, channels):
            log = messages.PredictionLog()
            log.predict_log.request.CopyFrom(messages.predict_request(inputs, signature))
            logs.append(log.SerializeToString())
    return tfrecord.encode(logs)


def read(model):
    """Returns the warm-up requests of a SavedModel.

    Args:
        model: path of the SavedModel.

    Returns:
        List of pairs: the signature, and a dict of the name of each input to its array.

    Raises:
        ValueError: the file is damaged, or contains another kind of request.
        OSError: there is no such file, or it cannot be read.
    """
    requests = []
    for record in tfrecord.decode((model / layout.WARMUP).read_bytes()):
        try:
            log = messages.PredictionLog.FromString(record)
        except DecodeError as error:
            raise ValueError(f"record {len(requests) + 1} is not a PredictionLog") from error
        if not log.HasField("predict_log"):
            raise ValueError(f"record {len(requests) + 1} is not a request to predict")
        request = log.predict_log.request
        inputs = {name: messages.from_tensor(value) for name, value in request.inputs.items()}
        requests.append((request.model_spec.signature_name or "serving_default", inputs))
    return requests


def _requests(size, channels):
    images = [_pattern(i) for i in range(len(FORMATS))]
    files = [_file(image, form) for image, form in zip(images, FORMATS, strict=True)]
    pixels = [_grey(image)[..., None] if channels == 1 else image for image in images]
    rows = [i % len(FORMATS) for i in range(size)]
    yield "serving_default", {"image_bytes": [files[row] for row in rows]}
    yield "pixels", {"pixels": np.stack([pixels[row] for row in rows])}


def _pattern(seed, height=20, width=24):
    """Makes a small colour image with edges and gradients, uint8 `(height, width, 3)`."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * (seed + 2) + y * k) % 256 ^ ((x // 8 + y // 8) % 2 * 96) for k in (1, 3, 5)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def _grey(image):
    return image.mean(axis=-1).astype(np.uint8)


def _file(image, form):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form)
    return buffer.getvalue()
