"""This module opens stored models and weights, and explains why a file cannot be opened.

If a file is missing, damaged, or written by a newer version, an error of one line says so. Any
other failure is a mistake in a program, and its traceback is kept.
"""

import importlib
import json
import pathlib
import re
import warnings
import zipfile
import zlib

import keras
import numpy as np

from dah_tf import __version__
from dah_tf.errors import UserError
from dah_tf.model.hash_model import HashModel

METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
RESTORE = "restore it from a copy"


def load(path, *, versions: dict | None = None, remedy: str = RESTORE) -> HashModel:
    """Reads a `.keras` file.

    Args:
        path: path of the file.
        versions: dict of package name to the version that wrote the file, as far as these
            versions are known from elsewhere. The version of Keras is read from the file.
        remedy: str, what the user can do about a damaged file. The message ends with it.

    Returns:
        `HashModel` that is not compiled.

    Raises:
        UserError: the file is missing, cannot be read or is damaged. This error is also raised
            if the file holds a class or a hash method that the installed versions do not have,
            or if a newer version wrote the file and it cannot be loaded.
    """
    path = pathlib.Path(path)
    metadata, config = _read(path, remedy)
    versions = {**(versions or {}), "keras": metadata.get("keras_version")}
    if unknown := _unknown(config):
        raise UserError(f"{path} holds {unknown}, which {_installed()} do not have; {_other()}")
    try:
        with warnings.catch_warnings():
            # If weights do not fit, Keras warns once for each layer before it raises an error.
            warnings.simplefilter("ignore", UserWarning)
            return keras.saving.load_model(path, {"HashModel": HashModel}, compile=False)
    except UserError as error:  # the method is unknown here
        raise UserError(f"{path}: {error}; {_other()}") from error
    except OSError as error:  # h5py raises this error
        raise _damaged(path, error, remedy) from error
    except (TypeError, ValueError) as error:
        if newer := _newer(versions):
            raise UserError(
                f"{path} was written by {newer} and cannot be loaded by {_installed()}; install "
                "the version that wrote it"
            ) from error
        raise


def load_weights(model: keras.Model, path, what: str):
    """Gives a model the weights in a file.

    Args:
        model: `keras.Model`.
        path: path of a `.weights.h5`, `.h5` or `.keras` file.
        what: str, the name of the file in messages, such as "backbone_weights=FILE".

    Raises:
        UserError: the file is missing, has another format, is damaged, or belongs to another
            network.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"{what} is not there; name a file of weights")
    if path.suffix not in (".h5", ".keras"):
        raise UserError(f"{what} is not a .h5 or .keras file; name a .weights.h5 file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model.load_weights(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{what} cannot be read: {_line(error)}") from error
    except ValueError as error:  # Keras raises this if shapes or layers differ.
        raise UserError(f"{what} does not fit {model.name}: {_line(error)}") from error


def load_arrays(model: keras.Model, path, remedy: str = RESTORE):
    """Gives a model the weights in an `.npz` file that numbers them in the model's order.

    Args:
        model: `keras.Model`.
        path: path of the file.
        remedy: str, what the user can do about a damaged file. The message ends with it.

    Raises:
        UserError: the file is missing, cannot be read or is damaged.
    """
    try:
        with np.load(path) as content:
            values = [content[str(number)] for number in range(len(model.weights))]
    except FileNotFoundError:
        raise UserError(f"{path} is not there; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error, remedy) from error
    model.set_weights(values)


def _read(path, remedy):
    """Reads the metadata and the configuration in a `.keras` file.

    It first checks that every byte of the file is as it was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {broken} is wrong")
            if missing := {METADATA, CONFIG, WEIGHTS} - {*archive.namelist()}:
                raise zipfile.BadZipFile(f"it has no {min(missing)}")
            return tuple(json.loads(archive.read(name)) for name in (METADATA, CONFIG))
    except FileNotFoundError:
        raise UserError(f"{path} is not there; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error, remedy) from error


def _damaged(path, error, remedy):
    return UserError(f"{path} is damaged ({_line(error)}); {remedy}")


def _line(error):
    """Returns the first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unknown(config):
    """Returns the name of the first class in a configuration that is missing here, or None."""
    if isinstance(config, list):
        return next(filter(None, map(_unknown, config)), None)
    if not isinstance(config, dict):
        return None
    name, module = config.get("class_name"), config.get("module")
    if name and module and not _known(name, module, config.get("registered_name")):
        return name
    return _unknown([*config.values()])


def _known(name, module, registered):
    if registered and keras.saving.get_registered_object(registered) is not None:
        return True
    package = module.partition(".")[0]
    if package == "builtins":
        return True
    if package not in ("keras", "dah_tf"):  # A file may not import anything else.
        return False
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if not module.startswith(error.name):  # The module exists, but an import in it fails.
            raise
        return False


def _newer(versions):
    """Lists as text the packages that are newer in the file than here, or returns ""."""
    here = {"dah_tf": __version__, "keras": keras.__version__}
    return " and ".join(
        f"{name} {versions[name]}"
        for name in here
        if versions.get(name) and _numbers(versions[name]) > _numbers(here[name])
    )


def _numbers(version):
    """Returns a version as a list of numbers: `3.15.1` becomes `[3, 15, 1]`.

    The list of a newer version is the larger one in a comparison.
    """
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def _installed():
    return f"dah_tf {__version__} and Keras {keras.__version__}"


def _other():
    return "a newer version may have written it; install that version"
