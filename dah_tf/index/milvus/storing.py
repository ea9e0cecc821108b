"""The rows of facts and items that an index writes to Milvus, and the check of their faults."""

import contextlib
import json
import math
import time
import warnings

import numpy as np

from dah_tf.errors import UserError
from dah_tf.index import calibration, engines, texts
from dah_tf.index.milvus import answering, connection, names

BACKENDS = {
    "flat": engines.exact,  # Milvus' BIN_FLAT
    "ivf": engines.approximately,  # BIN_IVF_FLAT: clusters find the neighbours; a radius is exact
}
VERSION = 1
# The descriptions by which collections are recognised.
FACTS, ITEMS = "dah_tf index: facts", "dah_tf index: items"
STRINGS = {"key": connection.KEY_BYTES, "label": connection.LABEL_BYTES}
LEAST_LISTS = 64
SEGMENT = 10_000_000  # about the number of items in a segment of one gigabyte
SAMPLE, PLACES = 256, 32  # the queries of a measurement, and the places from which they are taken
NOISE = 0.03  # the difference between the recalls of two samples
# The seconds that a measurement waits until the index of Milvus is built and loaded.
INDEXING, LOADING, PAUSE = 600, 60, 1


def check_backend(backend, lite):
    """Refuses a backend that Milvus Lite does not have.

    Raises:
        UserError: Milvus Lite does not have this backend.
    """
    if lite and backend != "flat":
        raise UserError(f"Milvus Lite has no backend {backend!r}; choose flat, or a server")


def empty(name, facts):
    """Returns the facts of an index without items.

    Args:
        name: str, the collection of the facts.
        facts: dict of facts from `Store.create`.
    """
    return {
        "version": VERSION,
        **facts,
        "lists": None,  # the number of clusters of a BIN_IVF_FLAT
        "probes": None,  # the number of clusters in which a search looks
        "reached": None,  # the recall measured with these clusters; 0.2.0 does not write it
        "number": 1,
        "collection": f"{name}__1",
        "items": 0,
        "writing": False,
    }


def read(server, name):
    """Returns the newest facts, or None if there are none.

    Raises:
        Gone: the collection does not exist.
    """
    rows = server.some(name, "id >= 0", ["id", "facts"], connection.BATCH)
    return json.loads(max(rows, key=lambda row: row["id"])["facts"]) if rows else None


def write(server, name, facts):
    """Replaces the facts. A reader sees either the old or the new ones.

    A new row is written before the old ones are deleted. If a row were replaced by another one
    with the same id, a reader might see none at that moment.

    Raises:
        UserError: the fingerprint is too long, or Milvus failed.
    """
    text = json.dumps(facts)
    if len(text) > connection.FACTS_BYTES:
        raise UserError(
            f"the facts of the index take {len(text):,} bytes; Milvus stores at most "
            f"{connection.FACTS_BYTES:,}"
        )
    old = [row["id"] for row in server.some(name, "id >= 0", ["id"], connection.BATCH)]
    new = max(old, default=0) + 1
    server.upsert(name, [{"id": new, "code": b"\0", "facts": text, "change": 0}])
    server.delete(name, np.array(old, np.int64))


def create(server, name, facts):
    """Makes the collection of the facts, if it does not exist, and writes the facts."""
    if server.description(name) is None:
        server.create(name, FACTS, 1, {"facts": connection.FACTS_BYTES})
    write(server, name, facts)


def strings(items):
    """Returns keys and labels in the form in which Milvus stores them: two lists of str.

    Args:
        items: `segments.Items`.

    Raises:
        UserError: a key or label is too long.
    """
    columns = []
    rows = range(len(items.ids))
    for column, (field, longest) in zip((items.keys, items.labels), STRINGS.items(), strict=True):
        if column is None:
            columns.append([""] * len(rows))
            continue
        columns.append([names.escaped(each) for each in texts.decode(*column, rows)])
        lengths = [len(each.encode()) for each in columns[-1]]
        if max(lengths, default=0) > longest:
            row = int(np.argmax(lengths))
            raise UserError(
                f"the {field} of id {items.ids[row]} takes {lengths[row]:,} bytes; Milvus stores "
                f"at most {longest:,}"
            )
    return columns


def send(server, facts, items, keys, labels, change):
    """Sends items to the collection that the facts name.

    Args:
        server: `Server`.
        facts: dict.
        items: `segments.Items`.
        keys, labels: the lists that `strings` returned.
        change: int, the number of the change to which they belong.
    """
    codes = items.codes[:, : -(-facts["bits"] // 8)]
    server.upsert(
        facts["collection"],
        (
            {"id": i, "code": code.tobytes(), "key": key, "label": label, "change": change}
            for i, code, key, label in zip(items.ids.tolist(), codes, keys, labels, strict=True)
        ),
    )


def make(server, facts, items, keys, labels, change):
    """Makes the collection that the facts name, with items, and completes the facts."""
    drop(server, facts["collection"])  # a killed writer may have left it
    facts["items"] = len(items.ids)
    facts["lists"] = lists(facts)
    width = -(-facts["bits"] // 8)
    server.create(facts["collection"], ITEMS, width, STRINGS, facts["lists"])
    send(server, facts, items, keys, labels, change)
    tune(server, facts)


def drop(server, collection):
    """Drops a collection of items, if it exists.

    Raises:
        UserError: the collection contains something else.
    """
    description = server.description(collection)
    if description not in (None, ITEMS):
        raise UserError(
            f"the collection {collection} belongs to another program, but dah_tf needs this name; "
            "drop or rename it"
        )
    if description:
        server.drop(collection)


def settle(server, facts):
    """Deletes the rows of a change that did not end, and counts the others."""
    server.delete_where(facts["collection"], f"change > {facts['generation']}")
    facts["items"] = server.count(facts["collection"])


def rebuild(server, facts):
    """Builds the index that the backend in the facts needs, and completes the facts."""
    collection, made = facts["collection"], server.index_type(facts["collection"])
    if made != ("BIN_FLAT" if facts["backend"] == "flat" else "BIN_IVF_FLAT"):
        facts["lists"] = lists(facts)
        if made:
            server.drop_index(collection)
        server.make_index(collection, facts["lists"])
    server.load(collection)
    end = time.monotonic() + INDEXING
    for done in server.compacting(collection):
        if done or time.monotonic() > end:
            break
        time.sleep(PAUSE)
    tune(server, facts)


def lists(facts):
    """Returns the number of clusters by Milvus' rule, 4 * sqrt(items in a segment).

    For the backend flat it is None.
    """
    if facts["backend"] == "flat":
        return None
    # An empty index will be filled later to an unknown size. A full segment is assumed.
    items = min(facts["items"] or SEGMENT, SEGMENT)
    return max(LEAST_LISTS, int(4 * math.sqrt(items)))


def tune(server, facts):
    """Measures in how many clusters a search must look for the recall, and completes the facts.

    The measurement waits until the rows are sealed and their index is built and loaded, as in
    later searches. Before that, Milvus compares every row, so that any number of clusters seems to
    be enough.

    Warns:
        RecallWarning: Milvus was not ready in time, and nothing was measured.
    """
    facts["reached"] = None
    if not facts["lists"]:
        facts["probes"] = None
        return
    facts["probes"] = max(1, facts["lists"] // 8)  # until there is something to measure
    if facts["items"] < SAMPLE:
        return
    rng = np.random.default_rng(0)
    if not _ready(server, facts, rng):
        warnings.warn(
            "the recall could not be measured, because Milvus still searches the collection "
            "without its index; run compact later to measure it",
            calibration.RecallWarning,
            stacklevel=2,
        )
        return
    efforts = [2**i for i in range(20) if 2**i < facts["lists"]] + [facts["lists"]]
    while True:
        search, truth = _measurement(server, facts, rng)
        facts["probes"], _ = calibration.least_effort(search, truth, efforts, facts["recall"])
        # The chosen number may be the best only by chance, so that other queries measure it again.
        search, truth = _measurement(server, facts, rng)
        reached = calibration.found_share(search(facts["probes"]), truth)
        if reached >= facts["recall"] - NOISE or facts["probes"] == facts["lists"]:
            break
        efforts = [each for each in efforts if each > facts["probes"]]
    facts["reached"] = round(reached, 4)


def _ready(server, facts, rng):
    """Waits until searches use the index of every row. Returns whether they do."""
    collection, end = facts["collection"], time.monotonic() + INDEXING
    server.flush(collection)
    while not server.is_indexed(collection, facts["items"]):
        if time.monotonic() > end:
            return False
        time.sleep(PAUSE)
    server.refresh(collection)
    # The server reports this before its search nodes have loaded the index.
    end = time.monotonic() + LOADING
    codes = _sample(server, facts, rng)[:8]
    most = min(answering.LIMIT, max(1, facts["items"] // 4))
    truth = _distances(server, facts, codes, most, facts["lists"])
    # One of 64 or more clusters cannot contain all of the nearest quarter.
    while calibration.found_share(_distances(server, facts, codes, most, 1), truth) == 1:
        if time.monotonic() > end:
            return False
        time.sleep(PAUSE)
    return True


def _measurement(server, facts, rng):
    """Returns a function that searches a number of clusters, and the exact distances."""
    codes, lists = _sample(server, facts, rng), facts["lists"]
    apart = _distances(server, facts, codes, calibration.NEIGHBOURS + 1, lists)
    queries = calibration.queries(codes, apart, facts["bits"], rng)

    def search(probes):
        return _distances(server, facts, queries, calibration.NEIGHBOURS, probes)

    return search, search(lists)


def _distances(server, facts, queries, k, probes):
    """Searches; returns an int32 array of distances of shape `(q, k)`, filled up with -1."""
    distances = np.full((len(queries), k), -1, np.int32)
    found = server.search(facts["collection"], queries, k, params={"nprobe": probes})
    for row, (apart, _) in zip(distances, found, strict=True):
        row[: len(apart)] = apart
    return distances


def _sample(server, facts, rng):
    """Returns codes of some items as a uint8 array.

    They come from many places, because items are often sorted by class.
    """
    codes, each = {}, SAMPLE // PLACES
    for least in [*rng.integers(0, max(1, facts["next_id"]), PLACES).tolist(), 0]:
        rows = server.some(facts["collection"], f"id >= {least}", ["id", "code"], each)
        codes |= {row["id"]: b"".join(row["code"]) for row in rows}
    return np.array([list(code) for code in codes.values()], np.uint8)


def faults(server, facts):
    """Yields the faults of the items."""
    collection, width = facts["collection"], -(-facts["bits"] // 8)
    if facts["writing"]:
        yield "a process is writing, or was killed; compact() deletes what was left behind"
    wanted = "BIN_IVF_FLAT" if facts["lists"] else "BIN_FLAT"
    if (made := server.index_type(collection)) != wanted:
        yield f"its index is {made} instead of {wanted}"
    fields = {field["name"]: field["params"] for field in server.describe(collection)["fields"]}
    if int(fields["code"]["dim"]) != 8 * width:
        yield f"its codes have {fields['code']['dim']} dimensions instead of {8 * width}"
    count, padded, late, last = 0, 0, 0, -1
    padding = (1 << -facts["bits"] % 8) - 1
    for rows in server.every(collection, ["id", "code", "change"]):
        count, last = count + len(rows), max(last, *(row["id"] for row in rows))
        late += sum(row["change"] > facts["generation"] for row in rows)
        padded += sum(row["code"][-1][-1] & padding != 0 for row in rows)
    if padded:
        yield f"{padded:,} codes have padding that is not 0"
    if late:
        yield f"{late:,} items belong to a change that did not end"
    if count != facts["items"]:
        yield f"it has {count:,} items instead of {facts['items']:,}"
    if count != server.count(collection):
        yield "two items have the same id"
    if last >= facts["next_id"]:
        yield f"id {last} is not below next_id {facts['next_id']}"


@contextlib.contextmanager
def marked(server, name, before, after):
    """Marks an index during a change. The new facts are written at the end.

    Args:
        server: `Server`.
        name: str, the collection of the facts.
        before, after: dicts, the facts. The block may complete `after`.

    Raises:
        UserError: Milvus failed. The rows of the change are deleted, if this is possible.
    """
    try:
        write(server, name, before | {"writing": True})
        yield
        after["generation"] += 1
        write(server, name, after)
    except BaseException:
        with contextlib.suppress(UserError):
            settled = dict(before)
            settle(server, settled)
            if after["collection"] != before["collection"]:
                drop(server, after["collection"])
            write(server, name, settled)
        raise
