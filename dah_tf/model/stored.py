"""Opens models and weights that were stored, and says why one cannot be opened.

A file that is missing, damaged, or written by a newer version is explained in one line. Whatever
else goes wrong is a mistake in a program, and keeps its traceback.
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
        versions: dict of the versions, by package, that wrote the file, as far as they are known
            from elsewhere; the file itself tells that of Keras.
        remedy: what to do about a damaged file; the message ends with it.

    Returns:
        `HashModel`, not compiled.

    Raises:
        UserError: the file is missing, cannot be read or is damaged; or it holds a class, or a
            hash method, that the installed versions do not have; or it was written by a newer
            version and cannot be loaded.
    """
    path = pathlib.Path(path)
    metadata, config = _read(path, remedy)
    versions = {**(versions or {}), "keras": metadata.get("keras_version")}
    if unknown := _unknown(config):
        raise UserError(f"{path} holds {unknown}, which {_installed()} do not have; {_other()}")
    try:
        with warnings.catch_warnings():
            # Of weights that do not fit Keras warns once for each layer before it raises.
            warnings.simplefilter("ignore", UserWarning)
            return keras.saving.load_model(path, {"HashModel": HashModel}, compile=False)
    except UserError as error:  # of a method that is unknown here
        raise UserError(f"{path}: {error}; {_other()}") from error
    except OSError as error:  # of h5py
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
        what: how a message names the file, such as "backbone_weights=FILE".

    Raises:
        UserError: the file is missing, is none of these, is damaged or is of another network.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"{what} is not there; name a file of weights")
    if path.suffix not in (".h5", ".keras"):
        raise UserError(f"{what} is of another kind; name a .weights.h5 file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model.load_weights(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{what} cannot be read: {_line(error)}") from error
    except ValueError as error:  # Keras' way to say that shapes or layers differ
        raise UserError(f"{what} does not fit {model.name}: {_line(error)}") from error


def load_arrays(model: keras.Model, path, remedy: str = RESTORE):
    """Gives a model the weights in an `.npz` file that numbers them in the model's order.

    Args:
        model: `keras.Model`.
        path: path of the file.
        remedy: what to do about a damaged file; the message ends with it.

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
    """Metadata and configuration in a `.keras` file of which every byte is as it was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise zipfile.BadZipFile(f"{broken} is not what was written")
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
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unknown(config):
    """The first class in a configuration that is not to be had here: its name, or None."""
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
    if package not in ("keras", "dah_tf"):  # a file may not have anything else imported
        return False
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if not module.startswith(error.name):  # a module that is there lacks another
            raise
        return False


def _newer(versions):
    """The packages that are newer in the file than here, as text; "" where there are none."""
    here = {"dah_tf": __version__, "keras": keras.__version__}
    return " and ".join(
        f"{name} {versions[name]}"
        for name in here
        if versions.get(name) and _numbers(versions[name]) > _numbers(here[name])
    )


def _numbers(version):
    """A version's numbers, of which the larger is the newer: `3.15.1` is `[3, 15, 1]`."""
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def _installed():
    return f"dah_tf {__version__} and Keras {keras.__version__}"


def _other():
    return "a newer version may have written it: install that"
