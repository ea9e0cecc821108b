"""The folder of a model for TensorFlow Serving, with a subfolder for each version."""

import re
from pathlib import Path

from dah_tf.errors import UserError

GRAPH = "saved_model.pb"
VARIABLES = "variables/variables.index"
WARMUP = "assets.extra/tf_serving_warmup_requests"
DESCRIPTION = "dah.json"


def versions(model):
    """Returns the version folders of a model, such as `MODELS/dah/1`.

    Args:
        model: path of the model's folder.

    Returns:
        Dict of version number to path, in ascending order. TensorFlow Serving serves the last one.

    Raises:
        UserError: the folder does not exist or cannot be read.
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
    """Returns the SavedModel that a path means.

    Args:
        path: a SavedModel, or a folder that contains versions of one.
        version: int, or None for the highest.

    Returns:
        Path of the SavedModel.

    Raises:
        UserError: there is no SavedModel, or none of this version.
    """
    path = Path(path)
    if (path / GRAPH).is_file():
        if version is not None and path.name != str(version):
            raise UserError(f"{path} is a SavedModel, and not a folder with a version {version}")
        return path
    found = versions(path)
    if not found:
        raise UserError(f"{path} has neither a SavedModel nor a version folder such as {path}/1")
    if version is None:
        version = max(found)
    if version not in found:
        raise UserError(f"{path} has no version {version}, only {', '.join(map(str, found))}")
    return found[version]
