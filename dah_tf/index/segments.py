"""A segment: items that were written together and never change. Only their removal is recorded.

Trained codes coincide, so a segment may hold each distinct code once: then entry e's items are
rows `starts[e]` to `starts[e + 1]`. Without `starts`, row and entry are the same.
"""

import functools
import typing

import numpy as np

from dah_tf.index import approximate, disk, scan, tables, texts
from dah_tf.index.spans import spans

ROWS = 1 << 24  # the most in one segment: bounds the memory of sorting, and rows fit 32 bits
TABLES_FROM = 1 << 17  # entries: below, a scan takes no longer than the look-ups
BLOCK = 1 << 20


class Items(typing.NamedTuple):
    """Items in memory, one a row.

    Attributes:
        ids: int64 array of shape `(n,)`.
        codes: uint8 array of shape `(n, width)`, padded.
        keys, labels: None, or `(text, starts)` of `texts.encode`.
    """

    ids: np.ndarray
    codes: np.ndarray
    keys: tuple | None = None
    labels: tuple | None = None


class View(typing.NamedTuple):
    """The part of a segment that takes part in a search.

    Attributes:
        codes: uint8 array of shape `(entries, width)`.
        selector: None, or a bitmap of the entries with at least one item.
        count: int, the number of such entries.
        starts: None, or int array of shape `(entries + 1,)`: entry e has the items
            `rows[starts[e]:starts[e + 1]]`.
        rows: None where item i is row i, else uint32 array.
    """

    codes: np.ndarray
    selector: np.ndarray | None
    count: int
    starts: np.ndarray | None
    rows: np.ndarray | None


def arrays_of(items, bits, with_tables):
    """What a segment stores of some items.

    Args:
        items: `Items`, at most `ROWS` of them.
        bits: int, code length.
        with_tables: bool; adds the tables of multi-index hashing where they pay.

    Returns:
        Dict of name to array.
    """
    order, first = _group(items.codes, items.ids)
    width = items.codes.shape[1]
    arrays = {}
    # Grouped only where it takes less memory than the codes alone.
    if len(first) * (width + 4) < len(order) * width:
        arrays["codes"] = items.codes[order[first]]
        arrays["starts"] = np.append(first, len(order)).astype(np.uint32)
        items = take(items, order)
    else:
        arrays["codes"] = items.codes
    arrays["ids"] = items.ids
    for name, column in (("keys", items.keys), ("labels", items.labels)):
        if column is not None and len(column[0]):
            arrays[name], arrays[f"{name}_starts"] = column
    if with_tables and len(arrays["codes"]) >= TABLES_FROM:
        arrays |= tables.build(arrays["codes"], bits)
    return arrays


def _group(codes, ids):
    """Order that brings equal codes together, and where in it each distinct code begins.

    Items of one code are shuffled, always alike. A search that returns some of them takes the
    first: by id these would often be of one class, as folders and data sets are sorted.
    """
    lane = np.uint64 if codes.shape[1] % 8 == 0 else np.uint32
    lanes = np.ascontiguousarray(codes).view(lane)
    order = np.lexsort([_shuffled(ids), *lanes.T])
    changes = np.zeros(len(order), bool)
    changes[:1] = True
    for column in lanes.T:
        values = column[order]
        changes[1:] |= values[1:] != values[:-1]
    return order, np.flatnonzero(changes)


def _shuffled(ids):
    """A number for each id in no visible order: the last steps of SplitMix64 (Steele, 2014)."""
    mixed = ids.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed


def take(items, rows):
    """Some items, in the order of `rows`."""
    columns = [c and texts.take(*c, rows) for c in (items.keys, items.labels)]
    return Items(items.ids[rows], items.codes[rows], *columns)


def join(several):
    """Items, one after the other; where only some have keys or labels, the others have empty ones.

    Args:
        several: list of `Items`, at least one.
    """
    columns = []
    for name in ("keys", "labels"):
        parts = [getattr(items, name) for items in several]
        if any(part is not None for part in parts):
            parts = [
                (np.zeros(0, np.uint8), np.zeros(len(items.ids) + 1, np.int64))
                if part is None
                else part
                for part, items in zip(parts, several, strict=True)
            ]
            columns.append(texts.join(parts))
        else:
            columns.append(None)
    return Items(
        np.concatenate([items.ids for items in several]),
        np.concatenate([items.codes for items in several]),
        *columns,
    )


class Segment:
    """A segment on disk, mapped into memory.

    Args:
        folder: path of the index.
        entry: the segment's dict in the manifest: `name`, `rows`, `live`, `range` (least and
            greatest id) and `files`, which maps each array to its record of `files.write_array`.
        bits: int, code length.

    Raises:
        UserError: a file is damaged.
        FileNotFoundError: a file is missing.
    """

    def __init__(self, folder, entry, bits):
        self.entry, self.bits = entry, bits
        self.arrays = {
            name: disk.read_array(folder, record) for name, record in entry["files"].items()
        }
        self.codes, self.ids = self.arrays["codes"], self.arrays["ids"]
        self.starts, self.alive = self.arrays.get("starts"), self.arrays.get("alive")
        self._views = {}

    @property
    def live(self):
        """Number of items that are not removed."""
        return self.entry["live"]

    def living(self):
        """bool array of shape `(rows,)`: which items are not removed."""
        if self.alive is None:
            return np.ones(len(self.ids), bool)
        return np.unpackbits(self.alive, count=len(self.ids), bitorder="little").astype(bool)

    def items(self):
        """The `Items` that are not removed, in memory."""
        codes = self.codes
        if self.starts is not None:
            codes = np.repeat(codes, np.diff(self.starts.astype(np.int64)), axis=0)
        items = Items(self.ids, codes, self.column("keys"), self.column("labels"))
        return take(items, np.flatnonzero(self.living()))

    def codes_of(self, rows):
        """Padded codes of some rows: uint8 array of shape `(len(rows), width)`."""
        if self.starts is None:
            return self.codes[rows]
        return self.codes[np.searchsorted(self.starts, rows, side="right") - 1]

    def column(self, name):
        """`(text, starts)` of the keys or labels, or None."""
        text = self.arrays.get(name)
        return None if text is None else (text, self.arrays[f"{name}_starts"])

    def strings(self, name, rows):
        """List of the keys or labels of some rows, "" where there are none."""
        column = self.column(name)
        return [""] * len(rows) if column is None else texts.decode(*column, rows)

    @functools.cached_property
    def approximate(self):
        """The faiss index over the codes, read into memory; None where there is none.

        All threads search it at the same time: nothing may set anything in it.
        """
        array = self.arrays.get("approximate")
        return None if array is None else approximate.load(array)

    def find(self, ids):
        """Rows of those `ids` that are here and not removed.

        Args:
            ids: sorted int64 array without duplicates.

        Returns:
            int64 rows and the positions in `ids` that they belong to, each of shape `(found,)`.
        """
        least, greatest = self.entry["range"]
        wanted = ids[np.searchsorted(ids, least) : np.searchsorted(ids, greatest, side="right")]
        found = [np.zeros(0, np.int64)]
        if len(wanted):
            # A table of the lowest bits sorts nearly all rows out, many times faster than a search.
            maybe = np.zeros(1 << 16, bool)
            maybe[wanted & 0xFFFF] = True
            for start in range(0, len(self.ids), BLOCK):
                block = self.ids[start : start + BLOCK]
                rows = np.flatnonzero(maybe[block & 0xFFFF])
                place = np.minimum(np.searchsorted(wanted, block[rows]), len(wanted) - 1)
                found.append(start + rows[wanted[place] == block[rows]])
        rows = np.concatenate(found)
        rows = rows[scan.chosen(self.alive, rows)]
        return rows, np.searchsorted(ids, self.ids[rows])

    def without(self, rows):
        """The bitmap of living items after some more are removed."""
        living = self.living()
        living[rows] = False
        return np.packbits(living, bitorder="little")

    def view(self, label=None, key_prefix=None):
        """What takes part in a search: the items not removed, of a label, with a key's prefix."""
        wanted = (label, key_prefix)
        view = self._views.get(wanted)
        if view is None:
            view = self._view(label, key_prefix)
            # Only the latest filter is kept: each may take a byte for every four of ids. Another
            # thread may do the same meanwhile, so the dict is replaced and never changed.
            kept = {k: v for k, v in self._views.items() if k == (None, None)}
            self._views = {**kept, wanted: view}
        return view

    def _view(self, label, key_prefix):
        if label is None and key_prefix is None and self.alive is None:
            return View(self.codes, None, len(self.codes), self.starts, None)
        mask = self.living()
        for name, text, prefix in (("labels", label, False), ("keys", key_prefix, True)):
            if text is not None:
                column = self.column(name)
                if column is None:
                    mask &= not text
                else:
                    mask &= texts.matches(*column, text, prefix)
        if self.starts is None:
            return View(self.codes, _bitmap(mask), int(mask.sum()), None, None)
        rows = np.flatnonzero(mask).astype(np.uint32)
        starts = np.searchsorted(rows, self.starts).astype(np.uint32)
        some = starts[1:] > starts[:-1]
        return View(self.codes, _bitmap(some), int(some.sum()), starts, rows)

    def nearest_items(self, view, distances, entries, k):
        """Items of the nearest entries.

        Args:
            view: `View` that the entries are from.
            distances, entries: int arrays of shape `(q, n)`, nearest first; entries of -1 at the
                end are none.
            k: int.

        Returns:
            int32 distances and int64 ids, each of shape `(q, k)`; -1 behind the last item.
        """
        first, counts = self.runs(view, np.maximum(entries, 0))
        counts[entries < 0] = 0
        before = np.cumsum(counts, axis=1) - counts
        counts = np.clip(k - before, 0, counts)
        items = spans(first.ravel(), counts.ravel())
        filled = np.arange(k) < counts.sum(axis=1)[:, None]
        all_distances = np.full(filled.shape, -1, np.int32)
        all_ids = np.full(filled.shape, -1, np.int64)
        all_distances[filled] = np.repeat(distances.ravel(), counts.ravel())
        all_ids[filled] = self.ids_of(view, items)
        return all_distances, all_ids

    def runs(self, view, entries):
        """Where each entry's items begin in a view, and how many it has: two int64 arrays."""
        if view.starts is None:
            return entries, np.ones(entries.shape, np.int64)
        first = view.starts[entries].astype(np.int64)
        return first, view.starts[entries + 1] - first

    def ids_of(self, view, items):
        """Ids of a view's items by number."""
        return self.ids[items if view.rows is None else view.rows[items]]


def _bitmap(mask):
    return np.packbits(mask, bitorder="little")
