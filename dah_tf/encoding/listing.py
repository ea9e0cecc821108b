"""The images to encode, in a fixed order: a list of files, or a split of TensorFlow Datasets.

The rows of a source are numbered from 0 and divided into shards of equal length. The last shard may
be shorter.
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

BLOCK = 256  # the number of examples of a data set that are read at a time


def make(spec, folder, labels="auto", classes=(), skip=(), shard_items=8192, data_dir=None):
    """Lists the images to encode.

    Args:
        spec: str, a folder or an image file, `list:FILE` or `tfds:NAME/SPLIT`.
        folder: path of a folder that gets the list. No other process may write to it.
        labels: str. `folder` takes the name of the first subfolder of `spec` as the label; `auto`
            does so only if it is one of `classes`; `none` stores no labels. Lists and data sets
            have their own labels, which are stored unless it is `none`.
        classes: collection of str, the classes of the model.
        skip: collection of str, the absolute paths to leave out, as `archive.place` writes them.
        shard_items: int, the number of rows in a shard.
        data_dir: path, the folder of TensorFlow Datasets.

    Returns:
        Dict for `open_source`, which JSON can hold. Its entry `ignored` counts the files of a
        folder that are not images, by kind.

    Raises:
        UserError: there is nothing to encode, or it cannot be read.
    """
    kind, _, rest = spec.partition(":")
    ignored = collections.Counter()
    facts = {"shard_items": shard_items, "directory": os.getcwd(), "labels": labels}
    if kind == "tfds":
        name, _, split = rest.rpartition("/")
        if not name:
            raise UserError(f"input={spec} does not name a split; write tfds:NAME/SPLIT")
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
            f"input={spec} has nothing to encode"
            + (", because all its images are in skip" if skip else "")
        )
    return facts


def open_source(folder, facts):
    """Opens the source that `make` listed: a `FileSource` or `TfdsSource`."""
    return {"files": FileSource, "tfds": TfdsSource}[facts["kind"]](folder, facts)


def below(spec, labels="auto", classes=(), ignored=None):
    """Yields the path and the label of a file, or of each image in a folder: pairs of bytes.

    The label of an image in a folder can be the name of the first subfolder. The label of a single
    file can be the name of its own folder. A single file counts as an image, whatever its content
    is.

    Args:
        spec: path of a file or folder.
        labels, classes: as in `make`.
        ignored: `collections.Counter` that counts the other files of a folder by their kinds.

    Raises:
        UserError: there is no such file or folder, or it cannot be read.
    """
    if os.path.isfile(spec):
        first = os.path.basename(os.path.dirname(os.path.abspath(spec)))
        known = labels == "folder" or (labels == "auto" and first in classes)
        yield os.fsencode(spec), os.fsencode(first) if known else b""
        return
    if not os.path.isdir(spec):
        raise UserError(f"there is no file or folder {spec}")
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
    """Yields the path and the label of each line of a list: pairs of bytes.

    A line is a path, optionally followed by a tab and a label. A relative path starts in the
    folder of the list. If the list contains a NUL byte, NUL bytes end the paths, as in the output
    of `find -print0`, and there are no labels.
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
    """Writes the list, and where each shard starts in it. Returns the number of rows."""
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
    """A source of images, whose rows are divided into shards.

    Args:
        folder: path of the folder with the list.
        facts: dict from `make`.
    """

    def __init__(self, folder, facts):
        self.folder, self.facts = pathlib.Path(folder), facts
        self.items, self.shard_items = facts.get("items", 0), facts["shard_items"]
        self._error = None

    @property
    def shards(self):
        """int, the number of shards."""
        return -(-self.items // self.shard_items)

    def span(self, shard):
        """Returns the first row of a shard, and the first row after it."""
        first = shard * self.shard_items
        return first, min(first + self.shard_items, self.items)

    @abc.abstractmethod
    def keys(self, shard):
        """Returns the keys of the rows of a shard: a list of bytes."""

    @abc.abstractmethod
    def blocks(self, shards):
        """Yields the rows of some shards in order, in blocks.

        Files that cannot be opened may be missing.

        Args:
            shards: list of int, ascending.

        Yields:
            The int64 rows as an array, and two lists of n bytes objects: the labels and the inputs
            of `contents`.

        Raises:
            OSError, UserError: the source itself cannot be read.
        """

    def dataset(self, shards):
        """Returns the rows of `blocks` as a data set.

        If the source itself fails, the data set ends, and `check` raises the error. An error in the
        data set would be taken for that of an image.

        Returns:
            `tf.data.Dataset` of scalars: the int64 row, the string label, and the string input of
            `contents`.
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
        """Raises the error that ended a data set too early, if there was one."""
        if self._error is not None:
            raise self._error

    @abc.abstractmethod
    def contents(self, what):
        """Returns the bytes of an image file in a TensorFlow graph: a scalar string tensor."""

    @abc.abstractmethod
    def entry(self, row):
        """Returns the facts about a row.

        Returns:
            The label and the input of `contents`, both bytes; and a line that says why the file
            cannot be opened, or None.
        """


class FileSource(Source):
    """Files by a list of paths on disk. At most two shards of the list are in memory."""

    def __init__(self, folder, facts):
        super().__init__(folder, facts)
        # The current shard and the next one are kept, so that each is read only once.
        self._rows = functools.lru_cache(2)(self._read)

    def _read(self, shard):
        """Returns the paths and labels of the rows of a shard: two lists of bytes."""
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
            # Opening a pipe could wait for ever for a writer.
            rows = [i for i, path in enumerate(paths) if _fault(path) is None]
            yield (
                first + np.array(rows, np.int64),
                [labels[i] for i in rows],
                [paths[i] for i in rows],
            )

    def _absolute(self, path):
        """Returns the absolute path. A worker of a cluster has another working directory."""
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
    """Returns one line that says why a file cannot be opened, or None."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return error.strerror
    if stat.S_ISDIR(mode):
        return "it is a folder that cannot be read"
    return None if stat.S_ISREG(mode) else "it is not a regular file"


class TfdsSource(Source):
    """A split of a prepared data set of TensorFlow Datasets, in the order of its files."""

    def __init__(self, folder, facts):
        from dah_tf.data import tfds

        super().__init__(folder, facts)
        self._name = f"tfds:{facts['name']}/{facts['split']}"
        self._builder = tfds.builder_of(facts["name"], facts["data_dir"])
        self._features = self._builder.info.features
        # The features may be another object than a dict, and its names come from `keys`.
        self._used = {"image", "label"} & set(getattr(self._features, "keys", tuple)())
        known = facts.get("full_name", self._builder.info.full_name)
        if known != self._builder.info.full_name:
            raise UserError(
                f"{self._name} is {self._builder.info.full_name} now, but it was {known} when the "
                "job began; name another output"
            )

    @property
    def full_name(self):
        """str, the name of the data set with its version."""
        return self._builder.info.full_name

    def count_split(self):
        """Returns the number of examples in the split.

        Raises:
            UserError: there is no such split, or the data set has no images.
        """
        splits, split = self._builder.info.splits, self.facts["split"]
        if split not in splits:
            raise UserError(f"{self._name}: there is no such split, only {', '.join(splits)}")
        if "image" not in self._used:
            raise UserError(f"{self._name} has no images")
        return splits[split].num_examples

    def keys(self, shard):
        return [f"{self._name}#{row}".encode() for row in range(*self.span(shard))]

    def blocks(self, shards):
        label = self._features["label"] if "label" in self._used else None
        known = hasattr(label, "int2str") and self.facts["labels"] != "none"
        # An example without a label has the label -1.
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
                raise UserError(
                    f"{self._name}: {end - row} examples are missing; prepare the data set again"
                )

    def contents(self, what):
        return what

    def entry(self, row):
        shard = row // self.shard_items
        for rows, labels, images in self.blocks([shard]):
            if row <= rows[-1]:
                return labels[row - rows[0]], images[row - rows[0]], None
        raise UserError(f"{self._name}: example {row} is missing; prepare the data set again")

    def _examples(self, first, last):
        import tensorflow_datasets as tfds

        examples = self._builder.as_dataset(
            split=f"{self.facts['split']}[{first}:{last}]",
            decoders={"image": tfds.decode.SkipDecoding()},
            shuffle_files=False,
            # The files are read one after the other, because only then a part has the order of
            # the whole.
            read_config=tfds.ReadConfig(interleave_cycle_length=1),
        )
        return examples.map(lambda each: {name: each[name] for name in self._used})


def _runs(numbers):
    """Returns the first and the last number of each run of consecutive numbers."""
    runs = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return runs
