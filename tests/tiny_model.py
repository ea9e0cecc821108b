"""A small exported model of random weights, and folders of pictures, for tests of commands."""

import contextlib

import numpy as np
import pytest
from PIL import Image

SIZE, BITS, CLASSES = 16, 12, ("cat", "dog", "owl")


def export_model(folder, seed=1, bits=BITS, mirror=False, **options):
    """Writes a SavedModel to a folder; returns the folder. `options` of `serving.export.save`."""
    keras = pytest.importorskip("keras", reason="exporting a model needs TensorFlow")
    from dah_tf.exporting import export
    from dah_tf.model import HashModel, backbones

    keras.utils.set_random_seed(seed)
    backbone = backbones.get("compact:widths=8/16/16", channels=3)
    model = HashModel(backbone, bits, len(CLASSES), SIZE)
    logits = model.outputs(pictures(60))["logits"]
    # What each bit sees is spread around its threshold, as a trained model's is.
    scale = 1 / logits.std(axis=0)
    dense = model.hash_head.dense
    dense.kernel.assign(dense.kernel * scale)
    dense.bias.assign(-np.median(logits, axis=0) * scale)
    export.save(model, folder, class_names=CLASSES, mirror=mirror, **options)
    return folder


def pictures(count, seed=0):
    """uint8 array of shape `(count, SIZE, SIZE, 3)`: smooth pictures, none like another."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return coarse.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)


def write_folder(folder, count, seed=0):
    """Writes pictures as `folder/CLASS/NUMBER.png`; returns the paths, sorted as a folder's are."""
    paths = []
    for number, picture in enumerate(pictures(count, seed)):
        path = folder / CLASSES[number % len(CLASSES)] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        paths.append(path)
    return sorted(paths, key=lambda path: (path.parent.name, path.name))


def encode(encoder, spec, output, batch_size=8, shard_items=16, **options):
    """Encodes in this process; returns the manifest."""
    from dah_tf.encoding import job

    def work(begun):
        for _ in begun.encode(encoder, begun.missing(), batch_size):
            pass

    return job.run(encoder.path, spec, output, work=work, shard_items=shard_items, **options)


@contextlib.contextmanager
def full_disk(shards):
    """The disk is full after so many shards: what runs here fails so."""
    from dah_tf.codes import archive
    from dah_tf.errors import UserError

    write, count = archive.write_shard, 0

    def full(*arguments):
        nonlocal count
        if count == shards:
            raise OSError(28, "No space left on device")
        count += 1
        write(*arguments)

    message = "codes: No space left on device; the images that were encoded are kept"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=message):
        patch.setattr(archive, "write_shard", full)
        yield
