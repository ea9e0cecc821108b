"""The search service: an HTTP API over an index and an encoder.

`python -m dah_tf.app` starts it. `Settings` declares what it may do, `serve` runs it, and
`SearchClient` talks to it. Only `serve` and `create_app` need the packages of the extra `app`.
"""

import importlib
import typing

from dah_tf.web.client import SearchClient, SearchError
from dah_tf.web.settings import Settings

if typing.TYPE_CHECKING:
    from dah_tf.web.application import create_app as create_app
    from dah_tf.web.server import serve as serve

__all__ = ["SearchClient", "SearchError", "Settings", "create_app", "serve"]

_LATER = {"create_app": "application", "serve": "server"}


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
