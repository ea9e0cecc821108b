"""Makes data sets of image files, which are decoded into memory or each time they are read."""

import os

import numpy as np

from dah_tf import images
from dah_tf.data import dataset, image_sources

SIZE, CHANNELS = 32, 3
"""The side in pixels and the number of channels to which files are decoded by default."""

SAMPLE = 256
"""The number of files whose headers are read to learn the sizes of the original images."""


def load(
    spec,
    found,
    where,
    *,
    image_size,
    channels,
    cache_gib,
    max_unreadable,
    names=None,
    labelled=True,
):
    """Makes a data set of image files.

    Args:
        spec: str, the name of the data set.
        found: `folders.Found`. Its rows have the order of the data set.
        where: str, the name of the data in messages.
        image_size, channels, cache_gib, max_unreadable: the same as for `dah_tf.data.load`.
        names: list of str, the classes. If it is None, the classes of the rows are used, sorted.
        labelled: bool, the attribute of `Dataset`.

    Returns:
        `Dataset`.

    Raises:
        Unreadable: too many images, or all images of a class, cannot be read.
    """
    tf = dataset.tensorflow(spec)
    rows = found.rows
    size, channels = image_size or SIZE, channels or CHANNELS
    decoder = image_sources.decoder(size, channels)
    cached = len(rows) * size * size * channels <= cache_gib * 2**30
    shape = (size, size, channels) if cached else (0,)

    def read(number, path):
        contents = tf.io.read_file(path)
        return tf.stack([number, tf.strings.to_hash_bucket_fast(contents, 2**62)]), contents

    def load(contents):
        image = decoder(contents)
        return image if cached else tf.reshape(image, (-1,))[:0]

    files = [os.fsencode(row[0]) for row in rows]
    items = tf.data.Dataset.from_tensor_slices(files).enumerate()
    items = items.map(read, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    pixels, tags = image_sources.decode_all(items, load, len(rows), shape)
    kept, hashes = tags.reshape(-1, 2).T
    lost = [rows[i][0] for i in np.setdiff1d(np.arange(len(rows)), kept)]
    skipped = [(path, images.why_unreadable(path)) for path in lost]
    dataset.check_skipped(where, skipped, len(rows), max_unreadable)
    wanted = {label for row in rows for label in row[1]}
    names = sorted(wanted) if names is None else names
    rows = [rows[i] for i in kept]
    gone = wanted - {label for row in rows for label in row[1]}
    if gone:
        raise dataset.Unreadable(
            f"{where}: class {min(gone)} has no readable image; repair or remove it", skipped
        )
    paths = [row[0] for row in rows]
    source = (
        image_sources.ArrayImages(pixels)
        if cached
        else image_sources.FileImages(paths, size, channels)
    )
    is_test = np.array([row[2] == "test" for row in rows])
    labels, train = _encode_labels([row[1] for row in rows], names), np.flatnonzero(~is_test)
    return dataset.Dataset(
        spec,
        source,
        labels,
        names,
        train,
        np.flatnonzero(is_test),
        ids=paths,
        skipped=skipped,
        ignored=dict(found.ignored),
        warnings=list(found.warnings),
        sizes=_sizes(paths),
        hashes=hashes,
        # The result is the same whether the pixels are kept in memory or not.
        fingerprint=dataset.fingerprint_of(labels, hashes, train),
        labelled=labelled,
    )


def _sizes(paths):
    """Reads the heights and widths in the headers of some evenly spread files: `(k, 2)`."""
    chosen = np.unique(np.linspace(0, len(paths) - 1, SAMPLE).astype(int)) if paths else []
    sizes = [size for size in (images.size_of(paths[row]) for row in chosen) if size]
    return np.array(sizes, int).reshape(-1, 2)


def _encode_labels(labels, names):
    """Returns int32 `(n,)`, or uint8 `(n, classes)` if an image has several labels."""
    number = {name: i for i, name in enumerate(names)}
    if all(len(each) == 1 for each in labels):
        return np.array([number[each[0]] for each in labels], np.int32)
    encoded = np.zeros((len(labels), len(names)), np.uint8)
    for row, each in zip(encoded, labels, strict=True):
        row[[number[label] for label in each]] = 1
    return encoded
