"""Where pixels come from: an array in memory, or files."""

import numpy as np


class ArrayImages:
    """Images in memory.

    Args:
        array: uint8 array of shape `(n, size, size, channels)`.
    """

    def __init__(self, array):
        self.array = array
        self.size, self.channels = array.shape[1], array.shape[3]
        self._tensor = None

    def __len__(self):
        return len(self.array)

    def read(self, indices):
        """Pixels of rows: ints of any shape to uint8 `(*shape, size, size, channels)`."""
        return self.array[np.asarray(indices)]

    def tensors(self, indices):
        """`read` inside a TensorFlow graph."""
        import tensorflow as tf

        def gather(rows):
            return self.array[rows]

        return tf.numpy_function(gather, [indices], tf.uint8, stateful=False)


class FileImages:
    """Image files, decoded when they are asked for.

    Args:
        paths: list of str.
        size: int, side the images are resized to.
        channels: int, 1 or 3.
    """

    def __init__(self, paths, size, channels):
        self.paths = np.array(paths, dtype=object)
        self.size, self.channels = size, channels

    def __len__(self):
        return len(self.paths)

    def read(self, indices):
        """Pixels of rows: ints of any shape to uint8 `(*shape, size, size, channels)`."""
        import tensorflow as tf

        rows = np.asarray(indices)
        pixels = np.empty((rows.size, self.size, self.size, self.channels), np.uint8)
        files = tf.data.Dataset.from_tensor_slices(self.paths[rows.ravel()].astype(str))
        files = files.map(self._load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(64)
        for i, image in enumerate(files.as_numpy_iterator()):
            pixels[i] = image
        return pixels.reshape(*rows.shape, *pixels.shape[1:])

    def tensors(self, indices):
        """`read` inside a TensorFlow graph."""
        import tensorflow as tf

        paths = tf.constant(self.paths.astype(str))
        flat = tf.gather(paths, tf.reshape(indices, [-1]))
        pixels = tf.map_fn(self._load, flat, fn_output_signature=tf.uint8, parallel_iterations=32)
        shape = tf.concat([tf.shape(indices), [self.size, self.size, self.channels]], axis=0)
        return tf.reshape(pixels, shape)

    def _load(self, path):
        import tensorflow as tf

        from dah_tf import pixels

        return pixels.resize(pixels.decode(tf.io.read_file(path), self.channels), self.size)


def decode_all(contents, count, size, channels):
    """Decodes many images, broken ones apart.

    Args:
        contents: `tf.data.Dataset` of scalar strings, images' bytes.
        count: int, how many there are.
        size: int, side they are resized to.
        channels: int, 1 or 3.

    Returns:
        uint8 array of shape `(readable, size, size, channels)`, and the int64 array of the
        readable ones' positions.
    """
    import tensorflow as tf

    from dah_tf import pixels

    def load(i, data):
        return i, pixels.resize(pixels.decode(data, channels), size)

    decoded = contents.enumerate().map(load, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    images = np.empty((count, size, size, channels), np.uint8)
    kept = []
    for positions, block in decoded.batch(256).prefetch(4).as_numpy_iterator():
        first = len(kept)
        kept.extend(positions)
        images[first : len(kept)] = block
    return images[: len(kept)], np.array(kept, np.int64)


def resize_array(array, size):
    """Images of another size in memory, by the rule of `pixels.resize`.

    Without TensorFlow installed Keras' back end resamples; that may differ by one grey level.
    """
    if array.shape[1:3] == (size, size):
        return array
    blocks = [array[i : i + 4096] for i in range(0, len(array), 4096)]
    try:
        from dah_tf import pixels

        done = [np.asarray(pixels.resize(block, size)) for block in blocks]
    except ImportError:
        from keras import ops

        side = min(array.shape[1:3])
        top, left = (array.shape[1] - side) // 2, (array.shape[2] - side) // 2
        done = []
        for block in blocks:
            square = block[:, top : top + side, left : left + side].astype("float32")
            floats = np.asarray(ops.image.resize(square, (size, size), antialias=True))
            done.append(np.clip(np.floor(floats + 0.5), 0, 255).astype(np.uint8))
    return np.concatenate(done)
