"""Finds the nearest codes: `python -m dah_tf.search COMMAND --index=DIR ...`.

Commands:
  build    --codes=CODES                            makes an index
  add      --codes=CODES                            adds items
  remove   ID... or --ids=FILE                      removes items
  query    --model=MODEL IMAGE... or --codes=CODES  prints the nearest items of each query
  rebuild  --model=MODEL or --codes=CODES           encodes the images again with another model, or
                                                    takes other items, and replaces all in one step
  compact  [--backend=BACKEND]                      releases the space of removed items
  stats                                             prints facts about the index
  verify                                            compares every file with its checksum

CODES is a folder that dah_tf.encode made, or a .npy array of packed codes: uint8 of shape
(n, bytes), as described in dah_tf.codes. An array can have --ids (whole numbers of shape (n,)), and
--keys and --labels (strings or numbers of shape (n,)). Without --ids the items get the next
numbers. An IMAGE is an image file or a folder of image files.

BACKEND is flat, mih or numpy, which are exact, or hnsw, ivf or auto, which find a share of the
nearest codes: hnsw:recall=0.99. A change is complete on the disk when its command ends. If the
command is killed, the index has either all of the change or nothing of it.

If more items are at the last distance of an answer than --k allows, query says how many. It is not
defined which of them are shown.

--index=milvus:URI/COLLECTION keeps the items in Milvus. URI is the address of a server, as in
milvus:http://HOST:19530/photos, or a file, as in milvus:photos.db/photos, for a Milvus in this
process.
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
    """Defines the flags of the command."""
    flags.DEFINE_string(
        "index", None, "index: the folder of the index, or milvus:URI/COLLECTION for Milvus."
    )
    flags.DEFINE_string("codes", None, "codes: a folder of codes, or a .npy file of packed codes.")
    flags.DEFINE_string("ids", None, "ids: a .npy file of ids, from 0 to 2**63 - 1.")
    flags.DEFINE_string(
        "keys", None, "keys: a .npy file with a string for each item, such as its path."
    )
    flags.DEFINE_string("labels", None, "labels: a .npy file with a label for each item.")
    flags.DEFINE_integer(
        "bits", None, "bits: the code length, 8 to 256. By default it is that of the codes."
    )
    flags.DEFINE_string(
        "fingerprint", None, "fingerprint: the fingerprint of the model that made the codes."
    )
    flags.DEFINE_string(
        "backend",
        None,
        "backend: how the index searches: flat (the default), mih, numpy, hnsw, ivf or auto; in "
        "Milvus flat or ivf. hnsw, ivf and auto have the option recall, which is the share of the "
        "nearest codes that they must find. An example is hnsw:recall=0.99; the default is 0.95.",
    )
    flags.DEFINE_float(
        "recall", None, "recall: an older flag, which is now an option of --backend."
    )
    flags.DEFINE_string(
        "model",
        None,
        "model: a SavedModel, a folder that contains versions of one, the folder of a run, or "
        "pretrained:NAME.",
    )
    flags.DEFINE_string(
        "root",
        None,
        "root: the folder in which keys that are relative paths start. By default it is the one "
        "that the index has stored, in which its images were encoded.",
    )
    flags.DEFINE_integer("k", 10, "k: the number of neighbours of each query.")
    flags.DEFINE_integer(
        "max_distance", None, "max_distance: items that are farther away do not count as a match."
    )
    flags.DEFINE_integer(
        "radius", None, "radius: shows every item up to this distance, in place of the k nearest."
    )
    flags.DEFINE_integer(
        "rerank",
        0,
        "rerank: the number of nearest items that are sorted again by the float hash values of "
        "the query; 0 sorts none.",
        0,
    )
    flags.DEFINE_string("label", None, "label: only items with exactly this label are found.")
    flags.DEFINE_string(
        "key_prefix", None, "key_prefix: only items whose key starts with this text are found."
    )
    flags.DEFINE_boolean("json", False, "json: prints JSON.")
    flags.DEFINE_string(
        "gallery", None, "gallery: also writes the answers as a page (.html) or a picture (.png)."
    )


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
    print(f"{len(made):,} items of {made.bits} bits are in {FLAGS.index}")


def add():
    codes, items = read_items()
    index = opened()
    changes = index.stats()["changes"]
    bits = items.pop("bits", index.bits)
    if bits != index.bits:
        raise UserError(
            f"{FLAGS.codes} has codes of {bits} bits, but {FLAGS.index} has codes of "
            f"{index.bits}; give codes of the same length"
        )
    theirs, root = items.get("root"), root_of(index)
    items["root"] = root or theirs
    if os.path.isdir(FLAGS.codes):
        if theirs and root and os.path.realpath(theirs) != os.path.realpath(root):
            raise UserError(
                f"the paths of {FLAGS.codes} start in {theirs}, but those of {FLAGS.index} start "
                f"in {root}; encode the images from the latter folder, or with an absolute "
                f"--input; if the folder was moved, give --root={theirs}"
            )
        # The command may be repeated, for example after a kill. No image is added twice.
        new = without_known(index, items["keys"], items["root"])
        if len(new) < len(codes):
            print(f"{len(codes) - len(new):,} items are in {FLAGS.index} already")
        codes = codes[new]
        for name in ("keys", "labels"):
            items[name] = items[name] and [items[name][row] for row in new]
        items["changes"] = changes
    added = index.add(codes, **items)
    print(f"{len(added):,} items were added to {FLAGS.index}, which has {len(index):,} items now")


def recall(backend):
    """Returns the value of the older flag --recall, and prints a note about the new one."""
    if FLAGS.recall is not None:
        own = (FLAGS.backend or backend).partition(":")[0]
        if own in ("hnsw", "ivf", "auto"):
            print(f"note: --recall is now --backend={own}:recall={FLAGS.recall:g}", file=sys.stderr)
        else:
            print(
                "note: --recall is now an option of --backend, such as "
                f"--backend=hnsw:recall={FLAGS.recall:g}; {own} is exact and does not have it",
                file=sys.stderr,
            )
    return FLAGS.recall


def root_of(index):
    """Returns the folder in which relative keys of an index start, or None."""
    return os.path.abspath(FLAGS.root) if FLAGS.root else index.root


def without_known(index, keys, root):
    """Returns the rows whose images are not in an index yet: a list of int."""
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
            raise UserError(f"{wrong[0]!r} is not an id; ids are whole numbers")
        ids = [int(word) for word in words]
    else:
        ids = read_array(FLAGS.ids)
    before = len(index)
    index.remove(ids)
    removed = before - len(index)
    print(f"{removed:,} items were removed from {FLAGS.index}, which has {len(index):,} items now")


def query(words):
    if FLAGS.gallery:
        from dah_tf import gallery

        gallery.check(FLAGS.gallery)
    if FLAGS.radius is not None and (FLAGS["k"].present or FLAGS.max_distance is not None):
        raise UserError("--radius cannot be combined with --k or --max_distance")
    if FLAGS.rerank and (FLAGS.codes or FLAGS.radius is not None):
        raise UserError(
            "--rerank needs images as queries (--model), and cannot be combined with --radius"
        )
    if FLAGS.k < 1:
        raise UserError(f"k must be at least 1. Received: {FLAGS.k}")
    if FLAGS.max_distance is not None and FLAGS.max_distance < 0:
        raise UserError(f"--max_distance must be at least 0. Received: {FLAGS.max_distance}")
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
    """Returns the answer to each query: a list of tuples of distances, ids and maybe scores."""
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
    """Reads the queries.

    Returns:
        A list of a dict for each query, the codes, a pair of hash values and their span (or
        None), the fingerprint of the model, and a list of the broken images.

    Raises:
        UserError: neither or both of images and codes are given, or another model than that of the
            index encodes the images.
    """
    if bool(words) == bool(FLAGS.codes):
        raise UserError("name the queries: image files or folders with --model, or --codes")
    for one, other in (("codes", "model"), ("model", "fingerprint")):
        if FLAGS[one].present and FLAGS[other].present:
            raise UserError(f"--{one} and --{other} cannot be combined; leave out --{other}")
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
        raise UserError(f"{words[0]} contains no files")
    queries = [named(*pair) for pair in zip(found.keys, found.labels, strict=True)]
    return queries, found.codes, (found.hash, encoder.span), encoder.fingerprint, found.broken


def named(key, label, root="."):
    """Returns the dict of a query that has a key."""
    image = os.path.normpath(os.path.join(root, key))
    return {"query": key, "image": image} | ({"label": label} if label else {})


def load_encoder(index=None):
    """Loads the encoder of --model, unless its codes would not fit the index."""
    from dah_tf.encoding import Encoder, find_model

    path, model = find_model(FLAGS.model)
    if index is not None and model["bits"] != index.bits:
        raise UserError(
            f"{path} makes codes of {model['bits']} bits, but {FLAGS.index} has codes of "
            f"{index.bits}; name the model that made them"
        )
    if index is not None and index.fingerprint not in (None, model["fingerprint"]):
        raise UserError(
            f"{path} is model {model['fingerprint'][:12]}, but {FLAGS.index} has codes of model "
            f"{index.fingerprint[:12]}; distances between their codes mean nothing; encode the "
            f"images again: python -m dah_tf.search rebuild --index={FLAGS.index} --model={FLAGS.model}"
        )
    cli.import_quietly()
    return Encoder(FLAGS.model)


def rebuild():
    index = opened()
    if FLAGS.model:
        given = [name for name in ITEMS | {"bits"} if FLAGS[name].present]
        if given:
            raise UserError(
                f"--model encodes the images of the index again; leave out --{given[0]}"
            )
        from dah_tf.encoding.rebuild import rebuild as encode_again

        encode_again(index, FLAGS.model, encode_here, FLAGS.root)
    else:
        if FLAGS.root:
            raise UserError("--root needs --model, which reads the images; leave out --root")
        codes, items = read_items()
        bits = FLAGS.bits or items.pop("bits", None) or 8 * codes.shape[1]
        index.replace(codes, **items, bits=bits)
    print(f"{len(index):,} items of {index.bits} bits are in {FLAGS.index}")


def encode_here(job):
    """Encodes the missing shards of a job in this process."""
    job.encode_missing(load_encoder())


def compact():
    index = opened()
    index.compact(FLAGS.backend, recall(index.stats()["backend"]))
    size = index.stats().get("megabytes")  # Milvus does not report it
    print(
        f"{len(index):,} items{f' of {size:,} MB' if size is not None else ''} are in {FLAGS.index}"
    )


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
    print(f"{FLAGS.index} has no faults: {len(index):,} items")
    return 0


# This maps each command to its function and to its flags besides --index.
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
    """Returns the codes, and a dict of the arguments of `Index.add` and maybe `bits`."""
    if not FLAGS.codes:
        raise UserError("name the codes: --codes=CODES, a folder of codes or a .npy file")
    if os.path.isdir(FLAGS.codes):
        own = ("ids", "keys", "labels", "bits", "fingerprint")
        given = [name for name in own if FLAGS[name].present]
        if given:
            raise UserError(
                f"{FLAGS.codes} is a folder of codes, which has its own {given[0]}; leave out "
                f"--{given[0]}"
            )
        from dah_tf.codes.archive import Codes

        folder = Codes.open(FLAGS.codes)
        codes, keys, labels = folder.read()
        known = {"fingerprint": folder.fingerprint, "bits": folder.bits, "root": folder.directory}
        return codes, {"ids": None, "keys": keys, "labels": labels if any(labels) else None} | known
    codes = read_array(FLAGS.codes)
    if codes.ndim != 2:
        raise UserError(f"{FLAGS.codes} has shape {codes.shape}; codes need shape (n, bytes)")
    ids = read_array(FLAGS.ids) if FLAGS.ids else None
    keys, labels = (read_strings(path) if path else None for path in (FLAGS.keys, FLAGS.labels))
    return codes, {"ids": ids, "keys": keys, "labels": labels, "fingerprint": FLAGS.fingerprint}


def read_strings(path):
    """Reads a `.npy` file of strings, bytes (names of files) or numbers as a list of str."""
    array = read_array(path)
    if array.ndim != 1:
        raise UserError(
            f"{path} has shape {array.shape}; one string for each item is of shape (n,)"
        )
    return [os.fsdecode(each) if isinstance(each, bytes) else str(each) for each in array.tolist()]


def read_array(path):
    """Maps the array of a `.npy` file into memory."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is not a .npy array: {error}") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} contains several arrays; save one with numpy.save")
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
            raise UserError(f"the command {words[0]} has no flag --{name}; leave it out")
    if not FLAGS.index:
        raise UserError("name the index: --index=DIR")
    with warnings.catch_warnings():
        warnings.showwarning = say_warning
        return command(words[1:]) if with_words else command()


def say_warning(message, *_):
    """Prints a warning as one line, without a line of code."""
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__, paths=True, keras=False)
