"""An index in a folder: packed binary codes with ids, which are mapped and not loaded."""

import collections
import os
import pathlib
import typing

import numpy as np

from dah_tf.errors import UserError
from dah_tf.files import durable
from dah_tf.index import disk, hits, scan, segments, writing
from dah_tf.index.store import Store


class Index(Store):
    """An index in a folder. Its arrays are mapped into memory, and not read.

    An opened index shows the content at the time when it was opened or last changed through this
    object. `refresh` shows what other processes have changed since then. A change by `add`,
    `remove`, `compact` or `replace` is durable when the method returns. If the method fails or the
    process dies, the index is either as before the change or as after it. Only one process at a
    time may write.

    `create` takes the path of a folder that does not exist or is empty. `compact` writes the index
    in few segments.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[0, 0], [0, 3], [255, 255]], np.uint8)
        >>> index = Index.create("photos.index", bits=16)
        >>> ids = index.add(codes, keys=["a.jpg", "b.jpg", "c.jpg"])
        >>> distances, ids = index.search(codes[:1], k=2)
        >>> distances.tolist(), index.describe(ids[0])
        ([[0, 2]], (['a.jpg', 'b.jpg'], ['', '']))
    """

    def __init__(self, path: str | os.PathLike, backend: str | None = None):
        self.path, self._backend = pathlib.Path(path), backend
        self._facts, self._segments = None, []
        self.refresh()

    @classmethod
    def _make(cls, path, facts, items):
        content = {**facts, "next_segment": 1, "segments": []}
        with disk.new_folder(path) as folder:
            writing.append(folder, content, items)
            durable.sync(folder / disk.SEGMENTS)
            disk.write_manifest(folder, content)
        return cls(path)

    def refresh(self) -> None:
        while True:
            manifest = disk.read_manifest(self.path)
            if manifest == self._facts:
                return
            # What a segment has read or prepared for searching stays, if its files did not change.
            known = {segment.entry["name"]: segment for segment in self._segments}
            try:
                opened = [
                    known[entry["name"]]
                    if entry["name"] in known
                    and known[entry["name"]].entry == entry
                    and known[entry["name"]].bits == manifest["bits"]
                    else segments.Segment(self.path, entry, manifest["bits"])
                    for entry in manifest["segments"]
                ]
            except FileNotFoundError as error:
                # A writer may have dropped a file since the manifest was read.
                if disk.read_manifest(self.path) != manifest:
                    continue
                raise UserError(
                    f"{error.filename} is missing: {self.path} is damaged; restore it"
                ) from None
            self._facts, self._segments = manifest, opened
            return

    def __len__(self) -> int:
        return sum(segment.live for segment in self._segments)

    @property
    def beside(self) -> pathlib.Path:
        path = self.path.absolute()
        return path.with_name(f".{path.name}")

    def describe(self, ids: np.ndarray) -> tuple[list[str], list[str]]:
        ids = np.asarray(ids, np.int64)
        wanted, back = np.unique(ids, return_inverse=True)
        described = {"keys": [""] * len(wanted), "labels": [""] * len(wanted)}
        for segment in self._segments:
            rows, places = segment.find(wanted)
            for name, strings in described.items():
                for place, string in zip(places, segment.strings(name, rows), strict=True):
                    strings[place] = string
        return tuple([strings[i] for i in back] for strings in described.values())

    def items(self) -> typing.Iterator[tuple[np.ndarray, list[str], list[str]]]:
        for segment in self._segments:
            rows = np.flatnonzero(segment.living())
            yield segment.ids[rows], *(segment.strings(name, rows) for name in ("keys", "labels"))

    def labels(self) -> dict[str, int]:
        counts = collections.Counter()
        for segment in self._segments:
            counts.update(segment.label_counts)
        counts.pop("", None)
        return dict(sorted(counts.items()))

    def verify(self) -> list[str]:
        while True:
            seen = self._facts
            try:
                return writing.verify(self.path, seen, self._segments)
            except FileNotFoundError as error:
                self.refresh()  # a writer may have replaced the file in the meantime
                if self._facts == seen:
                    return [f"{error.filename} is missing"]

    def _change(self, mending=False):
        return writing.change(self)

    def _commit(self, content):
        writing.commit(self.path, content)
        self.refresh()

    def _there(self, ids):
        there = np.zeros(len(ids), bool)
        for segment in self._segments:
            there[segment.find(ids)[1]] = True
        return ids[there]

    def _add(self, facts, items):
        small = writing.merge(facts, self._segments, items)
        writing.append(self.path, facts, segments.join([items, *small]))
        self._commit(facts)

    def _remove(self, facts, ids):
        for segment in self._segments:
            rows, _ = segment.find(ids)
            if len(rows):
                writing.bury(self.path, facts, segment, rows)
        self._commit(facts)

    def _compact(self, facts):
        facts["segments"] = []
        for items in writing.gathered(self._segments):
            writing.append(self.path, facts, items)
        self._commit(facts)

    def _replace(self, facts, items):
        facts["segments"] = []
        writing.append(self.path, facts, items)
        self._commit(facts)

    def _nearest(self, queries, k, label, key_prefix):
        return hits.nearest(self.backend, self._views(label, key_prefix), self._padded(queries), k)

    def _within(self, queries, radius, label, key_prefix):
        views = self._views(label, key_prefix)
        return hits.within(self.backend, views, self._padded(queries), radius)

    def _count_at(self, queries, distance, label, key_prefix):
        views = self._views(label, key_prefix)
        return hits.count_at(self.backend, views, self._padded(queries), distance)

    def _codes(self, ids):
        codes = np.zeros((len(ids), -(-self.bits // 8)), np.uint8)
        there = np.zeros(len(ids), bool)
        for segment in self._segments:
            rows, places = segment.find(ids)
            codes[places] = segment.codes_of(rows)[:, : codes.shape[1]]
            there[places] = True
        return codes, there

    def _reached(self):
        built = [segment.entry for segment in self._segments if "approximate" in segment.arrays]
        known = [entry.get("reached") for entry in built]
        return None if None in known else min(known, default=None)

    def _details(self):
        stored = sum(len(segment.ids) for segment in self._segments)
        sizes = [writing.size(segment.entry) for segment in self._segments]
        return {
            "removed": stored - len(self),
            "distinct_codes": sum(len(segment.codes) for segment in self._segments),
            "segments": len(self._segments),
            "megabytes": round(sum(sizes) / 1e6, 3),
        }

    def _views(self, label, key_prefix):
        views = [(segment, segment.view(label, key_prefix)) for segment in self._segments]
        return [(segment, view) for segment, view in views if view.count]

    def _padded(self, queries):
        return scan.pad(queries, scan.padded_width(self.bits))
