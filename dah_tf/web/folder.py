"""Brings a folder of images into an index, and later only what is new in it.

The codes stay beside the index. They say which images were encoded before, so that an image whose
item was removed is not added again:

    .INDEX.codes/NUMBER         a folder of codes, with all images that were new at one start
    .INDEX.codes/NUMBER.added   an empty file: the codes are in the index
"""

import json
import os
import pathlib
import shutil

from dah_tf.codes.archive import MANIFEST, SHARDS, Codes
from dah_tf.encoding import encode_folder, find_model, listing
from dah_tf.errors import UserError
from dah_tf.files import durable
from dah_tf.index import Index, at, create_index, open_index


def bring_in(settings, say=print):
    """Encodes the images of a folder that were not encoded before, and adds them to the index.

    The keys are the paths below the folder. If the process is killed, the next call continues.

    Args:
        settings: `Settings` with `images`, `index`, `model`, `labels`, `runtime` and `backend`.
        say: function that gets a line of text for the user.

    Raises:
        UserError: there is no image, the index has codes of another model, or the disk is full.
    """
    _, model = find_model(settings.model)
    images = os.path.realpath(settings.images)
    classes = set(model["class_names"])
    keys = [
        os.path.relpath(os.fsdecode(path), images)
        for path, _ in listing.below(images, settings.labels, classes)
    ]
    if not keys:
        raise UserError(f"images={settings.images} has no images")
    try:
        index, beside = _opened(settings, model, images)
        _encode(settings, images, keys, beside, say)
        _add(index, images, beside, set(keys))
    except OSError as error:
        raise UserError(f"cannot write beside {settings.index}: {error.strerror}") from error
    say(f"{len(index):,} items of {index.bits} bits in {settings.index}")
    index.close()


def _opened(settings, model, images):
    """Returns the index, which is made if it is missing, and the folder of its codes."""
    path = pathlib.Path(settings.index)
    index = None
    if at(settings.index) is not Index:
        try:
            index = open_index(settings.index)
        except UserError:
            pass  # There is none, or making one fails for the same reason.
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        index = open_index(settings.index)
    if index is not None:
        if index.fingerprint not in (None, model["fingerprint"]):
            raise UserError(
                f"{settings.index} has codes of another model than {settings.model}; encode again: "
                f"python -m dah_tf.search rebuild --index={settings.index} --model={settings.model}"
            )
        beside = pathlib.Path(f"{index.beside}.codes")
        beside.mkdir(exist_ok=True)
        return index, beside
    index = create_index(
        settings.index,
        model["bits"],
        fingerprint=model["fingerprint"],
        backend=settings.backend or "flat",
        root=images,
    )
    beside = pathlib.Path(f"{index.beside}.codes")
    beside.mkdir(exist_ok=True)
    # What an index of the same name had, the new one has not. Codes of this model can be used.
    for marker in beside.glob("*.added"):
        marker.unlink()
    for each in _complete(beside):
        if Codes.open(each).fingerprint != model["fingerprint"]:
            shutil.rmtree(each)
    return index, beside


def _encode(settings, images, keys, beside, say):
    """Encodes the new images into a further folder of codes, after one that is not finished."""
    while True:
        done = _complete(beside)
        unfinished = [each for each in _folders(beside) if each not in done]
        known = set().union(*(_keys(each) for each in done))
        new = [key for key in keys if key not in known]
        if not unfinished and not new:
            return
        if new:
            say(f"{len(new):,} of {len(keys):,} images in {settings.images} are new")
        numbers = [int(each.name) for each in _folders(beside)]
        output = unfinished[0] if unfinished else beside / f"{max(numbers, default=-1) + 1:06d}"
        encode_folder(
            settings.model,
            images,
            output,
            labels=settings.labels,
            skip=[each for each in done if each < output],
            runtime=settings.runtime or "auto",
            say=say,
        )
        if broken := Codes.open(output).manifest["broken"]:
            say(f"{broken:,} images could not be read: {output / 'broken.tsv'}")
        if not unfinished:
            return


def _add(index, images, beside, present):
    """Adds the codes to the index that are not in it, and whose images are still there."""
    for folder in _complete(beside):
        marker = folder.with_name(f"{folder.name}.added")
        if marker.exists():
            continue
        codes, paths, labels = Codes.open(folder).read()
        base = Codes.open(folder).manifest["input"]
        keys = [os.path.relpath(path, base) for path in paths]
        # The process may have ended between the addition and the marker.
        there = {key for _, known, _ in index.items() for key in known}
        missing = present - there
        rows = [row for row, key in enumerate(keys) if key in missing]
        index.add(
            codes[rows],
            keys=[keys[row] for row in rows],
            labels=[labels[row] for row in rows] if any(labels) else None,
            root=images,
        )
        marker.touch()
        durable.sync(beside)


def _folders(beside):
    return sorted(each for each in beside.iterdir() if each.is_dir() and each.name.isdecimal())


def _complete(beside):
    """Returns the folders of codes that are complete."""
    return [each for each in _folders(beside) if (each / MANIFEST).exists()]


def _keys(folder):
    """Returns the keys of a folder of codes, with those of images that are still unreadable."""
    codes = Codes.open(folder)
    base, written = codes.manifest["input"], (folder / MANIFEST).stat().st_mtime
    found = {os.path.relpath(key, base) for _, keys, _ in codes.shards() for key in keys}
    if codes.manifest["broken"]:
        for shard in codes.manifest["shards"]:
            record = json.loads((folder / SHARDS / shard["name"] / "shard.json").read_bytes())
            for path, _ in record["broken"]:
                if not os.path.exists(path) or os.path.getmtime(path) <= written:
                    found.add(os.path.relpath(path, base))
    return found
