"""The folder for what can be made again at any time."""

import os
import pathlib


def folder() -> pathlib.Path:
    """Returns `$XDG_CACHE_HOME/dah_tf`, or `~/.cache/dah_tf` without this variable.

    The folder is not made.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(cache) / "dah_tf"
