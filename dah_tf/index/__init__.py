"""Stores packed binary codes with 64-bit ids, and finds the nearest. NumPy and faiss.

An index is a folder: `manifest.json` and, in `segments/`, arrays `NUMBER-NAME.npy` that
`numpy.load` reads. A segment NUMBER has these NAMEs:

- `codes`: uint8 `(entries, width)`, packed, zeros behind to a width of 4, 8, 16, 20 or 32 bytes.
- `ids`: int64 `(rows,)`.
- `starts`: uint32 `(entries + 1,)`, only where equal codes are stored once: the rows of entry e
  are `starts[e]` to `starts[e + 1]`. Without it, entry and row are the same.
- `alive-N`: uint8, only where rows were removed: bit i % 8 of byte i // 8, the least significant
  first, is 1 where row i is not removed.
- `keys`, `keys_starts`, `labels`, `labels_starts`: strings by row, see `texts`.
- `tableI`, `bucketsI`: in large segments, the tables of multi-index hashing, see `tables`.
- `approximate`: for approximate backends, a faiss index, serialised.

A removed item's row stays until `compact`.
"""

import importlib
import os

from dah_tf.index.calibration import RecallWarning
from dah_tf.index.engines import BACKENDS
from dah_tf.index.hits import Neighbours, Within
from dah_tf.index.index import Index
from dah_tf.index.store import Store

__all__ = [
    "BACKENDS",
    "Index",
    "Neighbours",
    "RecallWarning",
    "Store",
    "Within",
    "at",
    "create_index",
    "open_index",
]

# What keeps an index, by the scheme of its address; without a scheme it is a folder.
STORES = {"milvus": "dah_tf.index.milvus:MilvusIndex"}


def at(path: str | os.PathLike) -> type[Store]:
    """The kind of store that an address means: `MilvusIndex` for `milvus:...`, else `Index`."""
    scheme, colon, _ = str(path).partition(":")
    if not colon or scheme not in STORES:
        return Index
    module, _, name = STORES[scheme].partition(":")
    return getattr(importlib.import_module(module), name)


def open_index(path: str | os.PathLike, backend: str | None = None) -> Store:
    """Opens an index, wherever it is.

    Args:
        path: a folder, or `milvus:URI/COLLECTION`.
        backend: how it is searched, as in `Store.open`; None is as the index was made.

    Raises:
        UserError: no index, a damaged one, or a backend that it does not have.

    Example:
        >>> with open_index("photos.index") as index:
        ...     distances, ids = index.search(codes, k=10)
    """
    return at(path).open(path, backend)


def create_index(path: str | os.PathLike, bits: int, **settings) -> Store:
    """Makes an index, wherever it is to be.

    Args:
        path: a folder that does not exist, or `milvus:URI/COLLECTION`.
        bits: code length, 8 to 256.
        **settings: what else `Store.create` takes.

    Raises:
        UserError: bad arguments, or the index cannot be made.

    Example:
        >>> index = create_index("photos.index", 48, backend="hnsw:recall=0.99", codes=codes)
    """
    return at(path).create(path, bits, **settings)
