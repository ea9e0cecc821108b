"""An exported model that turns image files into codes, with decoding in parallel."""

import json
import os
import pathlib
import re
import typing

import numpy as np

from dah_tf import images, pretrained, runtimes
from dah_tf.codes import archive
from dah_tf.errors import UserError
from dah_tf.machine import cores


class Encoded(typing.NamedTuple):
    """Images' codes, in memory.

    Attributes:
        keys: list of n str, the images' paths.
        labels: list of n str, "" where not known.
        codes: uint8 array of shape `(n, ceil(bits / 8))`, packed as in `dah_tf.codes`.
        hash: float32 array of shape `(n, bits)`, the hash layer's values, within `Encoder.span`.
        broken: list of pairs of str, key and reason of each image that could not be read.
    """

    keys: list
    labels: list
    codes: np.ndarray
    hash: np.ndarray
    broken: list


class Encoder:
    """A model exported by `dah_tf`.

    Args:
        path: path of an exported model, of a folder of versions of it, or of a run; or
            "pretrained:NAME".
        runtime: str, a format of `runtimes` that was exported; None is the SavedModel where it
            is there, else the first that is.

    Attributes:
        path: `pathlib.Path` of the exported model.
        runtime: str.
        bits: int, code length.
        fingerprint: str, names the weights.
        classes: list of str, the classes that the model was trained on.
        image_size, channels: ints.
        span: pair of floats, the lowest and the highest value that the hash layer gives.

    Raises:
        UserError: no such model, or its runtime is not installed.

    Example:
        >>> encoder = Encoder("models/dah")
        >>> photos = encoder.files("photos")
        >>> photos.codes.shape, photos.keys[0]
    """

    def __init__(self, path, runtime=None):
        import tensorflow as tf

        self.path, self.description = find_model(path)
        self.bits = self.description["bits"]
        self.fingerprint = self.description["fingerprint"]
        self.classes = self.description["class_names"]
        self.image_size = self.description["image_size"]
        self.channels = self.description["channels"]
        # Models from before it was written have DAH's.
        self.span = tuple(self.description.get("span", (0.25, 0.75)))
        self.runtime = runtime or next(iter(runtimes.present(self.path)), runtimes.SAVEDMODEL)
        self._run = runtimes.load(self.runtime, self.path)
        # Traced once, not again by each data set.
        data = [tf.TensorSpec([], tf.string)]
        self._decode = tf.function(self._decoded, input_signature=data, autograph=False)

    def __call__(self, images):
        """Codes of images.

        Args:
            images: uint8 array of shape `(n, h, w, channels)`.

        Returns:
            Dict of arrays: `codes` uint8 `(n, ceil(bits / 8))`, `hash` float32 `(n, bits)` and
            `probabilities` float32 `(n, classes)`.

        Raises:
            UserError: arrays of another dtype, rank or number of channels.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != self.channels:
            raise UserError(
                f"images are uint8 of shape (n, h, w, {self.channels}), 0 to 255. "
                f"Received: {images.dtype} of shape {images.shape}"
            )
        n, size = len(images), self.image_size
        if not n:  # the runtimes differ in what they make of no image
            images = np.zeros((1, size, size, self.channels), np.uint8)
        if images.shape[1:3] != (size, size):
            from dah_tf.data import pixels

            images = pixels.resize(images, size).numpy()
        return {name: value[:n] for name, value in self._run(images).items()}

    def files(self, *paths, labels="auto", batch_size=runtimes.BATCH):
        """Codes of image files, in memory; `python -m dah_tf.encode` is for many.

        Args:
            *paths: image files, and folders of them.
            labels: as in `sources.below`.
            batch_size: int.

        Returns:
            `Encoded`, in the order given; files of a folder sorted by name.

        Raises:
            UserError: no such file or folder.
        """
        import tensorflow as tf

        from dah_tf.encoding import listing

        found = [
            pair
            for path in paths
            for pair in listing.below(os.fspath(path), labels, set(self.classes))
        ]
        names = [path for path, _ in found]
        rows, codes, values = [], [], []
        if found:
            numbered = tf.data.Dataset.from_tensor_slices(names).enumerate()
            items = numbered.map(lambda row, name: (row, "", name))
            for row, _, outputs in self.stream(items, tf.io.read_file, batch_size):
                rows.append(row)
                codes.append(outputs["codes"])
                values.append(outputs["hash"])
        rows = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        lost = np.setdiff1d(np.arange(len(found)), rows)
        keys, kinds = ([os.fsdecode(each[i]) for each in found] for i in (0, 1))
        reasons = [self.once_more(tf.io.read_file, names[row])[1] for row in lost]
        return Encoded(
            [keys[row] for row in rows],
            [kinds[row] for row in rows],
            np.concatenate([archive.no_codes(self.bits), *codes]),
            np.concatenate([np.zeros((0, self.bits), np.float32), *values]),
            [
                (keys[row], reason or "could not be read at first; try again")
                for row, reason in zip(lost, reasons, strict=True)
            ],
        )

    def stream(self, items, contents, batch_size=runtimes.BATCH):
        """Runs over images, decoded on several threads.

        Args:
            items: `tf.data.Dataset` of triples of scalars: int64 row, string, and what
                `contents` takes.
            contents: TensorFlow function, to the bytes of an image file.
            batch_size: int; every batch but the last is full, whatever was broken.

        Yields:
            Rows, int64 array of shape `(n,)`, in order; the strings, array of n bytes; and a
            dict as `__call__` returns. Images that cannot be read are left out.
        """
        import tensorflow as tf

        def load(row, label, what):
            return row, label, self._decode(contents(what))

        found = items.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        found = found.ignore_errors().batch(batch_size).prefetch(2)
        # Measured: sharing the model's threads, three runs of five had the model on one of them
        # from beginning to end; with these, one of five.
        threads = tf.data.Options()
        threads.threading.private_threadpool_size = cores.cores()
        found = found.with_options(threads)
        for rows, labels, pixels in found:
            yield rows.numpy(), labels.numpy(), self(pixels)

    def once_more(self, contents, what):
        """Tries an image again that `stream` left out.

        Args:
            contents: as in `stream`.
            what: bytes.

        Returns:
            A dict as `__call__` returns, of one image, or None; and why it cannot be read: one
            line, or None.
        """
        import tensorflow as tf

        try:
            data = contents(tf.constant(what))
        except tf.errors.OpError as error:
            return None, _plain(error.message)
        try:
            image = self._decode(data)
        except tf.errors.OpError as error:
            return None, _reason(data.numpy(), error)
        return self(image[None]), None

    def _decoded(self, data):
        from dah_tf.data import pixels

        image = pixels.resize(pixels.decode_file(data, self.channels), self.image_size)
        image.set_shape((self.image_size, self.image_size, self.channels))
        return image


def _reason(data, error):
    """Why the bytes of a file could not be decoded, in one line."""
    if images.by_pillow(data[: images.HEAD]):
        try:
            images.decode(data)
        except images.ImageError as reason:
            return str(reason)
    return _plain(error.message)


def _plain(message):
    """What TensorFlow says of a broken image, without where in its graph."""
    message = message.strip().rpartition("\n\n")[2].rpartition("<stack traces unavailable>")[2]
    message = re.sub(r"\{\{.*?\}\}|\[Op:.*|\[\[.*|\[Condition.*", " ", message, flags=re.DOTALL)
    message = re.sub(r"^.*; No such file or directory$", "no such file", message.strip())
    message = message.replace("assertion failed:", "").replace("[", "").replace("]", "")
    return " ".join(message.split()) or "not a readable image"


def find_model(path):
    """The SavedModel that a path means. Needs no TensorFlow.

    Args:
        path: path of a SavedModel with its `dah.json`, of a folder of versions (the highest is
            taken), or of a run, whose last export is taken; or "pretrained:NAME".

    Returns:
        Pair of `pathlib.Path` and dict, the content of `dah.json`.

    Raises:
        UserError: there is none, or `dah.json` is damaged.
    """
    root = pathlib.Path(pretrained.folder(path))
    for folder in (root, *_versions(root), *_versions(root / "export")):
        described = folder / "dah.json"
        if not described.is_file():
            continue
        try:
            description = json.loads(described.read_bytes())
            for name in ("bits", "fingerprint", "class_names", "image_size", "channels"):
                description[name]
        except OSError as error:
            raise UserError(f"{described} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{described} is damaged ({error}); export the model again") from None
        return folder, description
    workdir, output = "RUN", root
    if (root / "flags.json").is_file():
        workdir, output = root, root / "export" / "1"
    elif root.exists():
        output = root / "1"
    raise UserError(
        f"{path} is no model exported by dah_tf: it has no dah.json; make one with "
        f"python -m dah_tf.export --workdir={workdir} --output={output}"
    )


def equal_codes(name, description):
    """Whether a format gave the model's codes when it was exported.

    Args:
        name: str, of `runtimes.FORMATS`.
        description: dict, the content of `dah.json`.

    Returns:
        bool.

    Raises:
        UserError: no such format.
    """
    facts = description.get("formats", {}).get(name, {})
    return runtimes.get(name).EXACT and not facts.get("bits_differing")


def _versions(folder):
    """Folders whose names are numbers, the highest first."""
    if not folder.is_dir():
        return []
    found = [each for each in folder.iterdir() if each.name.isdecimal() and each.is_dir()]
    return sorted(found, key=lambda each: -int(each.name))
