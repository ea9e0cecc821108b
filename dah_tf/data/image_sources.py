"""Provides pixels from an array in memory or from files."""

import functools
import os

import numpy as np

from dah_tf import images
from dah_tf.errors import UserError


class ArrayImages:
    """Images in memory.

    Args:
        array: uint8 array of shape `(n, size, size, channels)`.
    """

    def __init__(self, array):
        self.array = array
        self.size, self.channels = array.shape[1], array.shape[3]

    def __len__(self):
        return len(self.array)

    def read(self, indices):
        """Reads rows: ints of any shape give uint8 `(*shape, size, size, channels)`."""
        return self.array[np.asarray(indices)]

    def tensors(self, indices):
        """Does the same as `read` inside a TensorFlow graph."""
        import tensorflow as tf

        def gather(rows):
            return self.array[rows]

        pixels = tf.numpy_function(gather, [indices], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, (*indices.shape, self.size, self.size, self.channels))


class FileImages:
    """Image files that are decoded each time they are requested.

    Args:
        paths: list of str.
        size: int, the side in pixels to which the images are resized.
        channels: int, 1 or 3.
    """

    def __init__(self, paths, size, channels):
        self.paths = list(paths)
        self.size, self.channels = size, channels
        self._names = np.array([os.fsencode(path) for path in self.paths], dtype=object)

    def __len__(self):
        return len(self.paths)

    def read(self, indices):
        """Reads rows: ints of any shape give uint8 `(*shape, size, size, channels)`.

        Raises:
            UserError: a file has been deleted or damaged in the meantime.
        """
        import tensorflow as tf

        rows = np.asarray(indices)
        shape = (*rows.shape, self.size, self.size, self.channels)
        if not rows.size:
            return np.zeros(shape, np.uint8)
        try:
            return self._traced(tf.constant(rows.ravel(), tf.int64)).numpy().reshape(shape)
        except tf.errors.OpError:
            self._name_lost(rows.ravel())
            raise

    def _name_lost(self, rows):
        """Raises a `UserError` that names the first file that cannot be read."""
        import tensorflow as tf

        for row in rows:
            try:
                self._traced(tf.constant([row], tf.int64))
            except tf.errors.OpError as error:
                path = self.paths[row]
                reason = images.why_unreadable(path)
                raise UserError(
                    f"{path} was readable when the command began and is not now ({reason}); "
                    "restore it and run the same command"
                ) from error

    def tensors(self, indices):
        """Does the same as `read` inside a TensorFlow graph. It uses several threads.

        It takes at least one row, and raises `tf.errors.OpError` instead of `UserError`.
        """
        import tensorflow as tf

        decode = decoder(self.size, self.channels)

        def names(rows):
            return self._names[rows]

        def load(path):
            return decode(tf.io.read_file(path))

        chosen = tf.numpy_function(names, [tf.reshape(indices, [-1])], tf.string, stateful=False)
        files = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(chosen, [None]))
        loaded = files.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        loaded = loaded.batch(tf.size(indices, tf.int64)).get_single_element()
        shape = (self.size, self.size, self.channels)
        loaded = tf.reshape(loaded, tf.concat([tf.shape(indices), shape], axis=0))
        return tf.ensure_shape(loaded, (*indices.shape, *shape))

    @functools.cached_property
    def _traced(self):
        import tensorflow as tf

        rows = tf.TensorSpec([None], tf.int64)
        return tf.function(self.tensors, input_signature=[rows], autograph=False)


def decoder(size, channels):
    """Returns a function from a file's bytes to uint8 `(size, size, channels)` in TensorFlow."""
    from dah_tf.data import pixels

    return lambda contents: pixels.resize(pixels.decode_file(contents, channels), size)


def decode_all(items, load, count, shape):
    """Runs a decoder over many images and leaves out those that fail.

    Args:
        items: `tf.data.Dataset` of pairs. The first entry is a tag, an int64 tensor of any shape.
            The second is the argument of `load`.
        load: TensorFlow function that returns a uint8 tensor of shape `shape`.
        count: int, the length of `items`.
        shape: tuple of ints.

    Returns:
        Two arrays. The first is uint8 of shape `(k, *shape)` and holds in order the `k` images
        that could be read. The second is int64 and holds their tags.
    """
    import tensorflow as tf

    def one(tag, source):
        return tag, tf.ensure_shape(load(source), shape)

    decoded = items.map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    decoded = decoded.ignore_errors().batch(256).prefetch(2)
    # The system does not allocate memory that is never written to.
    pixels, tags, done = np.empty((count, *shape), np.uint8), [], 0
    for tag, block in decoded.as_numpy_iterator():
        pixels[done : done + len(block)] = block
        done += len(block)
        tags.append(tag)
    return pixels[:done], np.concatenate(tags) if tags else np.zeros(0, np.int64)


def resize_array(array, size):
    """Resizes images in memory by the rule of `pixels.resize`.

    If TensorFlow is not installed, the back end of Keras resamples the images. The result may then
    differ by one grey level.

    Args:
        array: uint8 array of shape `(n, h, w, channels)`.
        size: int, the new side in pixels.

    Returns:
        uint8 array of shape `(n, size, size, channels)`.
    """
    side = min(array.shape[1:3])
    top, left = (array.shape[1] - side) // 2, (array.shape[2] - side) // 2
    array = array[:, top : top + side, left : left + side]
    if side == size:
        return array
    try:
        from dah_tf.data.pixels import resize
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        resize = _resize_by_keras
    blocks = [array[i : i + 4096] for i in range(0, len(array), 4096)]
    return np.concatenate([np.asarray(resize(block, size)) for block in blocks])


def _resize_by_keras(square, size):
    from keras import ops

    floats = ops.image.resize(square.astype("float32"), (size, size), antialias=True)
    return np.clip(np.floor(np.asarray(floats) + 0.5), 0, 255).astype(np.uint8)
