"""Encodes an index's images again by another model, and swaps the index in one step."""

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
    """Encodes the images that an index's keys name, and replaces all its codes at once.

    The new codes are gathered in a hidden folder beside the index, so that a killed rebuild goes
    on, and after one that found the index changed at its end only new images are encoded;
    searching shows the old codes meanwhile. Ids, keys and labels stay as they are.

    Args:
        index: an index of paths as keys.
        model: path, as `encoding.find_model` takes.
        encode: function of a `job.Job`, which encodes what is missing.
        root: path, the folder that relative keys begin at; None: the index's own, or where it
            does not know it, the working directory.

    Raises:
        UserError: an item without a path, an image that cannot be read, the index was changed
            meanwhile, or the disk is full; the index is as before.
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
            raise UserError(f"item {number} has {what}, so that its image is not known: encode it")
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
            raise UserError(f"cannot write beside {index.path}: {error.strerror}") from error
        found = np.concatenate([part for part, _ in parts])
        rows = {each: row for row, each in enumerate(p for _, made in parts for p in made)}
        codes = found[[rows[each] for each in paths]]
    if all(map(os.path.isabs, keys)):
        root = index.root
    index.replace(codes, ids, keys, labels, bits, fingerprint, changes, root)
    for folder in _folders(index):
        shutil.rmtree(folder, ignore_errors=True)


def _encoded_before(index, fingerprint):
    """Codes and paths of rebuilds by this model that ended when the index had been changed."""
    parts = []
    for folder in sorted(_folders(index)):
        made = pathlib.Path(folder) / "codes"
        if (made / archive.MANIFEST).exists():
            made = archive.Codes.open(made)
            if made.fingerprint == fingerprint:
                parts.append(made.read()[:2])
    return parts


def _encoded(index, model, fingerprint, ids, paths, rest, encode):
    """Codes and paths of the images `rest`, which are of the items `ids` with their `paths`."""
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
            f"{content['broken']} of {len(rest):,} images cannot be read, see "
            f"{folder / 'codes' / archive.BROKEN}; restore them, name the folder that their paths "
            "begin at by --root, or remove their items: python -m dah_tf.search remove "
            f"--index={index.path} --ids={lost}; the index is as before"
        )
    return codes, keys


def _prefix(index):
    """How the paths of a rebuild's folders begin."""
    return f"{index.beside}.rebuild."


def _folders(index):
    """Folders of this and of abandoned rebuilds."""
    return glob.glob(f"{glob.escape(str(_prefix(index)))}*")
