"""What is to be encoded, in an order that is fixed once: a list of files on disk, or a TFDS split.

A source's rows are numbered from 0 and cut into shards of equal length; the last may be shorter.
"""

import abc
import codecs
import collections
import functools
import os
import pathlib
import stat

import numpy as np

from dah_tf.codes import archive
from dah_tf.data import folders
from dah_tf.errors import UserError

ITEMS, STARTS = "items", "starts.npy"

BLOCK = 256  # examples of a data set that are read at a time


def make(spec, folder, labels="auto", classes=(), skip=(), shard_items=8192, data_dir=None):
    """Lists what is to be encoded.

    Args:
        spec: str, a folder or an image file, `list:FILE` or `tfds:NAME/SPLIT`.
        folder: path of a folder that keeps the list; no other process writes there.
        labels: str, `auto`: the first folder below `spec` where that is one of `classes`;
            `folder`: the first folder, whatever its name; `none`. Lists and data sets say
            themselves what they know, unless it is `none`.
        classes: collection of str, the model's classes.
        skip: collection of str, absolute paths to leave out, as `store.place` writes them.
        shard_items: int, rows of a shard.
        data_dir: path, of TensorFlow Datasets.

    Returns:
        Dict that `open_source` takes, JSON-able; `ignored` counts a folder's files that are no
        images, by kind.

    Raises:
        UserError: nothing there.
    """
    kind, _, rest = spec.partition(":")
    ignored = collections.Counter()
    facts = {"shard_items": shard_items, "directory": os.getcwd(), "labels": labels}
    if kind == "tfds":
        name, _, split = rest.rpartition("/")
        if not name:
            raise UserError(f"input={spec} names no split; want tfds:NAME/SPLIT")
        data_dir = os.path.abspath(data_dir) if data_dir else None
        facts |= {"kind": "tfds", "name": name, "split": split, "data_dir": data_dir}
        source = TfdsSource(folder, facts)
        facts |= {"items": source.count_split(), "full_name": source.full_name}
    else:
        if kind == "list":
            rows = listed(rest)
        else:
            rows = below(spec, labels, set(classes), ignored)
        if labels == "none":
            rows = ((path, b"") for path, _ in rows)
        facts |= {"kind": "files", "ignored": ignored}
        facts["items"] = _write(folder, rows, skip, shard_items)
    if not facts["items"]:
        raise UserError(
            f"input={spec} has nothing to encode" + (", all is in skip" if skip else "")
        )
    return facts


def open_source(folder, facts):
    """The source that `make` listed: `FileSource` or `TfdsSource`."""
    return {"files": FileSource, "tfds": TfdsSource}[facts["kind"]](folder, facts)


def below(spec, labels="auto", classes=(), ignored=None):
    """Yields path and label of a file, or of each image of a folder: pairs of bytes.

    A file's own folder may be its label, as the first folder below a folder may. A file that is
    named counts as an image whatever it is.

    Args:
        spec: path.
        labels, classes: as of `make`.
        ignored: `collections.Counter`, which takes a folder's other files by their kinds.
    """
    if os.path.isfile(spec):
        first = os.path.basename(os.path.dirname(os.path.abspath(spec)))
        known = labels == "folder" or (labels == "auto" and first in classes)
        yield os.fsencode(spec), os.fsencode(first) if known else b""
        return
    if not os.path.isdir(spec):
        raise UserError(f"{spec} is no file or folder")
    try:
        for path in folders.images_below(
            spec, collections.Counter() if ignored is None else ignored
        ):
            first, _, rest = os.path.relpath(path, spec).partition(os.sep)
            known = rest and (labels == "folder" or labels == "auto" and first in classes)
            yield os.fsencode(path), os.fsencode(first) if known else b""
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error


def listed(path):
    """Yields path and label of each line of a list: pairs of bytes.

    A line is a path, relative ones beginning at the list's folder, and optionally a tab and a
    label. Where the list holds a NUL byte, NULs end the paths (as of `find -print0`), and there
    are no labels.
    """
    base = os.fsencode(os.path.dirname(path))
    try:
        with open(path, "rb") as file:
            end = b"\0" if b"\0" in file.read(1 << 16) else b"\n"
            file.seek(0)
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                file.seek(0)
            rest = b""
            while block := file.read(1 << 20):
                *lines, rest = (rest + block).split(end)
                yield from _pairs(lines, base, end)
            yield from _pairs([rest], base, end)
    except OSError as error:
        raise UserError(f"cannot read input=list:{path}: {error.strerror}") from error


def _pairs(lines, base, end):
    for line in lines:
        name, label = line, b""
        if end == b"\n":
            name, _, label = line.rstrip(b"\r").partition(b"\t")
        if name:
            yield os.path.join(base, name), label.strip()


def _write(folder, rows, skip, shard_items):
    """Writes the list, and where in it each shard begins; returns the number of rows."""
    count, starts = 0, [0]
    with open(pathlib.Path(folder) / ITEMS, "wb") as file:
        for path, label in rows:
            if skip and archive.place(os.fsdecode(path)) in skip:
                continue
            if count and count % shard_items == 0:
                starts.append(file.tell())
            file.write(path + b"\0" + label.replace(b"\0", b"") + b"\0")
            count += 1
        starts.append(file.tell())
        file.flush()
        os.fsync(file.fileno())
    with open(pathlib.Path(folder) / STARTS, "wb") as file:
        np.save(file, np.array(starts, np.int64))
        file.flush()
        os.fsync(file.fileno())
    return count


class Source(abc.ABC):
    """Rows in shards.

    Args:
        folder: path of the folder that keeps the list.
        facts: dict of `make`.
    """

    def __init__(self, folder, facts):
        self.folder, self.facts = pathlib.Path(folder), facts
        self.items, self.shard_items = facts.get("items", 0), facts["shard_items"]
        self._error = None

    @property
    def shards(self):
        """int, number of shards."""
        return -(-self.items // self.shard_items)

    def span(self, shard):
        """First row of a shard, and the first behind it."""
        first = shard * self.shard_items
        return first, min(first + self.shard_items, self.items)

    @abc.abstractmethod
    def keys(self, shard):
        """Keys of a shard's rows: list of bytes."""

    @abc.abstractmethod
    def blocks(self, shards):
        """Rows of some shards in order, in blocks; what is known to be no file may be left out.

        Args:
            shards: list of int, ascending.

        Yields:
            int64 rows, labels, and what `contents` takes: an array and two lists of n bytes.

        Raises:
            OSError, UserError: the source itself cannot be read.
        """

    def dataset(self, shards):
        """`blocks` row by row.

        Where the source itself fails, the data set ends and `check` raises: an error in it would
        be taken for that of an image.

        Returns:
            `tf.data.Dataset` of scalars: int64 row, string label, and string that `contents`
            takes.
        """
        import tensorflow as tf

        def blocks():
            try:
                yield from self.blocks(shards)
            except Exception as error:  # noqa: BLE001 - raised again by `check`
                self._error = error

        specs = [tf.TensorSpec([None], dtype) for dtype in (tf.int64, tf.string, tf.string)]
        return tf.data.Dataset.from_generator(blocks, output_signature=tuple(specs)).unbatch()

    def check(self):
        """Raises what ended a data set before its time."""
        if self._error is not None:
            raise self._error

    @abc.abstractmethod
    def contents(self, what):
        """The image file's bytes, in a TensorFlow graph: a scalar string tensor."""

    @abc.abstractmethod
    def entry(self, row):
        """Label of a row, what `contents` takes, and why that cannot be opened: one line or None.

        Returns:
            Two bytes, and a str or None.
        """


class FileSource(Source):
    """Files by a list of paths on disk; only one shard of it is in memory."""

    def __init__(self, folder, facts):
        super().__init__(folder, facts)
        # The shard that is being encoded, and the next: read once, whatever is asked of it.
        self._rows = functools.lru_cache(2)(self._read)

    def _read(self, shard):
        """Paths and labels of a shard's rows: two lists of bytes."""
        starts = np.load(self.folder / STARTS, mmap_mode="r")
        with open(self.folder / ITEMS, "rb") as file:
            file.seek(starts[shard])
            words = file.read(int(starts[shard + 1] - starts[shard])).split(b"\0")
        return words[:-1:2], words[1::2]

    def keys(self, shard):
        return self._rows(shard)[0]

    def blocks(self, shards):
        for shard in shards:
            paths, labels = self._rows(shard)
            paths = [self._absolute(path) for path in paths]
            first, _ = self.span(shard)
            # To open a pipe would wait for its writer for ever.
            rows = [i for i, path in enumerate(paths) if _fault(path) is None]
            yield (
                first + np.array(rows, np.int64),
                [labels[i] for i in rows],
                [paths[i] for i in rows],
            )

    def _absolute(self, path):
        """A worker of a cluster has another working directory."""
        return os.path.join(os.fsencode(self.facts["directory"]), path)

    def contents(self, what):
        import tensorflow as tf

        return tf.io.read_file(what)

    def entry(self, row):
        shard, place = divmod(row, self.shard_items)
        paths, labels = self._rows(shard)
        path = self._absolute(paths[place])
        return labels[place], path, _fault(path)


def _fault(path):
    """Why a path is no file that can be opened: one line, or None."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return error.strerror
    if stat.S_ISDIR(mode):
        return "a folder that cannot be read"
    return None if stat.S_ISREG(mode) else "not a regular file"


class TfdsSource(Source):
    """A split of a prepared TensorFlow data set, in its own order."""

    def __init__(self, folder, facts):
        from dah_tf.data import tfds

        super().__init__(folder, facts)
        self._name = f"tfds:{facts['name']}/{facts['split']}"
        self._builder = tfds.builder_of(facts["name"], facts["data_dir"])
        self._features = self._builder.info.features
        # Features need not be a dict, and theirs tells its names only when asked for them.
        self._used = {"image", "label"} & set(getattr(self._features, "keys", tuple)())
        known = facts.get("full_name", self._builder.info.full_name)
        if known != self._builder.info.full_name:
            raise UserError(f"{self._name} is {self._builder.info.full_name} now, it was {known}")

    @property
    def full_name(self):
        """str, the data set with its version."""
        return self._builder.info.full_name

    def count_split(self):
        """int, the split's number of examples.

        Raises:
            UserError: no such split, or no image in it.
        """
        splits, split = self._builder.info.splits, self.facts["split"]
        if split not in splits:
            raise UserError(f"{self._name}: no such split; there are {', '.join(splits)}")
        if "image" not in self._used:
            raise UserError(f"{self._name} has no images")
        return splits[split].num_examples

    def keys(self, shard):
        return [f"{self._name}#{row}".encode() for row in range(*self.span(shard))]

    def blocks(self, shards):
        label = self._features["label"] if "label" in self._used else None
        known = hasattr(label, "int2str") and self.facts["labels"] != "none"
        # An example without a label carries -1.
        names = [label.int2str(i).encode() for i in range(label.num_classes)] if known else []
        names.append(b"")
        for first, last in _runs(shards):
            row, end = self.span(first)[0], self.span(last)[1]
            for example in self._examples(row, end).batch(BLOCK).as_numpy_iterator():
                count = len(example["image"])
                numbers = example["label"] if known else [-1] * count
                labels = [names[number] for number in numbers]
                yield np.arange(row, row + count), labels, list(example["image"])
                row += count
            if row < end:
                raise UserError(f"{self._name}: {end - row} examples are missing; prepare it anew")

    def contents(self, what):
        return what

    def entry(self, row):
        shard = row // self.shard_items
        for rows, labels, images in self.blocks([shard]):
            if row <= rows[-1]:
                return labels[row - rows[0]], images[row - rows[0]], None
        raise UserError(f"{self._name}: no example {row}; prepare it anew")

    def _examples(self, first, last):
        import tensorflow_datasets as tfds

        examples = self._builder.as_dataset(
            split=f"{self.facts['split']}[{first}:{last}]",
            decoders={"image": tfds.decode.SkipDecoding()},
            shuffle_files=False,
            # File after file: a part has the order of the whole only then.
            read_config=tfds.ReadConfig(interleave_cycle_length=1),
        )
        return examples.map(lambda each: {name: each[name] for name in self._used})


def _runs(numbers):
    """First and last of each run of consecutive numbers."""
    runs = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return runs
