"""Saves fitted methods as `.npz` files without pickled objects. NumPy only."""

import json
import pathlib
import zipfile
import zlib

import numpy as np

from dah_tf import parts
from dah_tf.errors import UserError
from dah_tf.files import durable

FORMAT, VERSION = "dah_tf shallow method", 1
ABOUT = "about"
AGAIN = "fit it again and save it"


def save(method, path):
    """Writes a fitted method. `base.Hasher.save` describes it."""
    path = pathlib.Path(path)
    arrays = {name: np.asarray(getattr(method, name)) for name in method.STATE}
    about = {
        "format": FORMAT,
        "version": VERSION,
        "class": type(method).__name__,
        "parameters": {name: _plain(value) for name, value in method.get_params().items()},
        "features": int(method.n_features_in_),
    }
    try:
        with durable.replacing(path) as file:
            np.savez(file, **{ABOUT: np.array(json.dumps(about))}, **arrays)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def load(path, methods):
    """Returns the fitted method of a file. `baselines.load` describes it.

    Args:
        path: path of the file.
        methods: the table of methods, which must contain the class that the file names.
    """
    path = pathlib.Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        about = json.loads(str(content.pop(ABOUT)))
        form, version = about["format"], about["version"]
    except FileNotFoundError:
        raise UserError(f"{path} is not there; fit a method and save it there") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        raise UserError(f"{path} is damaged or not a .npz file; {AGAIN}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UserError(f"{path} does not contain a shallow method of dah_tf; {AGAIN}") from None
    if form != FORMAT:
        raise UserError(f"{path} does not contain a shallow method of dah_tf; {AGAIN}")
    if version != VERSION:
        raise UserError(
            f"{path} has format {version}, but this dah_tf reads format {VERSION}; use the dah_tf "
            f"that wrote it, or {AGAIN}"
        )
    classes = {each.__name__: each for each in (parts.factory("m", n, methods) for n in methods)}
    try:
        method = classes[about["class"]](**about["parameters"])
        method.n_features_in_ = int(about["features"])
        fits = _fits(method, content)
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise UserError(f"{path} is damaged: its arrays are not those of a method; {AGAIN}")
    for name, array in content.items():
        setattr(method, name, array)
    return method


def _fits(method, arrays):
    """Returns whether the names, shapes and values of arrays form the state of a method."""
    if set(arrays) != set(method.STATE):
        return False
    sizes = {"d": method.n_features_in_, "k": method.n_bits}
    for name, letters in method.STATE.items():
        array = arrays[name]
        if array.ndim != len(letters) or array.dtype.kind not in "fi":
            return False
        if any(sizes.setdefault(each, n) != n for each, n in zip(letters, array.shape)):
            return False
        if not np.isfinite(array).all():
            return False
    return True


def _plain(value):
    """Converts a constructor argument to a value that JSON can store."""
    return value.item() if isinstance(value, np.generic) else value
