"""Finds the nearest codes: `python -m dah_tf.search COMMAND --index=DIR ...`.

Commands:
  build    --codes=CODES                            makes an index
  add      --codes=CODES                            adds items
  remove   ID... or --ids=FILE                      removes items
  query    --model=MODEL IMAGE... or --codes=CODES  prints the nearest items of each query
  rebuild  --model=MODEL or --codes=CODES           encodes the images again by another model, or
                                                    takes other items, and swaps in one step
  compact  [--backend=BACKEND]                      gives the space of removed items free
  stats                                             prints what the index holds
  verify                                            checks every file against its checksum

CODES is a folder that dah_tf.encode made, or a .npy array: uint8 (n, bytes), packed as
dah_tf.codes says. With an array go --ids, whole numbers (n,), without which items are numbered
on; --keys (such as paths) and --labels, strings or numbers (n,). IMAGEs are files or folders of
them. BACKEND is flat, mih or numpy, which are exact, or hnsw, ivf or auto, which find a share of
the nearest codes: hnsw:recall=0.99. What add, remove, rebuild and compact did is on the disk when they end, all of it or nothing.

Where more items stand at the last distance of an answer than --k shows, query says how many; which
of them are shown is not defined.

--index=milvus:URI/COLLECTION keeps the items in Milvus: milvus:http://HOST:19530/photos, or
milvus:photos.db/photos for one embedded in this process.
"""

import json
import os
import sys
import warnings

import numpy as np
from absl import flags

from dah_tf.errors import UserError, shortened
from dah_tf.gallery import answers
from dah_tf.terminal import cli

FLAGS = flags.FLAGS

ITEMS = {"codes", "ids", "keys", "labels", "fingerprint"}


def define_flags():
    """Every flag of the command."""
    flags.DEFINE_string("index", None, "The index's folder, or milvus:URI/COLLECTION.")
    flags.DEFINE_string("codes", None, "A folder of codes, or packed codes, .npy.")
    flags.DEFINE_string("ids", None, "Ids, .npy; 0 to 2**63 - 1.")
    flags.DEFINE_string("keys", None, "A string for each item, such as its path, .npy.")
    flags.DEFINE_string("labels", None, "A label for each item, .npy.")
    flags.DEFINE_integer("bits", None, "Code length, 8 to 256; None: the codes' own.")
    flags.DEFINE_string("fingerprint", None, "The model that the codes are from.")
    flags.DEFINE_string(
        "backend",
        None,
        "flat (default), mih, numpy, hnsw, ivf or auto; in Milvus flat or ivf. The last three of "
        "these take the share of the nearest codes that they are to find, by default 0.95: "
        "hnsw:recall=0.99.",
    )
    flags.DEFINE_float("recall", None, "An option of --backend now.")
    flags.DEFINE_string(
        "model", None, "A SavedModel, a folder of its versions, a run, or pretrained:NAME."
    )
    flags.DEFINE_string(
        "root",
        None,
        "The folder that keys which are relative paths begin at; None: the index's own, which is "
        "where its images were encoded.",
    )
    flags.DEFINE_integer("k", 10, "Neighbours of each query.")
    flags.DEFINE_integer("max_distance", None, "Items farther away are no match.")
    flags.DEFINE_integer("radius", None, "Instead of k: every item up to this distance.")
    flags.DEFINE_integer(
        "rerank", 0, "Nearest items that the query's float hash values order anew; 0: none.", 0
    )
    flags.DEFINE_string("label", None, "Only items with this label, as a whole.")
    flags.DEFINE_string("key_prefix", None, "Only items whose key begins with this.")
    flags.DEFINE_boolean("json", False, "Print JSON.")
    flags.DEFINE_string("gallery", None, "Also write a page .html or picture .png of the answers.")


def build():
    codes, items = read_items()
    from dah_tf.index import create_index

    made = create_index(
        FLAGS.index,
        bits=FLAGS.bits or items.pop("bits", None) or 8 * codes.shape[1],
        fingerprint=items.pop("fingerprint"),
        backend=FLAGS.backend or "flat",
        recall=recall("flat"),
        codes=codes,
        root=os.path.abspath(FLAGS.root) if FLAGS.root else items.get("root"),
        **{name: items[name] for name in ("ids", "keys", "labels")},
    )
    print(f"{len(made):,} items of {made.bits} bits in {FLAGS.index}")


def add():
    codes, items = read_items()
    index = opened()
    changes = index.stats()["changes"]
    bits = items.pop("bits", index.bits)
    if bits != index.bits:
        raise UserError(f"{FLAGS.codes} has codes of {bits} bits, {FLAGS.index} of {index.bits}")
    theirs, root = items.get("root"), root_of(index)
    items["root"] = root or theirs
    if os.path.isdir(FLAGS.codes):
        if theirs and root and os.path.realpath(theirs) != os.path.realpath(root):
            raise UserError(
                f"the paths of {FLAGS.codes} begin at {theirs}, those of {FLAGS.index} at {root}: "
                "encode from there, or by an absolute --input; if it is one folder that was moved, "
                f"say --root={theirs}"
            )
        # The command may be repeated, as after a kill: an image is there once.
        new = without_known(index, items["keys"], items["root"])
        if len(new) < len(codes):
            print(f"{len(codes) - len(new):,} are in {FLAGS.index} already")
        codes = codes[new]
        for name in ("keys", "labels"):
            items[name] = items[name] and [items[name][row] for row in new]
        items["changes"] = changes
    added = index.add(codes, **items)
    print(f"{len(added):,} added to {FLAGS.index}: {len(index):,} items")


def recall(backend):
    """The share of the older flag, of which a line on stderr names the new home."""
    if FLAGS.recall is not None:
        own = (FLAGS.backend or backend).partition(":")[0]
        if own in ("hnsw", "ivf", "auto"):
            print(f"note: --recall is now --backend={own}:recall={FLAGS.recall:g}", file=sys.stderr)
        else:
            print(
                "note: --recall is now an option of --backend, such as "
                f"--backend=hnsw:recall={FLAGS.recall:g}; {own} is exact and has none",
                file=sys.stderr,
            )
    return FLAGS.recall


def root_of(index):
    """The folder that an index's relative keys begin at, or None."""
    return os.path.abspath(FLAGS.root) if FLAGS.root else index.root


def without_known(index, keys, root):
    """Rows whose images an index does not have yet: list of int."""
    from dah_tf.codes.archive import place

    places = [place(key, root) for key in keys]
    wanted = set(places)
    for _, known, _ in index.items():
        wanted.difference_update(place(key, root) for key in known)
    return [row for row, each in enumerate(places) if each in wanted]


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


def query(words):
    if FLAGS.gallery:
        from dah_tf import gallery

        gallery.check(FLAGS.gallery)
    if FLAGS.radius is not None and (FLAGS["k"].present or FLAGS.max_distance is not None):
        raise UserError("--radius stands alone, without --k and --max_distance")
    if FLAGS.rerank and (FLAGS.codes or FLAGS.radius is not None):
        raise UserError("--rerank is for images (--model) and their --k nearest items")
    if FLAGS.k < 1:
        raise UserError(f"k is at least 1. Received: {FLAGS.k}")
    if FLAGS.max_distance is not None and FLAGS.max_distance < 0:
        raise UserError(f"--max_distance is at least 0. Received: {FLAGS.max_distance}")
    index = opened(FLAGS.backend)
    queries, codes, values, fingerprint, broken = read_queries(words, index)
    about = {"label": FLAGS.label, "key_prefix": FLAGS.key_prefix, "fingerprint": fingerprint}
    found = nearest(index, codes, values, about)
    totals = [0] * len(found)  # within a radius all items are shown
    if FLAGS.radius is None:
        totals = index.count_at(codes, answers.last_distances(found), **about)
    found = answers.describe(index, queries, found, totals)
    if FLAGS.json:
        print(answers.to_json(found))
    else:
        for line in answers.to_table(found):
            print(line)
    if FLAGS.gallery:
        gallery.write(FLAGS.gallery, answers.with_paths(found, root_of(index) or "."))
    for key, reason in broken:
        print(f"error: {shortened(answers.shown(key), 200)}: {reason}", file=sys.stderr)
    return 2 if broken else 0


def nearest(index, codes, values, about):
    """The items that answer each query: a list of tuples of distances, ids and maybe scores."""
    if FLAGS.radius is not None:
        starts, distances, ids = index.radius(codes, FLAGS.radius, **about)
        if not len(codes):
            return []
        order = np.lexsort((ids, distances, np.repeat(np.arange(len(codes)), np.diff(starts))))
        parts = (np.split(each[order], starts[1:-1]) for each in (distances, ids))
        return list(zip(*parts, strict=True))
    found = index.search(codes, max(FLAGS.k, FLAGS.rerank), FLAGS.max_distance, **about)
    if not FLAGS.rerank:
        return list(zip(*found, strict=True))
    from dah_tf.index.reranking import rerank

    hashes, span = values
    scores, distances, ids = rerank(index, hashes, found, FLAGS.k, span)
    return list(zip(distances, ids, scores, strict=True))


def read_queries(words, index):
    """What is asked: of each query a dict, codes, and maybe their hash values with the span of
    these; the model; and what is broken.

    Raises:
        UserError: neither or both of images and codes, or an image by a model that is not the
            index's.
    """
    if bool(words) == bool(FLAGS.codes):
        raise UserError("name what to look for: image files or folders with --model, or --codes")
    for one, other in (("codes", "model"), ("model", "fingerprint")):
        if FLAGS[one].present and FLAGS[other].present:
            raise UserError(f"--{one} and --{other} exclude each other: leave out --{other}")
    if FLAGS.codes:
        codes, items = read_items()
        queries = [{"query": row} for row in range(len(codes))]
        if items["keys"]:
            labels = items["labels"] or [""] * len(codes)
            root = FLAGS.root or items.get("root") or "."
            queries = [named(*pair, root) for pair in zip(items["keys"], labels, strict=True)]
        return queries, codes, None, items["fingerprint"], []
    if not FLAGS.model:
        raise UserError("name the model that encodes the images: --model=models/dah")
    encoder = load_encoder(index)
    found = encoder.files(*words)
    if not found.keys and not found.broken:
        raise UserError(f"{words[0]} holds no files")
    queries = [named(*pair) for pair in zip(found.keys, found.labels, strict=True)]
    return queries, found.codes, (found.hash, encoder.span), encoder.fingerprint, found.broken


def named(key, label, root="."):
    """What is known of a query that has a key."""
    image = os.path.normpath(os.path.join(root, key))
    return {"query": key, "image": image} | ({"label": label} if label else {})


def load_encoder(index=None):
    """The encoder of --model, refused before it is loaded if its codes do not fit the index."""
    from dah_tf.encoding import Encoder, find_model

    path, model = find_model(FLAGS.model)
    if index is not None and model["bits"] != index.bits:
        raise UserError(
            f"{path} makes codes of {model['bits']} bits, {FLAGS.index} holds codes of {index.bits}"
        )
    if index is not None and index.fingerprint not in (None, model["fingerprint"]):
        raise UserError(
            f"{path} is model {model['fingerprint'][:12]}, {FLAGS.index} holds codes of model "
            f"{index.fingerprint[:12]}: their distances mean nothing; "
            f"python -m dah_tf.search rebuild --index={FLAGS.index} --model={FLAGS.model}"
        )
    cli.import_quietly()
    return Encoder(FLAGS.model)


def rebuild():
    index = opened()
    if FLAGS.model:
        given = [name for name in ITEMS | {"bits"} if FLAGS[name].present]
        if given:
            raise UserError(f"--model encodes the index's own images: leave out --{given[0]}")
        from dah_tf.encoding.rebuild import rebuild as encode_again

        encode_again(index, FLAGS.model, encode_here, FLAGS.root)
    else:
        if FLAGS.root:
            raise UserError("--root is for --model, which reads the images: leave out --root")
        codes, items = read_items()
        bits = FLAGS.bits or items.pop("bits", None) or 8 * codes.shape[1]
        index.replace(codes, **items, bits=bits)
    print(f"{len(index):,} items of {index.bits} bits in {FLAGS.index}")


def encode_here(job):
    """Encodes what a job misses in this process."""
    job.encode_missing(load_encoder())


def compact():
    index = opened()
    index.compact(FLAGS.backend, recall(index.stats()["backend"]))
    size = index.stats().get("megabytes")  # Milvus does not say
    print(f"{len(index):,} items{f', {size:,} MB' if size is not None else ''} in {FLAGS.index}")


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
    "build": (build, ITEMS | {"bits", "backend", "recall", "root"}),
    "add": (add, ITEMS | {"root"}),
    "remove": (remove, {"ids"}),
    "query": (
        query,
        {"codes", "model", "k", "max_distance", "radius", "rerank", "label", "key_prefix"}
        | {"backend", "fingerprint", "json", "gallery", "root"},
    ),
    "rebuild": (rebuild, ITEMS | {"bits", "model", "root"}),
    "compact": (compact, {"backend", "recall"}),
    "stats": (stats, {"json"}),
    "verify": (verify, set()),
}


def opened(backend=None):
    from dah_tf.index import open_index

    return open_index(FLAGS.index, backend)


def read_items():
    """The codes, and a dict of what is known of them: what `Index.add` takes, maybe `bits`."""
    if not FLAGS.codes:
        raise UserError("name the codes: --codes=CODES, a folder of codes or a .npy file")
    if os.path.isdir(FLAGS.codes):
        own = ("ids", "keys", "labels", "bits", "fingerprint")
        given = [name for name in own if FLAGS[name].present]
        if given:
            raise UserError(f"{FLAGS.codes} is a folder of codes: leave out --{given[0]}")
        from dah_tf.codes.archive import Codes

        folder = Codes.open(FLAGS.codes)
        codes, keys, labels = folder.read()
        known = {"fingerprint": folder.fingerprint, "bits": folder.bits, "root": folder.directory}
        return codes, {"ids": None, "keys": keys, "labels": labels if any(labels) else None} | known
    codes = read_array(FLAGS.codes)
    if codes.ndim != 2:
        raise UserError(f"{FLAGS.codes} has shape {codes.shape}; codes have shape (n, bytes)")
    ids = read_array(FLAGS.ids) if FLAGS.ids else None
    keys, labels = (read_strings(path) if path else None for path in (FLAGS.keys, FLAGS.labels))
    return codes, {"ids": ids, "keys": keys, "labels": labels, "fingerprint": FLAGS.fingerprint}


def read_strings(path):
    """A list of str from a `.npy` file of strings, names of files as bytes, or numbers."""
    array = read_array(path)
    if array.ndim != 1:
        raise UserError(f"{path} has shape {array.shape}; a string for each item has shape (n,)")
    return [os.fsdecode(each) if isinstance(each, bytes) else str(each) for each in array.tolist()]


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


def main(words):
    if not words or words[0] not in COMMANDS:
        given = f" Received: {words[0]}" if words else ""
        raise UserError(f"name a command: {', '.join(COMMANDS)}.{given}")
    command, takes = COMMANDS[words[0]]
    with_words = command in (remove, query)
    if words[1:] and not with_words:
        raise UserError(f"unexpected argument {words[1]!r}; flags are written --name=value")
    for name in cli.own_flags() - takes - {"index"}:
        if FLAGS[name].present:
            raise UserError(f"{words[0]} takes no --{name}")
    if not FLAGS.index:
        raise UserError("name the index: --index=DIR")
    with warnings.catch_warnings():
        warnings.showwarning = say_warning
        return command(words[1:]) if with_words else command()


def say_warning(message, *_):
    """Says a warning as one line, not with a line of code."""
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__, paths=True, keras=False)
