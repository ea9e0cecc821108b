"""A model's folder as TensorFlow Serving reads it: a version a folder, `MODELS/dah/1`."""

import re
from pathlib import Path

from dah_tf.errors import UserError

GRAPH = "saved_model.pb"
VARIABLES = "variables/variables.index"
WARMUP = "assets.extra/tf_serving_warmup_requests"
DESCRIPTION = "dah.json"


def versions(model):
    """The version folders of a model.

    Args:
        model: path of the model's folder.

    Returns:
        Dict, version number to path, in ascending order: TensorFlow Serving serves the last.

    Raises:
        UserError: no such folder, or it cannot be read.
    """
    try:
        children = list(Path(model).iterdir())
    except OSError as error:
        raise UserError(f"cannot read the folder {model}: {error.strerror}") from error
    found = {
        int(path.name): path
        for path in sorted(children)
        if re.fullmatch(r"[0-9]+", path.name) and int(path.name) < 2**63
    }
    return dict(sorted(found.items()))


def saved_model(path, version=None):
    """The SavedModel that a path stands for.

    Args:
        path: a SavedModel, or a folder of its versions.
        version: int, or None for the highest.

    Returns:
        Path of the SavedModel.

    Raises:
        UserError: there is none, or not of this version.
    """
    path = Path(path)
    if (path / GRAPH).is_file():
        if version is not None and path.name != str(version):
            raise UserError(f"{path} is one SavedModel, not a folder that has a version {version}")
        return path
    found = versions(path)
    if not found:
        raise UserError(f"{path} holds neither a SavedModel nor version folders such as {path}/1")
    if version is None:
        version = max(found)
    if version not in found:
        raise UserError(f"{path} has no version {version}, but {', '.join(map(str, found))}")
    return found[version]
