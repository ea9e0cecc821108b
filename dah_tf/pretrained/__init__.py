"""Ready-made models: `pretrained:NAME` stands for the work folder of a run that ships with dah_tf.

A model lies beside this file as `NAME/`: `flags.json` and the last line of `metrics.jsonl` as the
run left them, `weights.npz`, and `evaluation.json` of these weights. On first use a process of its
own builds from them, in the user's cache, the folder that the run had, with `model.keras` and
`export/1/`.
`tools/ready_made.py` adds a model.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import subprocess
import sys
import tempfile

from dah_tf import __version__
from dah_tf.errors import UserError

PREFIX = "pretrained:"
FLAGS, RESULT, LAST, WEIGHTS = "flags.json", "evaluation.json", "metrics.jsonl", "weights.npz"
SHIPPED = pathlib.Path(__file__).parent


def names():
    """The ready-made models: list of str, sorted."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{WEIGHTS}"))


def is_name(path):
    """Whether a path is a ready-made model's name."""
    return str(path).startswith(PREFIX)


def folder(path):
    """The folder that a path stands for.

    Args:
        path: path, or "pretrained:NAME".

    Returns:
        `path` itself; or for a name the `pathlib.Path` of a work folder in `$XDG_CACHE_HOME/dah_tf`
        (without the variable, `~/.cache/dah_tf`), which is made where it is missing.

    Raises:
        UserError: no such model, or the cache cannot be written.
    """
    if not is_name(path):
        return path
    name = str(path).removeprefix(PREFIX)
    if name not in names():
        known = ", ".join(PREFIX + each for each in names()) or "none"
        raise UserError(f"there is no ready-made model {name!r}; known: {known}")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    made = cache / "dah_tf" / f"{name}-{_version(SHIPPED / name)}"
    if not os.path.isdir(made):
        print(f"unpacking {path} to {made}, once", file=sys.stderr)
        try:
            made.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=made.parent).close()
        except OSError as error:
            raise UserError(
                f"cannot write to {made.parent} ({error.strerror}); set XDG_CACHE_HOME to a folder"
            ) from error
        # Of its own: this process may run Keras on JAX, hold the GPU, or not need Keras at all.
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, "-m", "dah_tf.pretrained", name, str(made)]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise UserError(f"cannot unpack {path} to {made}: {reason.removeprefix('error: ')}")
    return made


def exported(path):
    """As `folder`, but for a name the folder of its SavedModel's versions."""
    return folder(path) / "export" if is_name(path) else path


def _version(shipped):
    """Names what a folder in the cache was made from."""
    versions = [importlib.metadata.version(package) for package in ("keras", "tensorflow")]
    digest = hashlib.sha256(" ".join([__version__, *versions]).encode())
    for part in (FLAGS, RESULT, LAST, WEIGHTS):
        digest.update((shipped / part).read_bytes())
    return digest.hexdigest()[:12]
