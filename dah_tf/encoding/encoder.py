"""An exported model that turns image files into codes. Several threads decode the images."""

import json
import os
import pathlib
import re
import typing
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from dah_tf import images, pretrained, runtimes
from dah_tf.codes import archive
from dah_tf.errors import UserError
from dah_tf.machine import cores


class Encoded(typing.NamedTuple):
    """The codes of images in memory.

    Attributes:
        keys: list of n str, the paths of the images.
        labels: list of n str, with "" for unknown ones.
        codes: uint8 array of shape `(n, ceil(bits / 8))`, packed as in `dah_tf.codes`.
        hash: float32 array of shape `(n, bits)`, the values of the hash layer, within
            `Encoder.span`.
        broken: list of pairs of str: the key of each image that could not be read, and the reason.
    """

    keys: list
    labels: list
    codes: np.ndarray
    hash: np.ndarray
    broken: list


class Encoder:
    """A model that `dah_tf` exported.

    Args:
        path: path of an exported model, of a folder that contains versions of one, or of a run; or
            "pretrained:NAME".
        runtime: str, an exported format in `runtimes`. None is the SavedModel if it was exported,
            otherwise the first format.

    Attributes:
        path: `pathlib.Path` of the exported model.
        runtime: str, the format.
        bits: int, the code length.
        fingerprint: str, which identifies the weights.
        classes: list of str, the classes on which the model was trained.
        image_size, channels: ints.
        span: pair of floats, the lowest and the highest value of the hash layer.

    Raises:
        UserError: there is no such model, or its runtime is not installed.

    Example:
        >>> encoder = Encoder("runs/digits")
        >>> photos = encoder.files("photos")
        >>> photos.codes.shape, photos.keys
        ((2, 2), ['photos/cat.png', 'photos/owl.png'])
    """

    def __init__(self, path: str | os.PathLike, runtime: str | None = None):
        import tensorflow as tf

        self.path, self.description = find_model(path)
        self.bits = self.description["bits"]
        self.fingerprint = self.description["fingerprint"]
        self.classes = self.description["class_names"]
        self.image_size = self.description["image_size"]
        self.channels = self.description["channels"]
        # Older models do not record the span. Theirs is that of DAH.
        self.span = tuple(self.description.get("span", (0.25, 0.75)))
        self.runtime = runtime or next(iter(runtimes.present(self.path)), runtimes.SAVEDMODEL)
        self._run = runtimes.load(self.runtime, self.path)
        # The function is traced once here, and not again for each data set.
        data = [tf.TensorSpec([], tf.string)]
        self._decode = tf.function(self._decoded, input_signature=data, autograph=False)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Encodes images.

        Args:
            images: uint8 array of shape `(n, h, w, channels)`.

        Returns:
            Dict of arrays: `codes` uint8 `(n, ceil(bits / 8))`, `hash` float32 `(n, bits)` and
            `probabilities` float32 `(n, classes)`.

        Raises:
            UserError: the array has another dtype, rank or number of channels.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != self.channels:
            raise UserError(
                f"images must be uint8 of shape (n, h, w, {self.channels}), 0 to 255. "
                f"Received: {images.dtype} of shape {images.shape}"
            )
        n, size = len(images), self.image_size
        if not n:  # not all runtimes accept an empty batch
            images = np.zeros((1, size, size, self.channels), np.uint8)
        if images.shape[1:3] != (size, size):
            from dah_tf.data import pixels

            images = pixels.resize(images, size).numpy()
        return {name: value[:n] for name, value in self._run(images).items()}

    def decode(self, contents: bytes) -> np.ndarray:
        """Decodes an image file as `files` does. Several threads may do so at the same time.

        Args:
            contents: bytes of the file.

        Returns:
            uint8 array of shape `(image_size, image_size, channels)`, for `__call__`.

        Raises:
            ImageError: the file is not an image, is damaged, or has too many pixels.
        """
        import tensorflow as tf

        try:
            return self._decode(tf.constant(contents)).numpy()
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise images.ImageError(_reason(contents, error)) from None

    def files(
        self, *paths: str | os.PathLike, labels: str = "auto", batch_size: int = runtimes.BATCH
    ) -> Encoded:
        """Encodes image files into memory. For many images, use `python -m dah_tf.encode`.

        Args:
            *paths: image files, and folders of image files.
            labels: as in `listing.below`.
            batch_size: int.

        Returns:
            `Encoded` in the given order. The files of a folder are sorted by name.

        Raises:
            UserError: a file or folder does not exist.
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
                (keys[row], reason or "it could not be read the first time; try again")
                for row, reason in zip(lost, reasons, strict=True)
            ],
        )

    def stream(
        self, items: Iterable[tuple], contents: Callable, batch_size: int = runtimes.BATCH
    ) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
        """Decodes images on several threads and encodes them.

        Args:
            items: `tf.data.Dataset` of triples of scalars: an int64 row, a string, and the input
                of `contents`.
            contents: TensorFlow function that returns the bytes of an image file.
            batch_size: int. Every batch except the last is full, even if images are broken.

        Yields:
            For each batch: the rows in order, an int64 array of shape `(n,)`; the strings, an
            array of n bytes objects; and a dict like that of `__call__`. Images that cannot be
            read are left out.
        """
        import tensorflow as tf

        def load(row, label, what):
            return row, label, self._decode(contents(what))

        found = items.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        found = found.ignore_errors().batch(batch_size).prefetch(2)
        # When decoding shared the threads of the model, the model stayed on a single thread in
        # three of five measured runs. With separate threads this happened in one of five.
        threads = tf.data.Options()
        threads.threading.private_threadpool_size = cores.cores()
        found = found.with_options(threads)
        for rows, labels, pixels in found:
            yield rows.numpy(), labels.numpy(), self(pixels)

    def once_more(
        self, contents: Callable, what: bytes
    ) -> tuple[dict[str, np.ndarray] | None, str | None]:
        """Tries an image again that `stream` left out.

        Args:
            contents: as in `stream`.
            what: bytes, the input of `contents`.

        Returns:
            A dict like that of `__call__` for one image, or None; and one line that says why the
            image cannot be read, or None.
        """
        import tensorflow as tf

        try:
            data = contents(tf.constant(what))
        except tf.errors.OpError as error:
            return None, _plain(error.message)
        try:
            image = self._decode(data)
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            return None, _reason(data.numpy(), error)
        return self(image[None]), None

    def _decoded(self, data):
        from dah_tf.data import pixels

        image = pixels.resize(pixels.decode_file(data, self.channels), self.image_size)
        image.set_shape((self.image_size, self.image_size, self.channels))
        return image


def _reason(data, error):
    """Says in one line why the bytes of a file could not be decoded."""
    if images.by_pillow(data[: images.HEAD]):
        try:
            images.decode(data)
        except images.ImageError as reason:
            return str(reason)
    if isinstance(error, UnicodeDecodeError):
        # TensorFlow's message repeats bytes of the file, which need not be text.
        return f"a damaged {images.kind_of(data[: images.HEAD])} file"
    return _plain(error.message)


def _plain(message):
    """Returns TensorFlow's message about a broken image, without the parts about the graph."""
    message = message.strip().rpartition("\n\n")[2].rpartition("<stack traces unavailable>")[2]
    message = re.sub(r"\{\{.*?\}\}|\[Op:.*|\[\[.*|\[Condition.*", " ", message, flags=re.DOTALL)
    message = re.sub(r"^.*; No such file or directory$", "no such file", message.strip())
    message = message.replace("assertion failed:", "").replace("[", "").replace("]", "")
    return " ".join(message.split()) or "not a readable image"


def find_model(path):
    """Finds the exported model that a path means. Needs no TensorFlow.

    Args:
        path: path of an exported model with its `dah.json`, of a folder of versions (the highest
            is taken), or of a run (its last export is taken); or "pretrained:NAME".

    Returns:
        Pair of the `pathlib.Path` of the model and a dict, the content of its `dah.json`.

    Raises:
        UserError: there is no such model, or `dah.json` is damaged.
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
        f"{path} is not a model that dah_tf exported, because it has no dah.json; make one with "
        f"python -m dah_tf.export --workdir={workdir} --output={output}"
    )


def equal_codes(name, description):
    """Says whether a format gave exactly the codes of the model when it was exported.

    Args:
        name: str, a name in `runtimes.FORMATS`.
        description: dict, the content of `dah.json`.

    Returns:
        bool.

    Raises:
        UserError: there is no such format.
    """
    facts = description.get("formats", {}).get(name, {})
    return runtimes.get(name).EXACT and not facts.get("bits_differing")


def _versions(folder):
    """Returns the folders whose names are numbers, with the highest first."""
    if not folder.is_dir():
        return []
    found = [each for each in folder.iterdir() if each.name.isdecimal() and each.is_dir()]
    return sorted(found, key=lambda each: -int(each.name))
