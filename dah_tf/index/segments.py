"""A segment: items that were written together. They never change, but can be marked as removed.

Many items have equal codes, so that a segment may store each distinct code once, as an entry. The
items of entry e are then the rows `starts[e]` to `starts[e + 1]`. Without `starts`, row and entry
are the same.
"""

import functools
import typing

import numpy as np

from dah_tf.index import approximate, disk, scan, tables, texts
from dah_tf.index.spans import spans

ROWS = 1 << 24  # the most rows of a segment, which limits the memory of sorting
TABLES_FROM = 1 << 17  # the entries from which on tables are faster than a scan
BLOCK = 1 << 20


class Items(typing.NamedTuple):
    """Items in memory, one in each row.

    Attributes:
        ids: int64 array of shape `(n,)`.
        codes: uint8 array of shape `(n, width)`, padded.
        keys, labels: None, or `(text, starts)` from `texts.encode`.
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
        starts: None, or int array of shape `(entries + 1,)`. Entry e then has the items
            `rows[starts[e]:starts[e + 1]]`.
        rows: uint32 array, or None if item i is row i.
    """

    codes: np.ndarray
    selector: np.ndarray | None
    count: int
    starts: np.ndarray | None
    rows: np.ndarray | None


def arrays_of(items, bits, with_tables):
    """Returns the arrays that a segment stores for some items.

    Args:
        items: `Items`, at most `ROWS` of them.
        bits: int, the code length.
        with_tables: bool, whether to add the tables of multi-index hashing to a large segment.

    Returns:
        Dict of name to array.
    """
    order, first = _group(items.codes, items.ids)
    width = items.codes.shape[1]
    arrays = {}
    # Equal codes are stored once only if that takes less memory.
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
    """Returns an order that brings equal codes together, and where each distinct code starts in it.

    Items with the same code are shuffled, always in the same way. A search that returns only some
    of them takes the first ones. If they were sorted by id, these would often be of one class,
    because folders and data sets are sorted.
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
    """Turns ids into numbers that look random, by the last steps of SplitMix64 (Steele, 2014)."""
    mixed = ids.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed


def take(items, rows):
    """Returns some items, in the order of `rows`."""
    columns = [c and texts.take(*c, rows) for c in (items.keys, items.labels)]
    return Items(items.ids[rows], items.codes[rows], *columns)


def join(several):
    """Joins items. If only some of them have keys or labels, the others get empty ones.

    Args:
        several: list of at least one `Items`.
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
        entry: the dict of the segment in the manifest. It has `name`, `rows`, `live`, `range` (the
            smallest and the largest id) and `files`, a dict of the name of each array to its
            record from `disk.write_array`.
        bits: int, the code length.

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
        """The number of items that are not removed."""
        return self.entry["live"]

    def living(self):
        """Returns a bool array of shape `(rows,)` that is true for items that are not removed."""
        if self.alive is None:
            return np.ones(len(self.ids), bool)
        return np.unpackbits(self.alive, count=len(self.ids), bitorder="little").astype(bool)

    def items(self):
        """Returns the items that are not removed as `Items` in memory."""
        codes = self.codes
        if self.starts is not None:
            codes = np.repeat(codes, np.diff(self.starts.astype(np.int64)), axis=0)
        items = Items(self.ids, codes, self.column("keys"), self.column("labels"))
        return take(items, np.flatnonzero(self.living()))

    def codes_of(self, rows):
        """Returns the padded codes of some rows: uint8 array of shape `(len(rows), width)`."""
        if self.starts is None:
            return self.codes[rows]
        return self.codes[np.searchsorted(self.starts, rows, side="right") - 1]

    def column(self, name):
        """Returns `(text, starts)` of the keys or labels, or None."""
        text = self.arrays.get(name)
        return None if text is None else (text, self.arrays[f"{name}_starts"])

    def strings(self, name, rows):
        """Returns a list of the keys or labels of some rows, with "" for missing ones."""
        column = self.column(name)
        return [""] * len(rows) if column is None else texts.decode(*column, rows)

    @functools.cached_property
    def approximate(self):
        """The faiss index over the codes, read into memory, or None if there is none.

        All threads search it at the same time. Therefore nothing may change its settings.
        """
        array = self.arrays.get("approximate")
        return None if array is None else approximate.load(array)

    @functools.cached_property
    def label_counts(self):
        """How many items that are not removed have each label: a dict of str to int."""
        column = self.column("labels")
        rows = np.flatnonzero(self.living())
        return {"": len(rows)} if column is None else texts.counts(*column, rows)

    def find(self, ids):
        """Finds the rows of those `ids` that are in this segment and not removed.

        Args:
            ids: sorted int64 array without duplicates.

        Returns:
            The rows and their positions in `ids`, both int64 of shape `(found,)`.
        """
        least, greatest = self.entry["range"]
        wanted = ids[np.searchsorted(ids, least) : np.searchsorted(ids, greatest, side="right")]
        found = [np.zeros(0, np.int64)]
        if len(wanted):
            # A table of the lowest bits excludes nearly all rows, much faster than a search does.
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
        """Returns the bitmap of the items that remain after some rows are removed."""
        living = self.living()
        living[rows] = False
        return np.packbits(living, bitorder="little")

    def view(self, label=None, key_prefix=None):
        """Returns the `View` of the items that are not removed and match a label and key prefix."""
        wanted = (label, key_prefix)
        view = self._views.get(wanted)
        if view is None:
            view = self._view(label, key_prefix)
            # Only the latest filter is kept, because a view takes up to a quarter of the memory of
            # the ids. Another thread may do the same at this moment, so that the dict is replaced
            # and never changed.
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
        """Returns the items of the nearest entries.

        Args:
            view: the `View` of the entries.
            distances, entries: int arrays of shape `(q, n)`, with the nearest first. Missing
                entries at the end are -1.
            k: int.

        Returns:
            int32 distances and int64 ids, each of shape `(q, k)`, filled up with -1.
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
        """Returns where the items of each entry start in a view, and their numbers, as int64."""
        if view.starts is None:
            return entries, np.ones(entries.shape, np.int64)
        first = view.starts[entries].astype(np.int64)
        return first, view.starts[entries + 1] - first

    def ids_of(self, view, items):
        """Returns the ids of some items of a view, given by their numbers."""
        return self.ids[items if view.rows is None else view.rows[items]]


def _bitmap(mask):
    return np.packbits(mask, bitorder="little")
