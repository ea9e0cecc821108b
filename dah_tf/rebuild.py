"""Encodes an index's images again by another model, and swaps the index in one step."""

import hashlib
import os
import pathlib
import shutil

from dah_tf.encoding import job, store
from dah_tf.errors import UserError


def rebuild(index, model, encode, root="."):
    """Encodes the images that an index's keys name, and replaces all its codes at once.

    The new codes are gathered in a hidden folder beside the index, so that a killed rebuild goes
    on; searching shows the old codes meanwhile. Ids, keys and labels stay as they are.

    Args:
        index: `Index` of paths as keys.
        model: path, as `encoding.find_model` takes.
        encode: function of a `job.Job`, which encodes what is missing.
        root: path, the folder that relative keys begin at.

    Returns:
        List of str: what the swapped index holds.

    Raises:
        UserError: an item without a key, an image that cannot be read, or the index was changed
            meanwhile; the index is as before.
    """
    changes = index.stats()["changes"]
    items = [row for part in index.items() for row in zip(*part, strict=True)]
    paths = [os.path.abspath(os.path.join(root, key)) if key else None for _, key, _ in items]
    nameless = [number for (number, _, _), path in zip(items, paths, strict=True) if path is None]
    if nameless:
        raise UserError(f"item {nameless[0]} has no key, so its image is not known: encode anew")
    listing = b"".join(os.fsencode(path) + b"\0" for path in dict.fromkeys(paths))
    name = hashlib.sha256(listing + os.fsencode(os.path.abspath(model))).hexdigest()[:12]
    folder = pathlib.Path(index.path).absolute()
    folder = folder.with_name(f".{folder.name}.rebuild.{name}")
    folder.mkdir(exist_ok=True)
    (folder / "paths").write_bytes(listing)
    content = job.run(
        model, f"list:{folder / 'paths'}", folder / "codes", labels="none", work=encode
    )
    if content["broken"]:
        store.reopen(folder / "codes")
        raise UserError(
            f"{content['broken']} images cannot be read, see {folder / 'codes' / store.BROKEN}; "
            f"restore them, or remove their items from {index.path}, which is as before"
        )
    codes, keys, _ = store.Codes.open(folder / "codes").read()
    place = {key: row for row, key in enumerate(keys)}
    index.refresh()
    if index.stats()["changes"] != changes:
        raise UserError(f"{index.path} was changed meanwhile; rebuild it again")
    index.replace(
        codes[[place[path] for path in paths]],
        ids=[number for number, _, _ in items],
        keys=[key for _, key, _ in items],
        labels=[label for _, _, label in items],
        bits=content["bits"],
        fingerprint=content["fingerprint"],
    )
    shutil.rmtree(folder)
