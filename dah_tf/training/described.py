"""This module computes and keeps the features of a whole data set under a fixed backbone.

The features are computed only once. They are kept in the cache folder under the fingerprints of
the data and of the backbone. Runs with other methods and code lengths on the same features then
need only the time of their fit.
"""

import contextlib
import hashlib
import json

import numpy as np

from dah_tf.errors import UserError
from dah_tf.files import cache, durable

PART = 2048  # the number of images whose features are computed at a time
# Features of more bytes than this are not kept. They are computed where they are needed.
MOST = 4 * 2**30


def features(model, dataset):
    """Returns the features of every image of a data set.

    Args:
        model: `HashModel`.
        dataset: `data.Dataset`.

    Returns:
        float32 array of shape `(n, d)` that is mapped from a file, or None if the features
        would take more than 4 GiB.

    Raises:
        UserError: the cache cannot be written.
    """
    shape = len(dataset.images), model.backbone.output_shape[-1]
    if 4 * shape[0] * shape[1] > MOST:
        return None
    path = cache.folder() / "features" / f"{_name(model.backbone, dataset)}.npy"
    found = _read(path, shape)
    if found is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with durable.replacing(path) as file:
                _write(file, model, dataset, shape)
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror}; free space, or name another folder by "
                "XDG_CACHE_HOME"
            ) from error
        found = _read(path, shape)
    return found


def _name(backbone, dataset):
    """Makes a file name from the pixels and the backbone.

    If two names are equal, the features are equal too.
    """
    digest = hashlib.sha256(json.dumps(backbone.get_config(), sort_keys=True, default=str).encode())
    for value in backbone.get_weights():
        digest.update(np.ascontiguousarray(value))
    source = f"{dataset.fingerprint}-{dataset.images.size}x{dataset.images.channels}"
    return f"{source}-{backbone.name}-{digest.hexdigest()[:16]}"


def _read(path, shape):
    # A file with another shape or type is damaged and will be written again.
    with contextlib.suppress(OSError, ValueError, EOFError):
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.shape == shape and found.dtype == np.float32:
            return found
    return None


def _write(file, model, dataset, shape):
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for first in range(0, shape[0], PART):
        rows = np.arange(first, min(first + PART, shape[0]))
        found = model.outputs(dataset.images.read(rows), mirror=False)["features"]
        file.write(np.ascontiguousarray(found, "<f4").tobytes())
