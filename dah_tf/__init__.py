"""Supervised deep hashing for image retrieval.

The names below are loaded when they are first used, so that `import dah_tf` starts at once:

    run = dah_tf.train(dah_tf.Recipe(dataset="digits", bits=36, backbone="compact"))
    encoder = dah_tf.Encoder("pretrained:cifar10-compact-36")
    index = dah_tf.open_index("photos.index")
"""

import importlib
import sys
import types
import typing

__version__ = "0.3.0"

if typing.TYPE_CHECKING:
    from dah_tf import metrics as metrics
    from dah_tf.data.datasets import load as load_data
    from dah_tf.encoding import Encoder as Encoder
    from dah_tf.encoding import encode_folder as encode_folder
    from dah_tf.errors import UserError as UserError
    from dah_tf.index import Index as Index
    from dah_tf.index import open_index as open_index
    from dah_tf.model import HashModel as HashModel
    from dah_tf.runs.recipe import Recipe as Recipe
    from dah_tf.serving import Client as Client
    from dah_tf.training.build import load_model as load_model
    from dah_tf.training.evaluating import evaluate as evaluate
    from dah_tf.training.session import train as train

# This maps each public name to the module that defines it and to its name in that module.
_PUBLIC = {
    "Client": ("dah_tf.serving", "Client"),
    "Encoder": ("dah_tf.encoding", "Encoder"),
    "HashModel": ("dah_tf.model", "HashModel"),
    "Index": ("dah_tf.index", "Index"),
    "Recipe": ("dah_tf.runs.recipe", "Recipe"),
    "UserError": ("dah_tf.errors", "UserError"),
    "encode_folder": ("dah_tf.encoding", "encode_folder"),
    "evaluate": ("dah_tf.training.evaluating", "evaluate"),
    "load_data": ("dah_tf.data", "load"),
    "load_model": ("dah_tf.training.build", "load_model"),
    "metrics": ("dah_tf.metrics", None),
    "open_index": ("dah_tf.index", "open_index"),
    "train": ("dah_tf.training.session", "train"),
}

__all__ = [
    "Client",
    "Encoder",
    "HashModel",
    "Index",
    "Recipe",
    "UserError",
    "__version__",
    "encode_folder",
    "evaluate",
    "load_data",
    "load_model",
    "metrics",
    "open_index",
    "train",
]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    found = importlib.import_module(module)
    return found if attribute is None else getattr(found, attribute)


def __dir__():
    return sorted({*globals(), *_PUBLIC})


class _Package(types.ModuleType):
    """The package. `dah_tf.train` stays the function when the command of that name is imported."""

    def __setattr__(self, name, value):
        command = isinstance(value, types.ModuleType) and name in _PUBLIC and name != "metrics"
        if not command:
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
