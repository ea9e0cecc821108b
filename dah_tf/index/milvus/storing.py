"""What an index writes to Milvus: the row of facts and the rows of items; and what is wrong there."""

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
    "ivf": engines.approximately,  # neighbours by clusters: BIN_IVF_FLAT; radius exact
}
VERSION = 1
# Descriptions, by which a collection is known.
FACTS, ITEMS = "dah_tf index: facts", "dah_tf index: items"
STRINGS = {"key": connection.KEY_BYTES, "label": connection.LABEL_BYTES}
LEAST_LISTS, SEGMENT = 64, 10_000_000  # items in a segment of a gigabyte, about
SAMPLE, PLACES = 256, 32  # queries of a measurement, and places that they are taken from
NOISE = 0.03  # by which the recall of a sample differs from another's
# Seconds that a measurement waits for Milvus' index to be built, and to be loaded.
INDEXING, LOADING, PAUSE = 600, 60, 1


def check_backend(backend, lite):
    """Refuses to build what Milvus Lite does not have.

    Raises:
        UserError: what is wrong.
    """
    if lite and backend != "flat":
        raise UserError(f"Milvus Lite has no backend {backend!r}; choose flat, or a server")


def empty(name, facts):
    """The facts of an index without items.

    Args:
        name: str, the collection of the facts.
        facts: dict of `Store.create`.
    """
    return {
        "version": VERSION,
        **facts,
        "lists": None,  # clusters of a BIN_IVF_FLAT
        "probes": None,  # those that a search looks into
        "reached": None,  # the recall that was measured with these; 0.2.0 does not write it
        "number": 1,
        "collection": f"{name}__1",
        "items": 0,
        "writing": False,
    }


def read(server, name):
    """The newest facts, or None where there are none.

    Raises:
        Gone: there is no collection.
    """
    rows = server.some(name, "id >= 0", ["id", "facts"], connection.BATCH)
    return json.loads(max(rows, key=lambda row: row["id"])["facts"]) if rows else None


def write(server, name, facts):
    """Replaces the facts: readers see the old or the new ones.

    A new row, then the old ones go: who reads while one row is replaced by another of the same id
    may see none.

    Raises:
        UserError: the fingerprint is too long, or Milvus failed.
    """
    text = json.dumps(facts)
    if len(text) > connection.FACTS_BYTES:
        raise UserError(f"Milvus stores {connection.FACTS_BYTES:,} bytes of facts at most")
    old = [row["id"] for row in server.some(name, "id >= 0", ["id"], connection.BATCH)]
    new = max(old, default=0) + 1
    server.upsert(name, [{"id": new, "code": b"\0", "facts": text, "change": 0}])
    server.delete(name, np.array(old, np.int64))


def create(server, name, facts):
    """Makes the collection of the facts, if it is not there, and writes them."""
    if server.description(name) is None:
        server.create(name, FACTS, 1, {"facts": connection.FACTS_BYTES})
    write(server, name, facts)


def strings(items):
    """Keys and labels as Milvus stores them: two lists of str.

    Args:
        items: `segments.Items`.

    Raises:
        UserError: one is too long.
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
                f"{longest:,} at most"
            )
    return columns


def send(server, facts, items, keys, labels, change):
    """Sends items to the collection that the facts name.

    Args:
        server: `Server`.
        facts: dict.
        items: `segments.Items`.
        keys, labels: what `strings` returned.
        change: int, the number of the change that they belong to.
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
    """Makes the collection that the facts name, with items; completes the facts."""
    drop(server, facts["collection"])  # what a killed writer left
    facts["items"] = len(items.ids)
    facts["lists"] = lists(facts)
    width = -(-facts["bits"] // 8)
    server.create(facts["collection"], ITEMS, width, STRINGS, facts["lists"])
    send(server, facts, items, keys, labels, change)
    tune(server, facts)


def drop(server, collection):
    """Drops a collection of items, if there is one.

    Raises:
        UserError: it is something else.
    """
    description = server.description(collection)
    if description not in (None, ITEMS):
        raise UserError(f"the collection {collection} is in the way; drop or rename it")
    if description:
        server.drop(collection)


def settle(server, facts):
    """Takes away the rows of a change that did not end, and counts the others."""
    server.delete_where(facts["collection"], f"change > {facts['generation']}")
    facts["items"] = server.count(facts["collection"])


def rebuild(server, facts):
    """Gives a collection the index that the facts' backend asks for; completes the facts."""
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
    """Number of clusters by Milvus' rule, 4 * sqrt(items in a segment); None for flat."""
    if facts["backend"] == "flat":
        return None
    # Of an index to be filled later nothing is known: a segment will be full one day.
    items = min(facts["items"] or SEGMENT, SEGMENT)
    return max(LEAST_LISTS, int(4 * math.sqrt(items)))


def tune(server, facts):
    """Measures how many clusters a search must look into for the recall; completes the facts.

    The measurement is of what searches will meet: the rows are sealed, their index is built and
    loaded. Before that Milvus compares every row, and any number of clusters seems to be enough.

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
            "Milvus searches the collection without its index, so that its recall could not be "
            "measured; compact measures it",
            calibration.RecallWarning,
            stacklevel=2,
        )
        return
    efforts = [2**i for i in range(20) if 2**i < facts["lists"]] + [facts["lists"]]
    while True:
        search, truth = _measurement(server, facts, rng)
        facts["probes"], _ = calibration.least_effort(search, truth, efforts, facts["recall"])
        # The choice is the best of several by chance: other queries say what it is worth.
        search, truth = _measurement(server, facts, rng)
        reached = calibration.found_share(search(facts["probes"]), truth)
        if reached >= facts["recall"] - NOISE or facts["probes"] == facts["lists"]:
            break
        efforts = [each for each in efforts if each > facts["probes"]]
    facts["reached"] = round(reached, 4)


def _ready(server, facts, rng):
    """Waits until searches use the index of every row; returns whether they do."""
    collection, end = facts["collection"], time.monotonic() + INDEXING
    server.flush(collection)
    while not server.is_indexed(collection, facts["items"]):
        if time.monotonic() > end:
            return False
        time.sleep(PAUSE)
    server.refresh(collection)
    # The server says so before the nodes that search have loaded the index.
    end = time.monotonic() + LOADING
    codes = _sample(server, facts, rng)[:8]
    most = min(answering.LIMIT, max(1, facts["items"] // 4))
    truth = _distances(server, facts, codes, most, facts["lists"])
    # One cluster of 64 or more cannot hold all of the nearest quarter.
    while calibration.found_share(_distances(server, facts, codes, most, 1), truth) == 1:
        if time.monotonic() > end:
            return False
        time.sleep(PAUSE)
    return True


def _measurement(server, facts, rng):
    """A search of so many clusters for new queries, and what it should find."""
    codes, lists = _sample(server, facts, rng), facts["lists"]
    apart = _distances(server, facts, codes, calibration.NEIGHBOURS + 1, lists)
    queries = calibration.queries(codes, apart, facts["bits"], rng)

    def search(probes):
        return _distances(server, facts, queries, calibration.NEIGHBOURS, probes)

    return search, search(lists)


def _distances(server, facts, queries, k, probes):
    """int32 array of shape `(q, k)` of the distances that a search finds; -1 for none."""
    distances = np.full((len(queries), k), -1, np.int32)
    found = server.search(facts["collection"], queries, k, params={"nprobe": probes})
    for row, (apart, _) in zip(distances, found, strict=True):
        row[: len(apart)] = apart
    return distances


def _sample(server, facts, rng):
    """Codes of some items from many places: uint8 array; items lie by class."""
    codes, each = {}, SAMPLE // PLACES
    for least in [*rng.integers(0, max(1, facts["next_id"]), PLACES).tolist(), 0]:
        rows = server.some(facts["collection"], f"id >= {least}", ["id", "code"], each)
        codes |= {row["id"]: b"".join(row["code"]) for row in rows}
    return np.array([list(code) for code in codes.values()], np.uint8)


def faults(server, facts):
    """What is wrong with the items: iterable of str."""
    collection, width = facts["collection"], -(-facts["bits"] // 8)
    if facts["writing"]:
        yield "a writer is at work, or was killed: compact() takes away what it left"
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
        yield f"{late:,} items are of a change that did not end"
    if count != facts["items"]:
        yield f"{count:,} items instead of {facts['items']:,}"
    if count != server.count(collection):
        yield "an id stands there twice"
    if last >= facts["next_id"]:
        yield f"id {last} is not below next_id {facts['next_id']}"


@contextlib.contextmanager
def marked(server, name, before, after):
    """Marks an index while it is changed: its new facts are written last.

    Args:
        server: `Server`.
        name: str, the collection of the facts.
        before, after: dict, the facts; `after` may be completed meanwhile.

    Raises:
        UserError: Milvus failed; rows of the change are taken back, if that is possible.
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
