"""The abstract base of all indexes, with what they have in common."""

import abc
import collections
import contextlib
import os
import pathlib
import typing

import numpy as np

from dah_tf.errors import UserError
from dah_tf.index import engines, writing
from dah_tf.index.failure import ItemNotFoundError
from dah_tf.index.hits import Neighbours, Within


class Store(abc.ABC):
    """A store of binary codes and their ids.

    `create` makes one, `open` opens one, and a `with` block closes it. Codes are packed as in
    `dah_tf.codes`. An item has an id (0 to 2**63 - 1). It can also have a key, such as its path,
    and a label; `describe` returns these strings.

    A subclass implements the abstract methods.

    Attributes:
        path: the folder or the address of the index.

    Example:
        >>> index = create_index("photos.index", bits=48)
        >>> ids = index.add(codes, keys=paths)
        >>> distances, ids = index.search(query_codes, k=10)
        >>> keys, labels = index.describe(ids[0])
    """

    path: str | os.PathLike
    # The word for a backend in messages, and the existing backends; see `engines`.
    KIND: typing.ClassVar[str] = "backend"
    BACKENDS: typing.ClassVar[dict] = engines.BACKENDS
    # The facts about the content: bits, fingerprint, backend, recall, generation, next_id.
    _facts: dict
    _backend: str | None  # the backend of this object; None is the one in the facts

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        bits: int,
        fingerprint: str | None = None,
        backend: str = "flat",
        recall: float | None = None,
        codes: np.ndarray | None = None,
        ids: np.ndarray | None = None,
        keys: typing.Sequence[str] | None = None,
        labels: typing.Sequence[str] | None = None,
        root: str | None = None,
    ) -> "typing.Self":
        """Makes an index. It becomes visible only when the first items are in it.

        Args:
            path: the folder or address, at which there is nothing yet.
            bits: the code length, 8 to 256.
            fingerprint: the fingerprint of the model that made the codes; None if unknown.
            backend: one of `BACKENDS`. Approximate ones have an option, the share of the true 10
                nearest codes that they must find: `hnsw:recall=0.99`.
            recall: the older way to give that share. By default it is 0.95.
            codes, ids, keys, labels: the first items, as in `add`.
            root: the folder in which keys that are relative paths start; None if unknown.

        Returns:
            The opened index.

        Raises:
            UserError: an argument is wrong, or the index cannot be made. Nothing is left behind.

        Warns:
            RecallWarning: even with the largest effort the backend finds a smaller share.
        """
        name, asked = engines.read(backend, recall, cls.KIND, cls.BACKENDS)
        facts = {
            **writing.settings(bits, fingerprint, root),
            "backend": name,
            "recall": engines.RECALL if asked is None else asked,
            "generation": 0,
            "next_id": 0,
        }
        codes = np.zeros((0, -(-bits // 8)), np.uint8) if codes is None else codes
        return cls._make(path, facts, writing.checked(facts, codes, ids, keys, labels))

    @classmethod
    def open(cls, path: str | os.PathLike, backend: str | None = None) -> "typing.Self":
        """Opens an index.

        Args:
            path: the folder or address of the index.
            backend: the backend of this object. None is the one with which the index was made.
                Approximate backends need a structure that `create` or `compact` has stored, and
                scan where there is none. Their recall cannot be above that of the index.

        Returns:
            The opened index.

        Raises:
            UserError: there is no index, it is damaged or has another format version, or it does
                not have the backend.
        """
        if backend is None:
            return cls(path)
        name, asked = engines.read(backend, None, cls.KIND, cls.BACKENDS)
        index = cls(path, name)
        if asked is not None and asked > index._facts["recall"]:
            raise UserError(
                f"{index.path} was built for a recall of {index._facts['recall']}; for "
                f"{asked} build it again: python -m dah_tf.search compact --index={index.path} "
                f"--backend={backend}"
            )
        return index

    def close(self) -> None:
        """Closes the connection if there is one. The object cannot be used afterwards."""

    def __enter__(self) -> "typing.Self":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @abc.abstractmethod
    def refresh(self) -> None:
        """Shows what other processes have changed since the index was opened."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of items."""

    @property
    def bits(self) -> int:
        """The code length."""
        return self._facts["bits"]

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the model that made the codes; None if unknown."""
        return self._facts["fingerprint"]

    @property
    def root(self) -> str | None:
        """The folder in which keys that are relative paths start; None if unknown."""
        return self._facts.get("root")  # an index of an older version has none

    @property
    def backend(self) -> str:
        """The backend that searches, one of `BACKENDS`."""
        return self._backend or self._facts["backend"]

    @property
    @abc.abstractmethod
    def beside(self) -> pathlib.Path:
        """The start of the paths of hidden working files for this index."""

    def add(
        self,
        codes: np.ndarray,
        ids: np.ndarray | None = None,
        keys: typing.Sequence[str] | None = None,
        labels: typing.Sequence[str] | None = None,
        fingerprint: str | None = None,
        changes: int | None = None,
        root: str | None = None,
    ) -> np.ndarray:
        """Adds items. If one of them is refused, none is added.

        Args:
            codes: uint8 array of shape `(n, ceil(bits / 8))`.
            ids: integer array of shape `(n,)`. None takes the numbers after the largest id that
                was ever used.
            keys: sequence of n str, or None.
            labels: sequence of n str, or None.
            fingerprint: the fingerprint of the model that made the codes. None is not checked.
            changes: `stats()["changes"]` at the time when the new items were chosen. None is not
                checked.
            root: the folder in which all relative keys start from now on. None does not change it.

        Returns:
            int64 array of the n ids.

        Raises:
            UserError: the codes have another length or model, an id is given twice or exists
                already, the index was changed after `changes`, another process writes, the disk is
                full, or the server fails. Nothing was changed.
        """
        with self._change() as facts:
            writing.check_unchanged(self, changes, facts["generation"])
            writing.check_model(self, fingerprint)
            items = writing.checked(facts, codes, ids, keys, labels)
            if not len(items.ids):
                return items.ids
            there = self._there(np.sort(items.ids))
            if len(there):
                raise UserError(f"{writing.some(there)} already in the index; nothing added")
            facts["root"] = root or self.root
            self._add(facts, items)
        return items.ids

    def remove(self, ids: np.ndarray) -> None:
        """Removes items. If one of them does not exist, none is removed.

        `compact` releases their space.

        Args:
            ids: integer array of shape `(n,)`.

        Raises:
            ItemNotFoundError: an id does not exist. Nothing was changed.
            UserError: another process writes, or the disk is full. Nothing was changed.
        """
        with self._change() as facts:
            ids = np.unique(writing.checked_ids(ids))
            if not len(ids):
                return
            missing = np.setdiff1d(ids, self._there(ids))
            if len(missing):
                raise ItemNotFoundError(
                    f"{writing.some(missing)} not in the index; nothing removed"
                )
            self._remove(facts, ids)

    def compact(self, backend: str | None = None, recall: float | None = None) -> None:
        """Releases the space of removed items, and builds again what the backend needs.

        Args:
            backend: the backend from now on, as in `create`. None does not change it.
            recall: as in `create`. None does not change it.

        Raises:
            UserError: an argument is wrong, another process writes, the disk is full, or the
                server fails.

        Warns:
            RecallWarning: as in `create`.
        """
        with self._change(mending=True) as facts:
            name, asked = engines.read(
                backend or facts["backend"], recall, self.KIND, self.BACKENDS
            )
            facts["backend"] = name
            facts["recall"] = facts["recall"] if asked is None else asked
            self._compact(facts)

    def replace(
        self,
        codes: np.ndarray,
        ids: np.ndarray | None = None,
        keys: typing.Sequence[str] | None = None,
        labels: typing.Sequence[str] | None = None,
        bits: int | None = None,
        fingerprint: str | None = None,
        changes: int | None = None,
        root: str | None = None,
    ) -> None:
        """Replaces all items by others in one step, for example after a new training.

        Args:
            codes, ids, keys, labels: as in `add`.
            bits: the new code length. None does not change it.
            fingerprint: the fingerprint of the new model; None if unknown.
            changes: `stats()["changes"]` at the time when the old items were read. None is not
                checked.
            root: as in `create`.

        Raises:
            UserError: as in `add`. Nothing was changed.
        """
        with self._change() as facts:
            writing.check_unchanged(self, changes, facts["generation"])
            facts |= writing.settings(bits or facts["bits"], fingerprint, root)
            self._replace(facts, writing.checked(facts, codes, ids, keys, labels))

    def search(
        self,
        codes: np.ndarray,
        k: int,
        max_distance: int | None = None,
        label: str | None = None,
        key_prefix: str | None = None,
        fingerprint: str | None = None,
    ) -> Neighbours:
        """Finds the k nearest items of each query.

        Args:
            codes: uint8 array of shape `(q, ceil(bits / 8))`.
            k: the number of items. If the index has fewer, all are returned.
            max_distance: items that are farther away are left out. None sets no limit.
            label: only items with exactly this label are found. The label of an item with several
                labels is all of them, joined by `;`. None allows all.
            key_prefix: only items whose key starts with this text are found. None allows all.
            fingerprint: the fingerprint of the model that made the codes. None is not checked.

        Returns:
            `Neighbours` with `min(k, len(self))` columns. Exact backends return every item that is
            nearer than the last distance. If several items are at the last distance, it is not
            defined which of them are returned; `count_at` counts them.

        Raises:
            UserError: the codes have another length or model, k is below 1, or faiss is missing.
        """
        queries = self._queries(codes, fingerprint)
        if k < 1:
            raise UserError(f"k must be at least 1. Received: {k}")
        distances, ids = self._nearest(queries, min(k, len(self)), label, key_prefix)
        if max_distance is not None:
            far = distances > max_distance
            distances[far] = ids[far] = -1
        return Neighbours(distances, ids)

    def radius(
        self,
        codes: np.ndarray,
        r: int,
        label: str | None = None,
        key_prefix: str | None = None,
        fingerprint: str | None = None,
    ) -> Within:
        """Finds every item within a distance of each query. It is exact with every backend.

        Args:
            codes, label, key_prefix, fingerprint: as in `search`.
            r: the largest distance.

        Returns:
            `Within`.

        Raises:
            UserError: the codes have another length or model, r is below 0, or faiss is missing.
        """
        queries = self._queries(codes, fingerprint)
        if r < 0:
            raise UserError(f"The radius must be at least 0. Received: {r}")
        return self._within(queries, min(r, self.bits), label, key_prefix)

    def count_at(
        self,
        codes: np.ndarray,
        distances: np.ndarray,
        label: str | None = None,
        key_prefix: str | None = None,
        fingerprint: str | None = None,
    ) -> np.ndarray:
        """Counts the items at one distance of each query. It is exact with every backend.

        Args:
            codes, label, key_prefix, fingerprint: as in `search`.
            distances: integer array of shape `(q,)`, one distance for each query. For a negative
                distance the count is 0.

        Returns:
            int64 array of shape `(q,)`.

        Raises:
            UserError: the codes have another length or model, the number of distances is wrong, or
                faiss is missing.
        """
        queries, distances = self._queries(codes, fingerprint), np.asarray(distances)
        if distances.shape != (len(queries),):
            raise UserError(
                f"{len(queries)} queries need one distance each. Received: {distances.shape}"
            )
        counts = np.zeros(len(queries), np.int64)
        for distance in np.unique(distances[(distances >= 0) & (distances <= self.bits)]).tolist():
            rows = np.flatnonzero(distances == distance)
            counts[rows] = self._count_at(queries[rows], distance, label, key_prefix)
        return counts

    @abc.abstractmethod
    def describe(self, ids: np.ndarray) -> tuple[list[str], list[str]]:
        """Returns the keys and labels of items.

        Args:
            ids: integer array of shape `(n,)`. It may contain -1 and ids that do not exist.

        Returns:
            Two lists of n str, the keys and the labels, with "" for missing ones.
        """

    def codes(self, ids: np.ndarray) -> np.ndarray:
        """Returns the codes of items.

        Args:
            ids: integer array of shape `(n,)`.

        Returns:
            uint8 array of shape `(n, ceil(bits / 8))`.

        Raises:
            ItemNotFoundError: an id does not exist.
        """
        wanted, back = np.unique(np.asarray(ids, np.int64), return_inverse=True)
        codes, there = self._codes(wanted)
        if not there.all():
            raise ItemNotFoundError(f"{writing.some(wanted[~there])} not in the index")
        return codes[back]

    @abc.abstractmethod
    def items(self) -> typing.Iterator[tuple[np.ndarray, list[str], list[str]]]:
        """Yields the ids (int64 of shape `(n,)`), keys and labels (lists of n str) of all items."""

    def labels(self) -> dict[str, int]:
        """Returns how many items have each label, without the items that have none."""
        counts = collections.Counter()
        for _, _, labels in self.items():
            counts.update(labels)
        counts.pop("", None)
        return dict(sorted(counts.items()))

    def stats(self) -> dict:
        """Returns facts about the index, as a dict that JSON can hold.

        `recall_reached` is the share of the nearest 10 codes that was measured when the
        approximate structure was built. If there are several structures, it is the smallest share.
        It is None if there is no structure, or if an older version built it.
        """
        facts = self._facts
        return {
            "path": str(self.path),
            "items": len(self),
            "bits": self.bits,
            "backend": facts["backend"],
            "recall": facts["recall"],
            "recall_reached": self._reached(),
            "fingerprint": self.fingerprint,
            "root": self.root,
            **self._details(),
            "changes": facts["generation"],
        }

    @abc.abstractmethod
    def verify(self) -> list[str]:
        """Reads all files and compares them with their checksums and with the manifest.

        Returns:
            List of the faults. It is empty if there are none.
        """

    def _queries(self, codes, fingerprint):
        """Checks that codes fit this index, and returns them."""
        writing.check_model(self, fingerprint)
        return writing.checked_codes(codes, self.bits)

    @classmethod
    @abc.abstractmethod
    def _make(cls, path, facts, items):
        """Makes an index from checked `segments.Items`, and opens it."""

    @abc.abstractmethod
    def _change(self, mending=False) -> contextlib.AbstractContextManager:
        """Keeps other writers away, and yields the newest facts, which the caller edits.

        Args:
            mending: bool, whether this is allowed after another writer was killed.
        """

    @abc.abstractmethod
    def _there(self, ids):
        """Returns which of some ids are in the index. Both are ascending and without duplicates."""

    @abc.abstractmethod
    def _add(self, facts, items):
        """Adds checked items with new ids, stores the facts, and refreshes."""

    @abc.abstractmethod
    def _remove(self, facts, ids):
        """Removes existing ids (ascending, without duplicates), stores the facts, and refreshes."""

    @abc.abstractmethod
    def _compact(self, facts):
        """Writes the index again as the facts say, stores the facts, and refreshes."""

    @abc.abstractmethod
    def _replace(self, facts, items):
        """Replaces all items by checked ones, stores the facts, and refreshes."""

    @abc.abstractmethod
    def _nearest(self, queries, k, label, key_prefix):
        """Returns `Neighbours` with k columns for checked queries."""

    @abc.abstractmethod
    def _within(self, queries, radius, label, key_prefix):
        """Returns `Within` for checked queries."""

    @abc.abstractmethod
    def _count_at(self, queries, distance, label, key_prefix):
        """Counts the items at a distance, the same for all queries; returns an int64 array."""

    @abc.abstractmethod
    def _codes(self, ids):
        """Returns the codes of ids, `(n, bytes)`, and a bool array that says which ids exist.

        The ids are ascending and without duplicates.
        """

    @abc.abstractmethod
    def _reached(self):
        """Returns the recall that was measured, or None."""

    @abc.abstractmethod
    def _details(self):
        """Returns the facts that only this kind of store has in `stats`: a dict."""
