"""The index: packed binary codes with ids on disk, changed durably, searched without loading."""

import pathlib

import numpy as np

from dah_tf.errors import UserError
from dah_tf.files import durable
from dah_tf.index import disk, engines, hits, scan, segments, writing


class Index:
    """Binary codes and their ids in a folder. Made by `Index.create`, opened by `Index.open`.

    An opened index shows what it held when it was opened or last changed through this object,
    whatever other processes write meanwhile; `refresh` catches up. `add`, `remove`, `compact` and
    `replace` are durable when they return; if they fail or the process dies, the index is as
    before or as after, never between. One process at a time may write.

    Codes are packed as in `dah_tf.codes`. An item has an id (0 to 2**63 - 1) and optionally a
    key, such as its path, and a label: strings that `describe` gives back.

    Example:
        >>> index = Index.create("photos.index", bits=48)
        >>> ids = index.add(codes, keys=paths)
        >>> distances, ids = index.search(query_codes, k=10)
        >>> keys, labels = index.describe(ids[0])
    """

    def __init__(self, path, backend=None):
        self.path, self._backend = pathlib.Path(path), backend
        self._manifest, self._segments = None, []
        self.refresh()

    @classmethod
    def create(
        cls,
        path,
        bits,
        fingerprint=None,
        backend="flat",
        recall=0.95,
        codes=None,
        ids=None,
        keys=None,
        labels=None,
        root=None,
    ):
        """Makes an index; with `codes` it appears only when these are in it.

        Args:
            path: path of its folder, which does not exist or is empty.
            bits: int, code length, 8 to 256.
            fingerprint: str, names the model that the codes are from; None is unknown.
            backend: str, one of `BACKENDS`.
            recall: float, share of the true 10 nearest codes that approximate backends find.
            codes, ids, keys, labels: the first items, as in `add`.
            root: str, the folder that keys which are relative paths begin at; None is unknown.

        Returns:
            `Index`.

        Raises:
            UserError: bad arguments, or the folder cannot be made; nothing is left behind.
        """
        engines.check(backend, recall)
        content = writing.empty(bits, fingerprint, backend, recall, root)
        items = None
        if codes is not None:
            items = writing.checked(content, codes, ids, keys, labels)
        with disk.new_folder(path) as folder:
            if items is not None:
                writing.append(folder, content, items)
            durable.sync(folder / disk.SEGMENTS)
            disk.write_manifest(folder, content)
        return cls(path)

    @classmethod
    def open(cls, path, backend=None):
        """Opens an index; its arrays are mapped, not read.

        Args:
            path: path of its folder.
            backend: str, how this object searches; None is as the index was made. Approximate
                ones need what `create` or `compact` stored for them, and scan where it is not.

        Returns:
            `Index`.

        Raises:
            UserError: no index, a damaged one, or one of another format version.
        """
        if backend:
            engines.check(backend)
        return cls(path, backend)

    def refresh(self):
        """Shows what other processes wrote since the index was opened."""
        while True:
            manifest = disk.read_manifest(self.path)
            if manifest == self._manifest:
                return
            try:
                opened = [
                    segments.Segment(self.path, entry, manifest["bits"])
                    for entry in manifest["segments"]
                ]
            except FileNotFoundError as error:
                # A writer may have dropped a file since the manifest was read.
                if disk.read_manifest(self.path) != manifest:
                    continue
                raise UserError(
                    f"{error.filename} is missing: {self.path} is damaged; restore it"
                ) from None
            self._manifest, self._segments = manifest, opened
            return

    def __len__(self):
        return sum(segment.live for segment in self._segments)

    @property
    def bits(self):
        """int, code length."""
        return self._manifest["bits"]

    @property
    def fingerprint(self):
        """str, the model that the codes are from, or None."""
        return self._manifest["fingerprint"]

    @property
    def root(self):
        """str, the folder that keys which are relative paths begin at, or None."""
        return self._manifest.get("root")  # an index from before it has none

    @property
    def backend(self):
        """str, how searching is done: one of `BACKENDS`."""
        return self._backend or self._manifest["backend"]

    def add(
        self,
        codes,
        ids=None,
        keys=None,
        labels=None,
        fingerprint=None,
        changes=None,
        root=None,
    ):
        """Adds items, all or none.

        Args:
            codes: uint8 array of shape `(n, ceil(bits / 8))`.
            ids: integer array of shape `(n,)`; None numbers on after the largest id ever given.
            keys: sequence of n str, or None.
            labels: sequence of n str, or None.
            fingerprint: str, the model that the codes are from; None is not checked.
            changes: int, `stats()["changes"]` of the items by which the new ones were chosen; None
                is not checked.
            root: str, the folder that all relative keys begin at from now on; None keeps it.

        Returns:
            int64 array of the n ids.

        Raises:
            UserError: codes of another length or model, an id given twice or there already, the
                index was changed since, another process writes, or the disk is full; nothing was
                changed.
        """
        with self._change() as content:
            writing.check_unchanged(self, changes, content["generation"])
            writing.check_model(self, fingerprint)
            items = writing.checked(content, codes, ids, keys, labels)
            if not len(items.ids):
                return items.ids
            wanted = np.sort(items.ids)
            for segment in self._segments:
                _, places = segment.find(wanted)
                if len(places):
                    raise UserError(
                        f"{writing.some(wanted[places])} already in the index; nothing added"
                    )
            content["root"] = root or self.root
            small = writing.merge(content, self._segments, items)
            writing.append(self.path, content, segments.join([items, *small]))
            writing.commit(self.path, content)
        self.refresh()
        return items.ids

    def remove(self, ids):
        """Removes items, all or none. Their space is given free by `compact`.

        Args:
            ids: integer array of shape `(n,)`.

        Raises:
            UserError: an id is not there, another process writes, or the disk is full; nothing
                was changed.
        """
        with self._change() as content:
            ids = np.unique(writing.checked_ids(ids))
            if not len(ids):
                return
            found = [segment.find(ids) for segment in self._segments]
            there = np.zeros(len(ids), bool)
            for _, places in found:
                there[places] = True
            if not there.all():
                raise UserError(f"{writing.some(ids[~there])} not in the index; nothing removed")
            for segment, (rows, _) in zip(self._segments, found, strict=True):
                if len(rows):
                    writing.bury(self.path, content, segment, rows)
            writing.commit(self.path, content)
        self.refresh()

    def compact(self, backend=None, recall=None):
        """Writes the index anew without removed items, in few segments, and swaps it in.

        Args:
            backend: str, the backend from now on; None keeps it.
            recall: float, as in `create`; None keeps it.

        Raises:
            UserError: bad arguments, another process writes, or the disk is full; nothing was
                changed.
        """
        with self._change() as content:
            content["backend"] = backend or content["backend"]
            content["recall"] = content["recall"] if recall is None else recall
            engines.check(content["backend"], content["recall"])
            content["segments"] = []
            for items in writing.gathered(self._segments):
                writing.append(self.path, content, items)
            writing.commit(self.path, content)
        self.refresh()

    def replace(
        self,
        codes,
        ids=None,
        keys=None,
        labels=None,
        bits=None,
        fingerprint=None,
        changes=None,
        root=None,
    ):
        """Swaps all items for others in one step, as after a model was trained anew.

        Args:
            codes, ids, keys, labels: as in `add`.
            bits: int, the new code length; None keeps it.
            fingerprint: str, the new model; None is unknown.
            changes: int, `stats()["changes"]` of the items that the new ones were made of; None
                is not checked.
            root: str, as in `create`.

        Raises:
            UserError: as `add`, or the index was changed since; nothing was changed.
        """
        with self._change() as content:
            writing.check_unchanged(self, changes, content["generation"])
            content |= writing.settings(bits or content["bits"], fingerprint, root)
            content["segments"] = []
            items = writing.checked(content, codes, ids, keys, labels)
            writing.append(self.path, content, items)
            writing.commit(self.path, content)
        self.refresh()

    def search(self, codes, k, max_distance=None, label=None, key_prefix=None, fingerprint=None):
        """The k nearest items of each query.

        Args:
            codes: uint8 array of shape `(q, ceil(bits / 8))`.
            k: int; where the index has fewer items, all are returned.
            max_distance: int; items farther away are left out. None leaves out none.
            label: str; only items with this label, as a whole where it is several joined by `;`.
                None is any.
            key_prefix: str; only items whose key begins with it. None is any.
            fingerprint: str, the model that the codes are from; None is not checked.

        Returns:
            `results.Neighbours` with `min(k, len(self))` columns. Exact backends return every
            item nearer than the last distance; which of several at the last one is open.

        Raises:
            UserError: codes of another length or model, k below 1, or faiss is missing.
        """
        queries = self._queries(codes, fingerprint)
        if k < 1:
            raise UserError(f"k is at least 1. Received: {k}")
        distances, ids = hits.nearest(
            self.backend, self._views(label, key_prefix), queries, min(k, len(self))
        )
        if max_distance is not None:
            far = distances > max_distance
            distances[far] = ids[far] = -1
        return hits.Neighbours(distances, ids)

    def radius(self, codes, r, label=None, key_prefix=None, fingerprint=None):
        """Every item within a distance of each query, exactly, whatever the backend.

        Args:
            codes, label, key_prefix, fingerprint: as in `search`.
            r: int, the largest distance.

        Returns:
            `results.Within`.

        Raises:
            UserError: codes of another length or model, r below 0, or faiss is missing.
        """
        queries = self._queries(codes, fingerprint)
        if r < 0:
            raise UserError(f"The radius is at least 0. Received: {r}")
        return hits.within(self.backend, self._views(label, key_prefix), queries, min(r, self.bits))

    def describe(self, ids):
        """Keys and labels of items.

        Args:
            ids: integer array of shape `(n,)`; -1, and ids that are not there, have neither.

        Returns:
            Two lists of n str: keys and labels, "" where there is none.
        """
        ids = np.asarray(ids, np.int64)
        wanted, back = np.unique(ids, return_inverse=True)
        described = {"keys": [""] * len(wanted), "labels": [""] * len(wanted)}
        for segment in self._segments:
            rows, places = segment.find(wanted)
            for name, strings in described.items():
                for place, string in zip(places, segment.strings(name, rows), strict=True):
                    strings[place] = string
        return tuple([strings[i] for i in back] for strings in described.values())

    def codes(self, ids):
        """Codes of items.

        Args:
            ids: integer array of shape `(n,)`.

        Returns:
            uint8 array of shape `(n, ceil(bits / 8))`.

        Raises:
            UserError: an id is not there.
        """
        wanted, back = np.unique(np.asarray(ids, np.int64), return_inverse=True)
        codes = np.zeros((len(wanted), -(-self.bits // 8)), np.uint8)
        there = np.zeros(len(wanted), bool)
        for segment in self._segments:
            rows, places = segment.find(wanted)
            codes[places] = segment.codes_of(rows)[:, : codes.shape[1]]
            there[places] = True
        if not there.all():
            raise UserError(f"{writing.some(wanted[~there])} not in the index")
        return codes[back]

    def items(self):
        """Yields ids, keys and labels of all items: int64 array `(n,)` and two lists of n str."""
        for segment in self._segments:
            rows = np.flatnonzero(segment.living())
            yield segment.ids[rows], *(segment.strings(name, rows) for name in ("keys", "labels"))

    def stats(self):
        """What the index holds, as a JSON-able dict."""
        manifest = self._manifest
        stored = sum(len(segment.ids) for segment in self._segments)
        sizes = [writing.size(entry) for entry in manifest["segments"]]
        return {
            "path": str(self.path),
            "items": len(self),
            "removed": stored - len(self),
            "distinct_codes": sum(len(segment.codes) for segment in self._segments),
            "bits": self.bits,
            "backend": manifest["backend"],
            "recall": manifest["recall"],
            "fingerprint": self.fingerprint,
            "root": self.root,
            "segments": len(self._segments),
            "megabytes": round(sum(sizes) / 1e6, 3),
            "changes": manifest["generation"],
        }

    def verify(self):
        """Reads every file and compares it with its checksum, and the files with each other.

        Returns:
            List of str, what is wrong; empty where all is well.
        """
        while True:
            seen = self._manifest
            try:
                return writing.verify(self.path, seen, self._segments)
            except FileNotFoundError as error:
                self.refresh()  # a writer may have replaced the file meanwhile
                if self._manifest == seen:
                    return [f"{error.filename} is missing"]

    def _change(self):
        return writing.change(self)

    def _views(self, label, key_prefix):
        views = [(segment, segment.view(label, key_prefix)) for segment in self._segments]
        return [(segment, view) for segment, view in views if view.count]

    def _queries(self, codes, fingerprint):
        writing.check_model(self, fingerprint)
        return scan.pad(writing.checked_codes(codes, self.bits), scan.padded_width(self.bits))
