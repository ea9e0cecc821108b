"""What every index does, wherever it keeps its items: the contract, and what all have in common."""

import abc
import contextlib
import os
import pathlib
import typing

import numpy as np

from dah_tf.errors import UserError
from dah_tf.index import engines, writing
from dah_tf.index.hits import Neighbours, Within


class Store(abc.ABC):
    """Binary codes and their ids. Made by `create`, opened by `open`; a `with` block closes it.

    Codes are packed as in `dah_tf.codes`. An item has an id (0 to 2**63 - 1) and optionally a
    key, such as its path, and a label: strings that `describe` gives back.

    A kind of store fills in the methods that begin with one underscore and those marked abstract.

    Attributes:
        path: where the index is.

    Example:
        >>> index = create_index("photos.index", bits=48)
        >>> ids = index.add(codes, keys=paths)
        >>> distances, ids = index.search(query_codes, k=10)
        >>> keys, labels = index.describe(ids[0])
    """

    path: str | os.PathLike
    # The kind of part that messages name, and the backends that there are: see `engines`.
    KIND: typing.ClassVar[str] = "backend"
    BACKENDS: typing.ClassVar[dict] = engines.BACKENDS
    # What the store says of its content: bits, fingerprint, backend, recall, generation, next_id.
    _facts: dict
    _backend: str | None  # how this object searches; None is as the facts say

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
        """Makes an index; with `codes` it appears only when these are in it.

        Args:
            path: where it is to be; nothing is there yet.
            bits: code length, 8 to 256.
            fingerprint: names the model that the codes are from; None is unknown.
            backend: one of `BACKENDS`; approximate ones take the share of the true 10 nearest
                codes that they are to find: `hnsw:recall=0.99`.
            recall: the older way to give that share. By default it is 0.95.
            codes, ids, keys, labels: the first items, as in `add`.
            root: the folder that keys which are relative paths begin at; None is unknown.

        Returns:
            The opened index.

        Raises:
            UserError: bad arguments, or the index cannot be made; nothing is left behind.

        Warns:
            RecallWarning: the backend finds a smaller share at its largest effort.
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
            path: where it is.
            backend: how this object searches; None is as the index was made. Approximate ones
                need what `create` or `compact` stored for them, and scan where it is not. A recall
                is at most the one that the index was made for.

        Returns:
            The opened index.

        Raises:
            UserError: no index, a damaged one, one of another format version, or a backend that
                it does not have.
        """
        if backend is None:
            return cls(path)
        name, asked = engines.read(backend, None, cls.KIND, cls.BACKENDS)
        index = cls(path, name)
        if asked is not None and asked > index._facts["recall"]:
            raise UserError(
                f"{index.path} was built for a recall of {index._facts['recall']}; for "
                f"{asked} build it anew: python -m dah_tf.search compact --index={index.path} "
                f"--backend={backend}"
            )
        return index

    def close(self) -> None:
        """Ends the connection, where there is one; the object is of no use afterwards."""

    def __enter__(self) -> "typing.Self":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @abc.abstractmethod
    def refresh(self) -> None:
        """Shows what other processes changed since the index was opened."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of items."""

    @property
    def bits(self) -> int:
        """The code length."""
        return self._facts["bits"]

    @property
    def fingerprint(self) -> str | None:
        """The model that the codes are from; None is unknown."""
        return self._facts["fingerprint"]

    @property
    def root(self) -> str | None:
        """The folder that keys which are relative paths begin at; None is unknown."""
        return self._facts.get("root")  # an index from before it has none

    @property
    def backend(self) -> str:
        """How searching is done: one of `BACKENDS`."""
        return self._backend or self._facts["backend"]

    @property
    @abc.abstractmethod
    def beside(self) -> pathlib.Path:
        """Where working files for this index may be: the beginning of hidden files' paths."""

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
        """Adds items, all or none. Everything is checked before anything is written.

        Args:
            codes: uint8 array of shape `(n, ceil(bits / 8))`.
            ids: integer array of shape `(n,)`; None numbers on after the largest id ever given.
            keys: sequence of n str, or None.
            labels: sequence of n str, or None.
            fingerprint: the model that the codes are from; None is not checked.
            changes: `stats()["changes"]` of the items by which the new ones were chosen; None is
                not checked.
            root: the folder that all relative keys begin at from now on; None keeps it.

        Returns:
            int64 array of the n ids.

        Raises:
            UserError: codes of another length or model, an id given twice or there already, the
                index was changed since, another process writes, or the disk is full or the server
                fails; nothing was changed.
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
        """Removes items, all or none. Their space is given free by `compact`.

        Args:
            ids: integer array of shape `(n,)`.

        Raises:
            UserError: an id is not there, another process writes, or the disk is full; nothing
                was changed.
        """
        with self._change() as facts:
            ids = np.unique(writing.checked_ids(ids))
            if not len(ids):
                return
            missing = np.setdiff1d(ids, self._there(ids))
            if len(missing):
                raise UserError(f"{writing.some(missing)} not in the index; nothing removed")
            self._remove(facts, ids)

    def compact(self, backend: str | None = None, recall: float | None = None) -> None:
        """Gives the space of removed items free, and builds what the backend needs anew.

        Args:
            backend: the backend from now on, as in `create`; None keeps it.
            recall: as in `create`; None keeps it.

        Raises:
            UserError: bad arguments, another process writes, or the disk is full or the server
                fails.

        Warns:
            RecallWarning: as `create`.
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
        """Swaps all items for others in one step, as after a model was trained anew.

        Args:
            codes, ids, keys, labels: as in `add`.
            bits: the new code length; None keeps it.
            fingerprint: the new model; None is unknown.
            changes: `stats()["changes"]` of the items that the new ones were made of; None is not
                checked.
            root: as in `create`.

        Raises:
            UserError: as `add`, or the index was changed since; nothing was changed.
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
        """The k nearest items of each query.

        Args:
            codes: uint8 array of shape `(q, ceil(bits / 8))`.
            k: where the index has fewer items, all are returned.
            max_distance: items farther away are left out. None leaves out none.
            label: only items with this label, as a whole where it is several joined by `;`.
                None is any.
            key_prefix: only items whose key begins with it. None is any.
            fingerprint: the model that the codes are from; None is not checked.

        Returns:
            `Neighbours` with `min(k, len(self))` columns. Exact backends return every item nearer
            than the last distance. Which of several items at the last distance are returned is
            not defined; `count_at` says how many there are.

        Raises:
            UserError: codes of another length or model, k below 1, or faiss is missing.
        """
        queries = self._queries(codes, fingerprint)
        if k < 1:
            raise UserError(f"k is at least 1. Received: {k}")
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
        """Every item within a distance of each query, exactly, whatever the backend.

        Args:
            codes, label, key_prefix, fingerprint: as in `search`.
            r: the largest distance.

        Returns:
            `Within`.

        Raises:
            UserError: codes of another length or model, r below 0, or faiss is missing.
        """
        queries = self._queries(codes, fingerprint)
        if r < 0:
            raise UserError(f"The radius is at least 0. Received: {r}")
        return self._within(queries, min(r, self.bits), label, key_prefix)

    def count_at(
        self,
        codes: np.ndarray,
        distances: np.ndarray,
        label: str | None = None,
        key_prefix: str | None = None,
        fingerprint: str | None = None,
    ) -> np.ndarray:
        """How many items stand at one distance of each query, exactly, whatever the backend.

        Args:
            codes, label, key_prefix, fingerprint: as in `search`.
            distances: integer array of shape `(q,)`, a distance for each query; at negative ones
                there is no item.

        Returns:
            int64 array of shape `(q,)`.

        Raises:
            UserError: codes of another length or model, another number of distances, or faiss is
                missing.
        """
        queries, distances = self._queries(codes, fingerprint), np.asarray(distances)
        if distances.shape != (len(queries),):
            raise UserError(
                f"{len(queries)} queries need a distance each. Received: {distances.shape}"
            )
        counts = np.zeros(len(queries), np.int64)
        for distance in np.unique(distances[(distances >= 0) & (distances <= self.bits)]).tolist():
            rows = np.flatnonzero(distances == distance)
            counts[rows] = self._count_at(queries[rows], distance, label, key_prefix)
        return counts

    @abc.abstractmethod
    def describe(self, ids: np.ndarray) -> tuple[list[str], list[str]]:
        """Keys and labels of items.

        Args:
            ids: integer array of shape `(n,)`; -1, and ids that are not there, have neither.

        Returns:
            Two lists of n str: keys and labels, "" where there is none.
        """

    def codes(self, ids: np.ndarray) -> np.ndarray:
        """Codes of items.

        Args:
            ids: integer array of shape `(n,)`.

        Returns:
            uint8 array of shape `(n, ceil(bits / 8))`.

        Raises:
            UserError: an id is not there.
        """
        wanted, back = np.unique(np.asarray(ids, np.int64), return_inverse=True)
        codes, there = self._codes(wanted)
        if not there.all():
            raise UserError(f"{writing.some(wanted[~there])} not in the index")
        return codes[back]

    @abc.abstractmethod
    def items(self) -> typing.Iterator[tuple[np.ndarray, list[str], list[str]]]:
        """Yields ids, keys and labels of all items: int64 array `(n,)` and two lists of n str."""

    def stats(self) -> dict:
        """What the index holds, as a JSON-able dict.

        `recall_reached` is the share of the nearest 10 that was measured when the approximate
        structure was built, the least one where there are several; None where there is none, or
        an older version built it.
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
        """Reads everything, and compares it with checksums and with what the index says of itself.

        Returns:
            What is wrong; empty where all is well.
        """

    def _queries(self, codes, fingerprint):
        """Codes that were checked to be of this index."""
        writing.check_model(self, fingerprint)
        return writing.checked_codes(codes, self.bits)

    @classmethod
    @abc.abstractmethod
    def _make(cls, path, facts, items):
        """Makes an index of checked `segments.Items`, and opens it."""

    @abc.abstractmethod
    def _change(self, mending=False) -> contextlib.AbstractContextManager:
        """Keeps other writers away: yields the newest facts, to be edited.

        Args:
            mending: bool; also after a writer that was killed.
        """

    @abc.abstractmethod
    def _there(self, ids):
        """Those of some ids, ascending and each once, that are in the index, ascending."""

    @abc.abstractmethod
    def _add(self, facts, items):
        """Adds checked items, none of which is there, makes the facts hold, and refreshes."""

    @abc.abstractmethod
    def _remove(self, facts, ids):
        """Removes ids, ascending and each once, which are there; as `_add`."""

    @abc.abstractmethod
    def _compact(self, facts):
        """Writes the index as the facts say; as `_add`."""

    @abc.abstractmethod
    def _replace(self, facts, items):
        """Swaps all items for checked ones; as `_add`."""

    @abc.abstractmethod
    def _nearest(self, queries, k, label, key_prefix):
        """`Neighbours` with k columns of checked queries."""

    @abc.abstractmethod
    def _within(self, queries, radius, label, key_prefix):
        """`Within` of checked queries."""

    @abc.abstractmethod
    def _count_at(self, queries, distance, label, key_prefix):
        """int64 array: the number of items at one distance, the same for all queries."""

    @abc.abstractmethod
    def _codes(self, ids):
        """Codes of ids, ascending and each once: `(n, bytes)`, and a bool array: which exist."""

    @abc.abstractmethod
    def _reached(self):
        """The recall that was measured, or None."""

    @abc.abstractmethod
    def _details(self):
        """What `stats` says beside what all stores say: dict."""
