"""Finds the nearest codes: `python -m dah_tf.search COMMAND --index=DIR ...`.

Commands:
  build    --codes=FILE [--ids --keys --labels --bits]  makes an index
  add      --codes=FILE [--ids --keys --labels]         adds items
  remove   ID... or --ids=FILE                          removes items
  query    --codes=FILE [--k --max_distance --radius]   prints the nearest items of each code
  rebuild  --codes=FILE [--ids --keys --labels --bits]  swaps all items for others in one step
  compact  [--backend --recall]                         gives the space of removed items free
  stats                                                 prints what the index holds
  verify                                                checks every file against its checksum

FILEs are .npy arrays: codes uint8 (n, bytes), packed as dah_tf.codes says; ids whole numbers (n,),
without which items are numbered on; keys (such as paths) and labels strings or numbers (n,).
What add, remove, rebuild and compact did is on the disk when they end, all of it or nothing.
"""

import json
import os
import sys

import numpy as np
from absl import flags

from dah_tf import options
from dah_tf.errors import UserError

FLAGS = flags.FLAGS

ITEMS = {"codes", "ids", "keys", "labels", "fingerprint"}


def define_flags():
    """Every flag of the command."""
    flags.DEFINE_string("index", None, "The index's folder.")
    flags.DEFINE_string("codes", None, "Packed codes, .npy.")
    flags.DEFINE_string("ids", None, "Ids, .npy; 0 to 2**63 - 1.")
    flags.DEFINE_string("keys", None, "A string for each item, such as its path, .npy.")
    flags.DEFINE_string("labels", None, "A label for each item, .npy.")
    flags.DEFINE_integer("bits", None, "Code length, 8 to 256; None: 8 times the bytes.")
    flags.DEFINE_string("fingerprint", None, "The model that the codes are from.")
    flags.DEFINE_string("backend", None, "flat (default), mih, numpy, hnsw, ivf or auto.")
    flags.DEFINE_float("recall", None, "Of hnsw, ivf and auto: 0 to 1; None: 0.95.")
    flags.DEFINE_integer("k", 10, "Neighbours of each query.")
    flags.DEFINE_integer("max_distance", None, "Items farther away are no match.")
    flags.DEFINE_integer("radius", None, "Instead of k: every item up to this distance.")
    flags.DEFINE_string("label", None, "Only items with this label.")
    flags.DEFINE_string("key_prefix", None, "Only items whose key begins with this.")
    flags.DEFINE_boolean("json", False, "Print JSON.")


def build():
    codes, items = read_items()
    bits = FLAGS.bits or 8 * codes.shape[1]
    made = index_class().create(
        FLAGS.index,
        bits,
        FLAGS.fingerprint,
        FLAGS.backend or "flat",
        0.95 if FLAGS.recall is None else FLAGS.recall,
        codes,
        **items,
    )
    print(f"{len(made):,} items of {made.bits} bits in {FLAGS.index}")


def add():
    index = opened()
    codes, items = read_items()
    added = index.add(codes, **items, fingerprint=FLAGS.fingerprint)
    print(f"{len(added):,} added to {FLAGS.index}: {len(index):,} items")


def remove(words):
    index = opened()
    if bool(words) == bool(FLAGS.ids):
        raise UserError("name what to remove: ids, or --ids=FILE.npy")
    if words:
        wrong = [word for word in words if not (word.isascii() and word.isdigit())]
        if wrong:
            raise UserError(f"{wrong[0]!r} is no id; ids are whole numbers")
        ids = [int(word) for word in words]
    else:
        ids = read_array(FLAGS.ids)
    before = len(index)
    index.remove(ids)
    print(f"{before - len(index):,} removed from {FLAGS.index}: {len(index):,} items")


def query():
    index = opened(FLAGS.backend)
    about = {name: FLAGS[name].value for name in ("label", "key_prefix", "fingerprint")}
    codes = read_codes(FLAGS.codes)
    if FLAGS.radius is None:
        found = index.search(codes, FLAGS.k, FLAGS.max_distance, **about)
        answers = list(zip(*found, strict=True))
    else:
        if FLAGS["k"].present or FLAGS.max_distance is not None:
            raise UserError("--radius stands alone, without --k and --max_distance")
        starts, distances, ids = index.radius(codes, FLAGS.radius, **about)
        order = np.lexsort((ids, distances, np.repeat(np.arange(len(codes)), np.diff(starts))))
        distances, ids = (np.split(each[order], starts[1:-1]) for each in (distances, ids))
        answers = list(zip(distances, ids, strict=True))
    show(described(index, answers))


def rebuild():
    index = opened()
    codes, items = read_items()
    bits = FLAGS.bits or 8 * codes.shape[1]
    index.replace(codes, **items, bits=bits, fingerprint=FLAGS.fingerprint)
    print(f"{len(index):,} items of {index.bits} bits in {FLAGS.index}")


def compact():
    index = opened()
    index.compact(FLAGS.backend, FLAGS.recall)
    stats = index.stats()
    print(f"{len(index):,} items, {stats['megabytes']:,} MB in {FLAGS.index}")


def stats():
    found = opened().stats()
    if FLAGS.json:
        print(json.dumps(found, indent=1))
    else:
        for name, value in found.items():
            print(
                f"{name.replace('_', ' '):<15} {value:,}"
                if isinstance(value, int)
                else f"{name.replace('_', ' '):<15} {value}"
            )


def verify():
    index = opened()
    problems = index.verify()
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        print(f"error: {FLAGS.index} is damaged; restore it, or build it again", file=sys.stderr)
        return 1
    print(f"{FLAGS.index} is sound: {len(index):,} items")
    return 0


# Each command, and the flags that it takes beside --index.
COMMANDS = {
    "build": (build, ITEMS | {"bits", "backend", "recall"}),
    "add": (add, ITEMS),
    "remove": (remove, {"ids"}),
    "query": (
        query,
        {"codes", "k", "max_distance", "radius", "label", "key_prefix"}
        | {"backend", "fingerprint", "json"},
    ),
    "rebuild": (rebuild, ITEMS | {"bits"}),
    "compact": (compact, {"backend", "recall"}),
    "stats": (stats, {"json"}),
    "verify": (verify, set()),
}


def index_class():
    from dah_tf.index import Index

    return Index


def opened(backend=None):
    return index_class().open(FLAGS.index, backend)


def read_items():
    """The codes, and a dict of their ids, keys and labels, of the flags that name them."""
    codes = read_codes(FLAGS.codes)
    if codes.ndim != 2:
        raise UserError(f"{FLAGS.codes} has shape {codes.shape}; codes have shape (n, bytes)")
    ids = read_array(FLAGS.ids) if FLAGS.ids else None
    keys, labels = (
        [str(each) for each in read_array(path).tolist()] if path else None
        for path in (FLAGS.keys, FLAGS.labels)
    )
    return codes, {"ids": ids, "keys": keys, "labels": labels}


def read_codes(path):
    """Packed codes, as array of shape `(n, bytes)`."""
    if not path:
        raise UserError("name the codes: --codes=FILE.npy")
    if os.path.isdir(path):
        raise UserError(f"--codes={path} is a folder; name a .npy file")
    return read_array(path)


def read_array(path):
    """An array of a `.npy` file, mapped into memory."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is no .npy array: {error}") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} holds several arrays; save one with numpy.save")
    return np.asarray(array)


def described(index, answers):
    """For each query a list of dicts, nearest first.

    Args:
        index: `Index`.
        answers: list of pairs of int arrays, distances and ids of a query; ids of -1 are none.
    """
    there = [(distances[ids >= 0], ids[ids >= 0]) for distances, ids in answers]
    every = np.unique(np.concatenate([np.zeros(0, np.int64), *(ids for _, ids in there)]))
    keys, labels = index.describe(every)
    return [
        [
            {"rank": rank, "distance": distance, "id": number, "key": keys[at], "label": labels[at]}
            for rank, (distance, number, at) in enumerate(
                zip(distances.tolist(), ids.tolist(), np.searchsorted(every, ids), strict=True), 1
            )
        ]
        for distances, ids in there
    ]


def show(answers):
    """Prints the neighbours of each query."""
    if FLAGS.json:
        print(json.dumps([{"query": i, "neighbours": found} for i, found in enumerate(answers)]))
        return
    names = ["rank", "distance", "id"]
    names += [n for n in ("key", "label") if any(each[n] for found in answers for each in found)]
    none = ["-", "-", "no match", "", ""]
    rows = [["query", *names]]
    for i, found in enumerate(answers):
        cells = [[printable(each[name]) for name in names] for each in found]
        rows += [[str(i), *row] for row in cells or [none[: len(names)]]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if i > 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def printable(value):
    """Text of a table's cell: no control character of a file's name reaches the terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value)
    )


def main(words):
    if not words or words[0] not in COMMANDS:
        given = f" Received: {words[0]}" if words else ""
        raise UserError(f"name a command: {', '.join(COMMANDS)}.{given}")
    command, takes = COMMANDS[words[0]]
    if words[1:] and command is not remove:
        raise UserError(f"unexpected argument {words[1]!r}; flags are written --name=value")
    for name in options.own_flags() - takes - {"index"}:
        if FLAGS[name].present:
            raise UserError(f"{words[0]} takes no --{name}")
    if not FLAGS.index:
        raise UserError("name the index: --index=DIR")
    return command(words[1:]) if command is remove else command()


if __name__ == "__main__":
    define_flags()
    options.launch(main, __doc__, paths=True, keras=False)
