"""Encodes the images of an index again with another model, and replaces the codes in one step."""

import glob
import hashlib
import os
import pathlib
import shutil

import numpy as np

from dah_tf.codes import archive
from dah_tf.encoding import find_model, job
from dah_tf.errors import UserError, shortened
from dah_tf.files import durable


def rebuild(index, model, encode, root=None):
    """Encodes the images that the keys of an index name, and replaces all codes in one step.

    The new codes are collected in a hidden folder next to the index, so that a killed rebuild can
    continue. If the index was changed in the meantime, the rebuild fails at its end; the next one
    encodes only the new images. Until the end, a search uses the old codes. Ids, keys and labels
    do not change.

    Args:
        index: an index whose keys are paths.
        model: path, as in `encoding.find_model`.
        encode: function that takes a `job.Job` and encodes the missing shards.
        root: path, the folder in which relative keys start. None is the folder that the index has
            stored, or the working directory if it has none.

    Raises:
        UserError: an item has no path, an image cannot be read, the index was changed in the
            meantime, or the disk is full. The index is as before.
    """
    path, description = find_model(model)
    bits, fingerprint = description["bits"], description["fingerprint"]
    changes = index.stats()["changes"]
    ids, keys, labels = [], [], []
    for part in index.items():
        for gathered, column in zip((ids, keys, labels), part, strict=True):
            gathered.extend(column)
    for number, key in zip(ids, keys, strict=True):
        if not key or key.startswith("tfds:"):
            what = f"the key {shortened(key)}" if key else "no key"
            raise UserError(
                f"item {number} has {what}, which does not name an image file; encode the images "
                "with dah_tf.encode, and run rebuild with --codes"
            )
    root = os.path.abspath(root or index.root or ".")
    paths = [archive.place(key, root) for key in keys]
    codes = archive.no_codes(bits)
    if paths:
        try:
            parts = _encoded_before(index, fingerprint)
            known = {each for _, made in parts for each in made}
            rest = [each for each in dict.fromkeys(paths) if each not in known]
            if rest:
                parts.append(_encoded(index, path, fingerprint, ids, paths, rest, encode))
        except OSError as error:
            raise UserError(f"cannot write next to {index.path}: {error.strerror}") from error
        found = np.concatenate([part for part, _ in parts])
        rows = {each: row for row, each in enumerate(p for _, made in parts for p in made)}
        codes = found[[rows[each] for each in paths]]
    if all(map(os.path.isabs, keys)):
        root = index.root
    index.replace(codes, ids, keys, labels, bits, fingerprint, changes, root)
    for folder in _folders(index):
        shutil.rmtree(folder, ignore_errors=True)


def _encoded_before(index, fingerprint):
    """Returns codes and paths from earlier rebuilds with this model that failed at their end."""
    parts = []
    for folder in sorted(_folders(index)):
        made = pathlib.Path(folder) / "codes"
        if (made / archive.MANIFEST).exists():
            made = archive.Codes.open(made)
            if made.fingerprint == fingerprint:
                parts.append(made.read()[:2])
    return parts


def _encoded(index, model, fingerprint, ids, paths, rest, encode):
    """Encodes the images `rest` of the items `ids` with their `paths`; returns codes and paths."""
    listing = b"".join(os.fsencode(path) + b"\0" for path in rest)
    name = hashlib.sha256(listing + fingerprint.encode()).hexdigest()[:12]
    folder = pathlib.Path(f"{_prefix(index)}{name}")
    folder.mkdir(exist_ok=True)
    with durable.replacing(folder / "paths") as file:
        file.write(listing)
    listed = f"list:{folder / 'paths'}"
    content = job.run(model, listed, folder / "codes", labels="none", work=encode)
    codes, keys, _ = archive.Codes.open(folder / "codes").read()
    if content["broken"]:
        archive.reopen(folder / "codes")
        lost, broken = folder / "lost.npy", set(rest) - set(keys)
        np.save(lost, [number for number, path in zip(ids, paths, strict=True) if path in broken])
        raise UserError(
            f"{content['broken']} of {len(rest):,} images cannot be read (see "
            f"{folder / 'codes' / archive.BROKEN}), and the index is as before; restore the "
            "images, name the folder in which their paths start with --root, or remove their "
            f"items: python -m dah_tf.search remove --index={index.path} --ids={lost}"
        )
    return codes, keys


def _prefix(index):
    """Returns the start of the paths of a rebuild's folders."""
    return f"{index.beside}.rebuild."


def _folders(index):
    """Returns the folders of this rebuild and of abandoned ones."""
    return glob.glob(f"{glob.escape(str(_prefix(index)))}*")
