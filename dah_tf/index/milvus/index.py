"""The index in Milvus, for more codes than one machine holds: the interface of `Index`.

An index NAME is two collections. `NAME` has one row, the facts: JSON with `version`, `bits`,
`fingerprint`, `backend`, `recall`, `items`, `next_id` and more. `NAME__NUMBER` has the items: `id`
(int64, primary), `code` (binary vector of 8 * ceil(bits / 8) dimensions, packed as `dah_tf.codes`
says), `key` and `label` (escaped as `names.escaped` says, "" for none) and `change`, the
number of the change that wrote it. A new row of facts swaps all items at once: Milvus has aliases
for that, Milvus Lite has none.
"""

import contextlib
import functools

import numpy as np

from dah_tf.errors import UserError
from dah_tf.index import writing
from dah_tf.index.milvus import answering, connection, names, storing

TRIES = 4


def _follows(read):
    """Reads again where a `replace` by another took the collection away meanwhile."""

    @functools.wraps(read)
    def reading(self, *args, **kwargs):
        for _ in range(TRIES):
            try:
                return read(self, *args, **kwargs)
            except connection.Gone:
                self.refresh()
        return read(self, *args, **kwargs)

    return reading


class MilvusIndex:
    """Binary codes and their ids in Milvus. Made by `create`, opened by `open`, as `Index`.

    Where it differs from `Index`:

    - One writer at a time is up to the caller. A writer that finds another's mark refuses, but
      two that start in the same moment do not see each other.
    - A reader sees a part of what is being added or removed meanwhile. `replace` is one step for
      it: what it reads is of before or of after.
    - Every method raises `UserError` where Milvus fails. If `add` or `replace` does, what was sent
      is taken back. A killed writer leaves its part and its mark: the next one is told so, and
      `compact` takes both away. A failed or killed `remove` may have removed a part.

    Example:
        >>> index = MilvusIndex.create("milvus:http://milvus:19530/photos", bits=48)
        >>> ids = index.add(codes, keys=paths)
        >>> distances, ids = index.search(query_codes, k=10)
    """

    def __init__(self, path, backend=None, server=None):
        location = names.parse(path)
        self.path, self._name, self._backend = location.path, location.collection, backend
        try:
            self._server = server or connection.Server(location)
        except connection.Gone:
            raise self._no_index() from None
        self._facts = {"collection": None}
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
            path: str, `milvus:http://HOST:PORT/NAME` (or `https`, or `/DATABASE/NAME`; who asks
                is in the environment's MILVUS_TOKEN), or `milvus:FOLDER/FILE.db/NAME`.
            bits: int, code length, 8 to 256.
            fingerprint: str, names the model that the codes are from; None is unknown.
            backend: str, one of `milvus.BACKENDS`; Milvus Lite has flat only.
            recall: float, share of the true 10 nearest codes that ivf finds. It is measured on
                the stored codes, here if there are any, and in `replace` and `compact`.
            codes, ids, keys, labels: the first items, as in `add`.
            root: str, the folder that keys which are relative paths begin at; None is unknown.

        Returns:
            `MilvusIndex`.

        Raises:
            UserError: bad arguments, the name is taken, or Milvus cannot be reached or refuses.
        """
        location = names.parse(path)
        storing.check_backend(backend, recall, location.lite)
        name = location.collection
        facts = storing.empty(name, bits, fingerprint, backend, recall, root)
        codes = np.zeros((0, -(-bits // 8)), np.uint8) if codes is None else codes
        items = writing.checked(facts, codes, ids, keys, labels)
        strings = storing.strings(items)
        server = connection.Server(location, make=True)
        description = server.description(name)
        # Facts without their row are what a killed `create` left.
        if description and (description != storing.FACTS or storing.read(server, name)):
            raise UserError(f"{path} exists already; choose another collection, or drop it")
        try:
            storing.make(server, facts, items, *strings, facts["generation"])
            storing.create(server, name, facts)
        except BaseException:
            with contextlib.suppress(UserError):
                # The facts first: they may be there, though Milvus did not say so.
                if server.description(name) == storing.FACTS:
                    server.drop(name)
                storing.drop(server, facts["collection"])
            raise
        return cls(path, server=server)

    @classmethod
    def open(cls, path, backend=None):
        """Opens an index.

        Args:
            path: str, as in `create`.
            backend: str, how this object searches; None is as the index was made. flat makes an
                index of ivf exact.

        Returns:
            `MilvusIndex`.

        Raises:
            UserError: no index, one of another format version or program, or Milvus cannot be
                reached (within seconds) or refuses.
        """
        if backend:
            storing.check_backend(backend)
        return cls(path, backend)

    def close(self):
        """Ends the connection. Milvus Lite's file stays with this process until it ends."""
        self._server.close()

    def refresh(self):
        """Learns what other processes changed since the index was opened: the facts."""
        description = self._server.description(self._name)
        if description not in (None, storing.FACTS):
            raise UserError(f"{self.path} is another program's; choose another collection")
        facts = description and storing.read(self._server, self._name)
        if not facts:
            raise self._no_index()
        if facts["version"] != storing.VERSION:
            raise UserError(
                f"{self.path} has index format {facts['version']}, this dah_tf reads format "
                f"{storing.VERSION}; search it with the dah_tf that wrote it, or build it "
                "again from its codes with this one"
            )
        if facts["collection"] != self._facts["collection"]:
            self._server.load(facts["collection"])
        self._facts = facts

    def _no_index(self):
        return UserError(
            f"{self.path} is no index: there is no such collection; make one with "
            f"python -m dah_tf.search build --index={self.path}"
        )

    def __len__(self):
        return self._facts["items"]

    @property
    def bits(self):
        """int, code length."""
        return self._facts["bits"]

    @property
    def fingerprint(self):
        """str, the model that the codes are from, or None."""
        return self._facts["fingerprint"]

    @property
    def root(self):
        """str, as `Index.root`."""
        return self._facts.get("root")

    @property
    def backend(self):
        """str, how searching is done: one of `milvus.BACKENDS`."""
        return self._backend or self._facts["backend"]

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
        """Adds items. Everything is checked before anything is sent.

        Args:
            codes: uint8 array of shape `(n, ceil(bits / 8))`.
            ids: integer array of shape `(n,)`; None numbers on after the largest id ever given.
            keys: sequence of n str, or None; 4,096 bytes each at most.
            labels: sequence of n str, or None; 1,024 bytes each at most.
            fingerprint: str, the model that the codes are from; None is not checked.
            changes, root: as in `Index.add`.

        Returns:
            int64 array of the n ids.

        Raises:
            UserError: codes of another length or model, an id given twice or there already, a
                string too long, another process writes; or Milvus failed, and what was sent is
                taken back.
        """
        facts = self._change()
        writing.check_unchanged(self, changes, facts["generation"])
        writing.check_model(self, fingerprint)
        items = writing.checked(facts, codes, ids, keys, labels)
        strings = storing.strings(items)
        if not len(items.ids):
            return items.ids
        # No id that was never given can be there.
        there = self._there(items.ids[items.ids < self._facts["next_id"]])
        if len(there):
            raise UserError(f"{writing.some(there)} already in the index; nothing added")
        facts["items"] += len(items.ids)
        facts["root"] = root or self.root
        with self._marked(facts):
            change = facts["generation"] + 1
            storing.send(self._server, facts, items, *strings, change)
        return items.ids

    def remove(self, ids):
        """Removes items. All ids are checked before any is removed.

        Args:
            ids: integer array of shape `(n,)`.

        Raises:
            UserError: an id is not there, or another process writes, and nothing was changed; or
                Milvus failed, and a part may be removed.
        """
        facts = self._change()
        ids = np.unique(writing.checked_ids(ids))
        if not len(ids):
            return
        missing = np.setdiff1d(ids, self._there(ids))
        if len(missing):
            raise UserError(f"{writing.some(missing)} not in the index; nothing removed")
        facts["items"] -= len(ids)
        with self._marked(facts):
            self._server.delete(facts["collection"], ids)

    def compact(self, backend=None, recall=None):
        """Takes away what killed writers left, and their mark; asks Milvus to give space free.

        Call it when no process writes. Changing between flat and ivf builds Milvus' index anew:
        meanwhile the collection cannot be searched.

        Args:
            backend: str, the backend from now on; None keeps it.
            recall: float, as in `create`; None keeps it.

        Raises:
            UserError: bad arguments, or Milvus failed; calling it again goes on.
        """
        self.refresh()
        facts = self._facts | {"writing": False}
        facts["backend"] = backend or facts["backend"]
        facts["recall"] = facts["recall"] if recall is None else recall
        storing.check_backend(facts["backend"], facts["recall"], self._server.lite)
        storing.settle(self._server, facts)
        for number in (facts["number"] - 1, facts["number"] + 1):
            storing.drop(self._server, f"{self._name}__{number}")
        storing.rebuild(self._server, facts)
        facts["generation"] += 1
        storing.write(self._server, self._name, facts)
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
        """As `Index.replace`: one step for readers, too. Where it fails, nothing was changed."""
        facts = self._change()
        writing.check_unchanged(self, changes, facts["generation"])
        old = facts["collection"]
        facts |= writing.settings(bits or facts["bits"], fingerprint, root)
        items = writing.checked(facts, codes, ids, keys, labels)
        strings = storing.strings(items)
        facts["number"] += 1
        facts["collection"] = f"{self._name}__{facts['number']}"
        with self._marked(facts):
            change = facts["generation"] + 1
            storing.make(self._server, facts, items, *strings, change)
        with contextlib.suppress(UserError):  # the swap is made; `compact` drops it too
            storing.drop(self._server, old)

    @_follows
    def search(self, codes, k, max_distance=None, label=None, key_prefix=None, fingerprint=None):
        """As `Index.search`; ivf is approximate, and as exact as flat with `backend="flat"`."""
        queries = self._queries(codes, fingerprint)
        if k < 1:
            raise UserError(f"k is at least 1. Received: {k}")
        ask = self._ask(label, key_prefix)
        found = answering.nearest(ask, queries, min(k, len(self)), self.bits)
        if max_distance is not None:
            far = found.distances > max_distance
            found.distances[far] = found.ids[far] = -1
        return found

    @_follows
    def radius(self, codes, r, label=None, key_prefix=None, fingerprint=None):
        """As `Index.radius`: exactly, whatever the backend."""
        queries = self._queries(codes, fingerprint)
        if r < 0:
            raise UserError(f"The radius is at least 0. Received: {r}")
        return answering.within(self._ask(label, key_prefix), queries, min(r, self.bits))

    @_follows
    def describe(self, ids):
        """As `Index.describe`."""
        ids = np.asarray(ids, np.int64)
        strings = list(storing.STRINGS)
        rows = self._server.rows(
            self._facts["collection"], np.unique(ids[ids >= 0]), ["id", *strings]
        )
        there = {row["id"]: [names.unescaped(row[field]) for field in strings] for row in rows}
        found = [there.get(i, ["", ""]) for i in ids.tolist()]
        return [key for key, _ in found], [label for _, label in found]

    @_follows
    def codes(self, ids):
        """As `Index.codes`."""
        ids = np.asarray(ids, np.int64)
        rows = self._server.rows(self._facts["collection"], np.unique(ids), ["id", "code"])
        there = {row["id"]: b"".join(row["code"]) for row in rows}
        missing = np.setdiff1d(ids, np.fromiter(there, np.int64))
        if len(missing):
            raise UserError(f"{writing.some(missing)} not in the index")
        codes = b"".join(there[i] for i in ids.tolist())
        return np.frombuffer(codes, np.uint8).reshape(len(ids), -(-self.bits // 8)).copy()

    def items(self):
        """Yields ids, keys and labels of all items: int64 array `(n,)` and two lists of n str.

        Raises:
            UserError: Milvus failed, or another process replaced all items meanwhile.
        """
        strings = list(storing.STRINGS)
        for rows in self._server.every(self._facts["collection"], ["id", *strings]):
            columns = [[names.unescaped(row[each]) for row in rows] for each in strings]
            yield np.array([row["id"] for row in rows], np.int64), *columns

    def stats(self):
        """What the index holds, as a JSON-able dict."""
        facts = self._facts
        return {
            "path": self.path,
            "items": len(self),
            "bits": self.bits,
            "backend": facts["backend"],
            "recall": facts["recall"],
            "fingerprint": self.fingerprint,
            "root": self.root,
            "collection": facts["collection"],
            "changes": facts["generation"],
        }

    @_follows
    def verify(self):
        """Reads every code, and compares what Milvus holds with the facts.

        Returns:
            List of str, what is wrong; empty where all is well.

        Raises:
            UserError: Milvus failed.
        """
        return list(storing.faults(self._server, self._facts))

    def _change(self):
        """The newest facts, to be edited.

        Raises:
            UserError: another process writes.
        """
        self.refresh()
        if self._facts["writing"]:
            raise UserError(
                f"{self.path} is being written by another process, or one was killed while "
                "writing: if none is at it, compact() takes away what it left"
            )
        return dict(self._facts)

    @contextlib.contextmanager
    def _marked(self, facts):
        with storing.marked(self._server, self._name, self._facts, facts):
            yield
        self.refresh()

    def _there(self, ids):
        """Those of some ids that are in the index, ascending."""
        rows = self._server.rows(self._facts["collection"], ids, ["id"])
        return np.sort(np.fromiter((row["id"] for row in rows), np.int64))

    def _ask(self, label, key_prefix):
        return answering.asker(self._server, self._facts, self.backend, label, key_prefix)

    def _queries(self, codes, fingerprint):
        writing.check_model(self, fingerprint)
        return writing.checked_codes(codes, self.bits)
