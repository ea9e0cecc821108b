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

from dah_tf.index.engines import BACKENDS
from dah_tf.index.hits import Neighbours, Within
from dah_tf.index.index import Index

__all__ = ["BACKENDS", "Index", "Neighbours", "Within", "at", "open_index"]


def at(path):
    """The class of index that a path means: `MilvusIndex` for `milvus:...`, else `Index`."""
    from dah_tf.index.milvus import MilvusIndex, is_milvus

    return MilvusIndex if is_milvus(path) else Index


def open_index(path, backend: str | None = None):
    """Opens an index, in a folder or in Milvus.

    Args:
        path: path of its folder, or `milvus:URI/COLLECTION`.
        backend: how this object searches; None is as the index was made.

    Returns:
        `Index`, or for Milvus `MilvusIndex`, which has the same methods.

    Raises:
        UserError: there is no index, or it cannot be read.

    Example:
        >>> index = open_index("photos.index")
        >>> distances, ids = index.search(codes, k=10)
    """
    return at(path).open(path, backend)
