"""This module writes and reads checkpoints, which hold all variables of a run and its step.

A checkpoint is one `.npz` file. It holds the arrays in order, their names, the step, and facts
that must agree on restore. A new file is first written under a temporary name, then fsynced and
renamed, so that a failure while writing never damages an earlier checkpoint. The last two
checkpoints are kept. The module needs only NumPy.
"""

import itertools
import json
import pathlib
import zipfile

import numpy as np

from dah_tf.errors import UserError
from dah_tf.files import durable

KEEP = 2


class NotFinite(ArithmeticError):
    """This error says that a variable holds NaN or infinity. Nothing was written."""


def save(folder, step, variables, facts):
    """Writes `folder/step-STEP.npz` and deletes all checkpoints except the last two.

    STEP is the number of the step with 8 digits.

    Args:
        folder: path of the folder, which is made if it is missing.
        step: int, the number of optimiser steps done.
        variables: Keras variables in a fixed order.
        facts: dict that can be written as JSON and that `restore` compares. It holds, for
            example, the back end.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        NotFinite: a variable is not finite.
        OSError: the disk is full or not writable. Earlier checkpoints are untouched.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for i, variable in enumerate(variables):
        array = np.asarray(variable)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise NotFinite(variable.path)
        arrays[f"v{i:05d}"] = array
    meta = {"step": step, "facts": facts, "names": [v.path for v in variables]}
    path = folder / f"step-{step:08d}.npz"
    with durable.replacing(path) as file:
        np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
    for old in files(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    for stale in folder.glob(".step-*.tmp"):
        stale.unlink(missing_ok=True)
    return path


def files(folder):
    """Lists the checkpoints in `folder`, with the oldest first."""
    return sorted(pathlib.Path(folder).glob("step-*.npz"))


def read(folder):
    """Reads the newest readable checkpoint of `folder`.

    Returns:
        None if there are no checkpoints, or else a tuple of the path, a dict of metadata and the
        arrays in order. If the newest file is damaged, the file before it is read.

    Raises:
        UserError: there are checkpoints but none can be read, or this user may not read them.
    """
    found, reason = files(folder), None
    for path in reversed(found):
        try:
            with np.load(path) as content:
                meta = json.loads(content["meta"].tobytes())
                return path, meta, [content[f"v{i:05d}"] for i in range(len(meta["names"]))]
        except PermissionError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}; allow reading it") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = reason or str(error) or type(error).__name__
    if found:
        raise UserError(
            f"no checkpoint in {folder} can be read ({reason}); restore one from a copy, or delete "
            "the folder to start anew"
        )
    return None


def restore(folder, variables, facts, without=None):
    """Assigns the newest checkpoint to `variables`.

    Args:
        folder, variables, facts: the same as in `save`.
        without: str, a path. Variables that the checkpoint holds below this path are left out.

    Returns:
        int, the step, or None if there is no checkpoint.

    Raises:
        UserError: the checkpoint belongs to other variables or facts. Nothing was assigned.
    """
    found = read(folder)
    if found is None:
        return None
    path, meta, arrays = found
    for name, value in facts.items():
        if meta["facts"].get(name) != value:
            raise UserError(
                f"{path} was written with {name}={meta['facts'].get(name)}, but this run has "
                f"{name}={value}; use the same value, or another workdir"
            )
    if without:
        kept = [not name.startswith(f"{without}/") for name in meta["names"]]
        meta["names"] = [*itertools.compress(meta["names"], kept)]
        arrays = [*itertools.compress(arrays, kept)]
    ours = [(v.path, tuple(v.shape)) for v in variables]
    theirs = [(n, a.shape) for n, a in zip(meta["names"], arrays, strict=True)]
    if ours != theirs:
        other = next(
            (pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]),
            (f"{len(ours)} variables", f"{len(theirs)} variables"),
        )
        raise UserError(
            f"{path} does not fit this model: it has {other[1]} where the model has {other[0]}; use "
            "another workdir"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return meta["step"]
