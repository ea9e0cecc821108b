"""What the tests of Milvus look at, and how they break it."""

import itertools

from dah_tf.errors import UserError
from dah_tf.index.milvus import connection, storing


def collections(index):
    """The index's collections, sorted."""
    there = index._server.client.list_collections()
    return sorted(n for n in there if n.split("__")[0] == index._name)


def rows(index):
    """Everything that an index has stored."""
    found = [row["facts"] for row in index._server.some(index._name, "id >= 0", ["facts"], 9)]
    assert len(found) == 1
    for page in index._server.every(
        index._facts["collection"], ["id", "code", "key", "label", "change"]
    ):
        found += [str(row) for row in page]
    return collections(index), found


def broken_after(monkeypatch, batches):
    """Lets Milvus fail after so many batches of items."""
    send = connection.Server._upsert
    count = itertools.count()

    def fail(server, name, batch):
        if "key" in batch[0] and next(count) >= batches:
            raise UserError("Milvus failed")
        send(server, name, batch)

    monkeypatch.setattr(connection, "BATCH", 10)
    monkeypatch.setattr(connection.Server, "_upsert", fail)


def killed_after(monkeypatch, batches):
    """As `broken_after`, but nobody tidies up."""
    broken_after(monkeypatch, batches)
    monkeypatch.setattr(storing, "settle", lambda *_: (_ for _ in ()).throw(UserError("killed")))
