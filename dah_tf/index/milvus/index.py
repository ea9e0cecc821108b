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
import pathlib
import re

import numpy as np

from dah_tf.errors import UserError
from dah_tf.index.milvus import answering, connection, names, storing
from dah_tf.index.store import Store

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


class MilvusIndex(Store):
    """An index in Milvus. Where it differs from `Index`:

    - `create` takes `milvus:http://HOST:PORT/NAME` (or `https`, or `/DATABASE/NAME`; who asks is
      in the environment's MILVUS_TOKEN), or `milvus:FOLDER/FILE.db/NAME` for Milvus Lite, which
      has the backend flat only. A key takes 4,096 bytes at most, a label 1,024.
    - The recall of ivf is measured on the stored codes: in `create` if there are any, in
      `replace` and in `compact`. An object opened with the backend flat searches ivf exactly.

    - One writer at a time is up to the caller. A writer that finds another's mark refuses, but
      two that start in the same moment do not see each other.
    - A reader sees a part of what is being added or removed meanwhile. `replace` is one step for
      it: what it reads is of before or of after.
    - Every method raises `UserError` where Milvus fails. If `add` or `replace` does, what was sent
      is taken back. A killed writer leaves its part and its mark: the next one is told so, and
      `compact` takes both away. A failed or killed `remove` may have removed a part.
    - Call `compact` when no process writes. Changing between flat and ivf builds Milvus' index
      anew: meanwhile the collection cannot be searched. If it fails, calling it again goes on.
    - `items` raises `UserError` where another process replaces all items meanwhile.
    - After `close`, Milvus Lite's file stays with this process until it ends.

    Example:
        >>> index = MilvusIndex.create("milvus:http://milvus:19530/photos", bits=48)
        >>> ids = index.add(codes, keys=paths)
        >>> distances, ids = index.search(query_codes, k=10)
    """

    KIND, BACKENDS = "Milvus backend", storing.BACKENDS

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
    def _make(cls, path, facts, items):
        location = names.parse(path)
        storing.check_backend(facts["backend"], location.lite)
        name = location.collection
        facts = storing.empty(name, facts)
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

    def close(self):
        self._server.close()

    def refresh(self):
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
    def beside(self):
        # A collection is beside nothing: the working directory takes its files.
        name = re.sub(r"[^\w.-]", "_", self.path)
        return pathlib.Path(f".{name}").absolute()

    search = _follows(Store.search)
    radius = _follows(Store.radius)
    count_at = _follows(Store.count_at)
    codes = _follows(Store.codes)

    @_follows
    def describe(self, ids):
        ids = np.asarray(ids, np.int64)
        strings = list(storing.STRINGS)
        rows = self._server.rows(
            self._facts["collection"], np.unique(ids[ids >= 0]), ["id", *strings]
        )
        there = {row["id"]: [names.unescaped(row[field]) for field in strings] for row in rows}
        found = [there.get(i, ["", ""]) for i in ids.tolist()]
        return [key for key, _ in found], [label for _, label in found]

    def items(self):
        strings = list(storing.STRINGS)
        for rows in self._server.every(self._facts["collection"], ["id", *strings]):
            columns = [[names.unescaped(row[each]) for row in rows] for each in strings]
            yield np.array([row["id"] for row in rows], np.int64), *columns

    @_follows
    def verify(self):
        return list(storing.faults(self._server, self._facts))

    @contextlib.contextmanager
    def _change(self, mending=False):
        self.refresh()
        if self._facts["writing"] and not mending:
            raise UserError(
                f"{self.path} is being written by another process, or one was killed while "
                "writing: if none is at it, compact() takes away what it left"
            )
        yield dict(self._facts)

    @contextlib.contextmanager
    def _marked(self, facts):
        with storing.marked(self._server, self._name, self._facts, facts):
            yield
        self.refresh()

    def _there(self, ids):
        # No id that was never given can be there.
        ids = ids[ids < self._facts["next_id"]]
        rows = self._server.rows(self._facts["collection"], ids, ["id"])
        return np.sort(np.fromiter((row["id"] for row in rows), np.int64))

    def _add(self, facts, items):
        strings = storing.strings(items)
        facts["items"] += len(items.ids)
        with self._marked(facts):
            change = facts["generation"] + 1
            storing.send(self._server, facts, items, *strings, change)

    def _remove(self, facts, ids):
        facts["items"] -= len(ids)
        with self._marked(facts):
            self._server.delete(facts["collection"], ids)

    def _compact(self, facts):
        facts["writing"] = False
        storing.check_backend(facts["backend"], self._server.lite)
        storing.settle(self._server, facts)
        for number in (facts["number"] - 1, facts["number"] + 1):
            storing.drop(self._server, f"{self._name}__{number}")
        storing.rebuild(self._server, facts)
        facts["generation"] += 1
        storing.write(self._server, self._name, facts)
        self.refresh()

    def _replace(self, facts, items):
        strings, old = storing.strings(items), facts["collection"]
        facts["number"] += 1
        facts["collection"] = f"{self._name}__{facts['number']}"
        with self._marked(facts):
            change = facts["generation"] + 1
            storing.make(self._server, facts, items, *strings, change)
        with contextlib.suppress(UserError):  # the swap is made; `compact` drops it too
            storing.drop(self._server, old)

    def _nearest(self, queries, k, label, key_prefix):
        return answering.nearest(self._ask(label, key_prefix), queries, k, self.bits)

    def _within(self, queries, radius, label, key_prefix):
        return answering.within(self._ask(label, key_prefix), queries, radius)

    def _count_at(self, queries, distance, label, key_prefix):
        return answering.count_at(self._ask(label, key_prefix), queries, distance)

    def _codes(self, ids):
        rows = self._server.rows(self._facts["collection"], ids, ["id", "code"])
        there = {row["id"]: b"".join(row["code"]) for row in rows}
        width = -(-self.bits // 8)
        codes = b"".join(there.get(i, bytes(width)) for i in ids.tolist())
        found = np.array([i in there for i in ids.tolist()], bool)
        return np.frombuffer(codes, np.uint8).reshape(len(ids), width), found

    def _reached(self):
        return self._facts.get("reached")

    def _details(self):
        return {"collection": self._facts["collection"]}

    def _ask(self, label, key_prefix):
        return answering.asker(self._server, self._facts, self.backend, label, key_prefix)
