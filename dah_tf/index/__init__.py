"""Stores packed binary codes with 64-bit ids, and finds the nearest. NumPy and faiss.

An index is a folder with a file `manifest.json` and a subfolder `segments`. The latter contains
arrays `NUMBER-NAME.npy` that `numpy.load` reads. The segment NUMBER has arrays with these NAMEs:

- `codes`: uint8 `(entries, width)`, packed codes. Zeros fill them up to a width of 4, 8, 16, 20 or
  32 bytes.
- `ids`: int64 `(rows,)`.
- `starts`: uint32 `(entries + 1,)`. It exists only if equal codes are stored once. The rows of
  entry e are then `starts[e]` to `starts[e + 1]`. Without it, entry and row are the same.
- `alive-N`: uint8. It exists only if rows were removed. Bit i % 8 of byte i // 8, with the least
  significant bit first, is 1 if row i was not removed.
- `keys`, `keys_starts`, `labels`, `labels_starts`: the strings of each row; see `texts`.
- `tableI`, `bucketsI`: the tables of multi-index hashing, in large segments; see `tables`.
- `approximate`: a serialised faiss index, for approximate backends.

The row of a removed item stays until `compact`.
"""

import importlib
import os

from dah_tf.index.calibration import RecallWarning
from dah_tf.index.engines import BACKENDS
from dah_tf.index.failure import IndexBusyError, ItemNotFoundError, WrongModelError
from dah_tf.index.hits import Neighbours, Within
from dah_tf.index.index import Index
from dah_tf.index.store import Store

__all__ = [
    "BACKENDS",
    "Index",
    "IndexBusyError",
    "ItemNotFoundError",
    "Neighbours",
    "RecallWarning",
    "Store",
    "Within",
    "WrongModelError",
    "at",
    "create_index",
    "open_index",
]

# The kinds of store by the scheme of an address. An address without a scheme is a folder.
STORES = {"milvus": "dah_tf.index.milvus:MilvusIndex"}


def at(path: str | os.PathLike) -> type[Store]:
    """Returns the class for an address: `MilvusIndex` for `milvus:...`, otherwise `Index`."""
    scheme, colon, _ = str(path).partition(":")
    if not colon or scheme not in STORES:
        return Index
    module, _, name = STORES[scheme].partition(":")
    return getattr(importlib.import_module(module), name)


def open_index(path: str | os.PathLike, backend: str | None = None) -> Store:
    """Opens an index in a folder or in Milvus.

    Args:
        path: a folder, or `milvus:URI/COLLECTION`.
        backend: the backend that searches, as in `Store.open`. None is the one of the index.

    Raises:
        UserError: there is no index, it is damaged, or it does not have the backend.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[0, 0], [0, 3], [255, 255]], np.uint8)
        >>> index = create_index("photos.index", bits=16, codes=codes)
        >>> with open_index("photos.index") as index:
        ...     distances, ids = index.search(codes[:1], k=2)
        >>> distances.tolist(), ids.tolist()
        ([[0, 2]], [[0, 1]])
    """
    return at(path).open(path, backend)


def create_index(path: str | os.PathLike, bits: int, **settings) -> Store:
    """Makes an index in a folder or in Milvus.

    Args:
        path: a folder that does not exist, or `milvus:URI/COLLECTION`.
        bits: the code length, 8 to 256.
        **settings: the other arguments of `Store.create`.

    Raises:
        UserError: an argument is wrong, or the index cannot be made.

    Example:
        >>> index = create_index("photos.index", 48, backend="hnsw:recall=0.99", codes=codes)
    """
    return at(path).create(path, bits, **settings)
