"""Ready-made models: `pretrained:NAME` means the folder of a run that comes with dah_tf.

A model is a folder `NAME` next to this file. It contains `flags.json` and the last line of
`metrics.jsonl` of the run, `weights.npz`, and the `evaluation.json` of these weights. The first use
copies them to the user's cache, and a separate process exports the SavedModel there, as
`export/1/`. `tools/ready_made.py` adds a model.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from dah_tf import __version__
from dah_tf.errors import UserError
from dah_tf.files import cache, durable

PREFIX = "pretrained:"
FLAGS, RESULT, LAST, WEIGHTS = "flags.json", "evaluation.json", "metrics.jsonl", "weights.npz"
PARTS = (FLAGS, RESULT, LAST, WEIGHTS)
SHIPPED = pathlib.Path(__file__).parent


def names():
    """Returns the names of the ready-made models: a sorted list of str."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{WEIGHTS}"))


def is_name(path):
    """Says whether a path is the name of a ready-made model."""
    return str(path).startswith(PREFIX)


def folder(path):
    """Returns the folder that a path means.

    Args:
        path: path, or "pretrained:NAME".

    Returns:
        `path` itself, or for a name the `pathlib.Path` of a run's folder in the cache. The cache is
        `$XDG_CACHE_HOME/dah_tf`, or `~/.cache/dah_tf` without this variable. The folder is made if
        it is missing.

    Raises:
        UserError: there is no such model, or the cache cannot be written.
    """
    if not is_name(path):
        return path
    name = str(path).removeprefix(PREFIX)
    if name not in names():
        known = ", ".join(PREFIX + each for each in names()) or "none"
        raise UserError(f"there is no ready-made model {name!r}; the known ones are: {known}")
    made = cache.folder() / f"{name}-{_version(SHIPPED / name)}"
    if not os.path.isdir(made):
        print(f"unpacking {path} to {made} (only once)", file=sys.stderr)
        try:
            made.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", dir=made.parent) as hidden:
                _unpack(SHIPPED / name, pathlib.Path(hidden, name), path)
                _publish(pathlib.Path(hidden, name), made)
        except OSError as error:
            raise UserError(
                f"cannot write to {made.parent} ({error.strerror or error}); "
                "set XDG_CACHE_HOME to a folder"
            ) from error
    return made


def _unpack(shipped, folder, path):
    """Makes the folder of a run from the files in the package, with its SavedModel.

    Raises:
        UserError: the SavedModel cannot be made.
    """
    folder.mkdir()
    for part in PARTS:
        shutil.copyfile(shipped / part, folder / part)
    # A separate process exports the model. This one may run Keras on JAX, may use the GPU, or may
    # not need Keras at all.
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", "dah_tf.export", f"--workdir={folder}"]
    command.append(f"--output={folder / 'export' / '1'}")
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 2):  # 2 is one line of explanation
        raise RuntimeError(
            f"exporting {path} ended with exit code {done.returncode}:\n{done.stderr}"
        )
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise UserError(f"cannot unpack {path}: {reason.removeprefix('error: ')}")


def _publish(folder, made):
    """Moves a complete folder to its place. If another process was faster, its folder stays."""
    for each, _, files in os.walk(folder):
        for file in (*files, "."):
            durable.sync(pathlib.Path(each, file))
    try:
        os.rename(folder, made)
    except OSError:
        if not made.is_dir():
            raise
    durable.sync(made.parent)


def exported(path):
    """Does the same as `folder`, but for a name it returns the folder with its SavedModels."""
    return folder(path) / "export" if is_name(path) else path


def _version(shipped):
    """Returns a str that identifies the content of a folder in the cache."""
    versions = [importlib.metadata.version(package) for package in ("keras", "tensorflow")]
    digest = hashlib.sha256(" ".join([__version__, *versions]).encode())
    for part in PARTS:
        digest.update((shipped / part).read_bytes())
    return digest.hexdigest()[:12]
