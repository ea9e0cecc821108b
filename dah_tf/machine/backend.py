"""Which back end Keras will run on, told without importing it. Standard library only."""

import json
import os
import pathlib
import sys

from dah_tf.errors import UserError

TRAINING = ("tensorflow", "jax")
"""The back ends that a model is trained and measured on."""

EXPORTING = ("tensorflow",)
"""The back ends that a model is exported from."""


def chosen() -> tuple[str, str]:
    """The back end's name, and how it was chosen: the text that a message begins with.

    It is that of `KERAS_BACKEND`, or where that is not set of Keras' own file; of a process that
    has imported Keras it is the one that Keras runs on.
    """
    if loaded := sys.modules.get("keras"):
        name = loaded.backend.backend()
        return name, f"Keras runs on {name}, which"
    if name := os.environ.get("KERAS_BACKEND"):
        return name, f"KERAS_BACKEND={name}"
    folder = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
    path = pathlib.Path(folder, "keras.json")
    try:
        name = json.loads(path.read_text()).get("backend", "tensorflow")
    except (OSError, ValueError, AttributeError):  # Keras passes over such a file too
        name = "tensorflow"
    return name, f"{path} names the back end {name}, which"


def check(supported: tuple[str, ...] = TRAINING):
    """Refuses a back end before it is imported.

    Args:
        supported: names of those that do.

    Raises:
        UserError: Keras runs on another, or would.
    """
    name, told = chosen()
    if name in supported:
        return
    if supported == EXPORTING:
        raise UserError(f"{told} is not for exporting; set KERAS_BACKEND=tensorflow")
    raise UserError(
        f"{told} is not supported; set KERAS_BACKEND to tensorflow, or to jax for training"
    )
