"""An index in Milvus, for more codes than one machine can hold, with the interface of `Index`.

An index NAME consists of two collections. `NAME` has one row with the facts, which are JSON with
`version`, `bits`, `fingerprint`, `backend`, `recall`, `items`, `next_id` and more. `NAME__NUMBER`
has the items with these fields:

- `id`: int64, the primary key.
- `code`: a binary vector of 8 * ceil(bits / 8) dimensions, packed as in `dah_tf.codes`.
- `key` and `label`: strings that are escaped by `names.escaped`, or "".
- `change`: the number of the change that wrote the item.

A new row of facts replaces all items at once. Milvus has aliases for this, but Milvus Lite has not.
"""

import contextlib
import functools
import pathlib
import re

import numpy as np

from dah_tf.errors import UserError
from dah_tf.index.failure import IndexBusyError
from dah_tf.index.milvus import answering, connection, names, storing
from dah_tf.index.store import Store

TRIES = 4


def _follows(read):
    """Repeats a read if another process has replaced the collection in the meantime."""

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
    """An index in Milvus.

    It differs from `Index` in these points:

    - The address is `milvus:http://HOST:PORT/NAME` for a server. It may have `https` or
      `/DATABASE/NAME`. The environment variable MILVUS_TOKEN names the user.
    - The address is `milvus:FOLDER/FILE.db/NAME` for Milvus Lite, which has only the backend flat.
    - A key may take 4,096 bytes, and a label 1,024.
    - The recall of ivf is measured on the stored codes, in `create` if there are any, in `replace`
      and in `compact`. If an object is opened with the backend flat, it searches ivf exactly.
    - The caller must make sure that only one process writes at a time. A writer refuses if it
      finds the mark of another one, but two that start at the same moment do not see each other.
    - During an `add` or `remove`, a reader sees a part of the change. `replace` is one step for a
      reader.
    - Every method raises `UserError` if Milvus fails. A failed `add` or `replace` is undone. A
      failed or killed `remove` may have removed a part.
    - A killed writer leaves its part and its mark. The next writer reports this, and `compact`
      deletes both.
    - Call `compact` only when no process writes. A change between flat and ivf builds the index of
      Milvus again, and during this time the collection cannot be searched. If `compact` fails,
      call it again.
    - `items` raises `UserError` if another process replaces all items in the meantime.
    - After `close`, this process keeps the file of Milvus Lite open until it ends.

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
        # A killed `create` leaves a collection of facts without a row.
        if description and (description != storing.FACTS or storing.read(server, name)):
            raise UserError(f"{path} exists already; choose another collection, or drop it")
        try:
            storing.make(server, facts, items, *strings, facts["generation"])
            storing.create(server, name, facts)
        except BaseException:
            with contextlib.suppress(UserError):
                # The facts are dropped first. They may exist although Milvus reported an error.
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
            raise UserError(f"{self.path} belongs to another program; choose another collection")
        facts = description and storing.read(self._server, self._name)
        if not facts:
            raise self._no_index()
        if facts["version"] != storing.VERSION:
            raise UserError(
                f"{self.path} has version {facts['version']} of the index format, but this dah_tf "
                f"reads version {storing.VERSION}; search it with the dah_tf that wrote it, or "
                "build it again from its codes with this one"
            )
        if facts["collection"] != self._facts["collection"]:
            self._server.load(facts["collection"])
        self._facts = facts

    def _no_index(self):
        return UserError(
            f"{self.path} is not an index, because there is no such collection; make one with "
            f"python -m dah_tf.search build --index={self.path}"
        )

    def __len__(self):
        return self._facts["items"]

    @property
    def beside(self):
        # A collection has no folder, so that the files go to the working directory.
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
            raise IndexBusyError(
                f"{self.path} is being written by another process, or a process was killed while "
                "writing; if none is writing now, compact() deletes what was left behind"
            )
        yield dict(self._facts)

    @contextlib.contextmanager
    def _marked(self, facts):
        with storing.marked(self._server, self._name, self._facts, facts):
            yield
        self.refresh()

    def _there(self, ids):
        # Ids that were never used cannot exist.
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
        with contextlib.suppress(UserError):  # the replacement is done; `compact` drops it too
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
