"""Features of a whole data set under a backbone that does not change, computed once and kept.

They are kept in the cache folder, by the fingerprints of data and backbone, so that runs of other
methods and lengths on the same features take only the time of their fit.
"""

import contextlib
import hashlib
import json
import os
import pathlib

import numpy as np

from dah_tf.errors import UserError
from dah_tf.files import durable

PART = 2048  # images described at a time
MOST = 4 * 2**30  # bytes that are kept; features that take more are computed where they are needed


def features(model, dataset):
    """The features of every image of a data set.

    Args:
        model: `HashModel`.
        dataset: `data.Dataset`.

    Returns:
        float32 array of shape `(n, d)`, mapped from a file; None where they would take more than
        4 GiB.

    Raises:
        UserError: the cache cannot be written.
    """
    shape = len(dataset.images), model.backbone.output_shape[-1]
    if 4 * shape[0] * shape[1] > MOST:
        return None
    path = _folder() / f"{_name(model.backbone, dataset)}.npy"
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


def _folder():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(cache) / "dah_tf" / "features"


def _name(backbone, dataset):
    """Names the pixels and the backbone: the same name means the same features."""
    digest = hashlib.sha256(json.dumps(backbone.get_config(), sort_keys=True, default=str).encode())
    for value in backbone.get_weights():
        digest.update(np.ascontiguousarray(value))
    source = f"{dataset.fingerprint}-{dataset.images.size}x{dataset.images.channels}"
    return f"{source}-{backbone.name}-{digest.hexdigest()[:16]}"


def _read(path, shape):
    # A file of another form is damaged, and is written again.
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
