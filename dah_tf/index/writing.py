"""Changes of an index: new files are written first, and one rename makes them visible."""

import contextlib
import copy

import numpy as np

from dah_tf import codes as packed
from dah_tf.errors import UserError, shortened
from dah_tf.files import durable
from dah_tf.index import approximate, disk, scan, segments, texts
from dah_tf.index.failure import WrongModelError

# Small additions leave small segments. From this number of segments on, those that fit into
# `MERGED_BYTES` are written again as one. Searching stays fast, and no addition writes much more
# than its own codes.
SMALL_SEGMENTS = 16
SMALL_BYTES = 1 << 18
MERGED_BYTES = 1 << 19


def settings(bits, fingerprint, root):
    """Returns the facts about codes and keys for the manifest.

    Raises:
        UserError: the index cannot store codes of this length.
    """
    if not 8 <= bits <= 256:
        raise UserError(f"codes must have 8 to 256 bits. Received: {bits}")
    return {"bits": int(bits), "fingerprint": fingerprint, "root": root}


@contextlib.contextmanager
def change(index):
    """Locks an index for a change, and yields the content of its newest manifest for editing.

    Args:
        index: `Index`. It is refreshed first.

    Raises:
        UserError: another process writes, or the disk is full.
    """
    with disk.lock(index.path):
        index.refresh()
        try:
            disk.sweep(index.path)
            yield copy.deepcopy(index._facts)
        except BaseException as error:
            with contextlib.suppress(OSError, UserError):
                disk.sweep(index.path)
            if isinstance(error, OSError):
                raise UserError(f"cannot write to {index.path}: {error.strerror}") from error
            raise


def commit(folder, content):
    """Makes a change visible and durable, then deletes the files that are not needed any more."""
    content["generation"] += 1
    durable.sync(folder / disk.SEGMENTS)
    disk.write_manifest(folder, content)
    with contextlib.suppress(OSError):  # the change is complete; the next writer deletes the rest
        disk.sweep(folder)


def append(folder, content, items):
    """Writes items as new segments, and adds these to the content of a manifest."""
    total = len(items.ids) + sum(entry["live"] for entry in content["segments"])
    for start in range(0, len(items.ids), segments.ROWS):
        part = items
        if len(items.ids) > segments.ROWS:
            rows = np.arange(start, min(start + segments.ROWS, len(items.ids)))
            part = segments.take(items, rows)
        backend = content["backend"]
        arrays = segments.arrays_of(part, content["bits"], with_tables=backend != "numpy")
        kind = approximate.choose(backend, content["recall"], len(arrays["codes"]), total)
        about = {}
        if kind:
            arrays["approximate"], reached = approximate.build(
                arrays["codes"], kind, content["recall"], content["bits"]
            )
            about["reached"] = round(reached, 4)  # dah_tf 0.2.0 does not write it and ignores it
        name = f"{content['next_segment']:08d}"
        content["next_segment"] += 1
        content["segments"].append(
            {
                "name": name,
                "rows": len(part.ids),
                "live": len(part.ids),
                "range": [int(part.ids.min()), int(part.ids.max())],
                **about,
                "files": {
                    each: disk.write_array(folder, f"{name}-{each}.npy", array)
                    for each, array in arrays.items()
                },
            }
        )


def bury(folder, content, segment, rows):
    """Records in the content of a manifest that rows of a segment are removed."""
    entries = content["segments"]
    place = next(i for i, entry in enumerate(entries) if entry["name"] == segment.entry["name"])
    entry = entries[place]
    entry["live"] -= len(rows)
    if not entry["live"]:
        del entries[place]
        return
    # The number makes a new name, because a reader may still use the previous bitmap.
    name = f"{entry['name']}-alive-{content['generation'] + 1}.npy"
    entry["files"]["alive"] = disk.write_array(folder, name, segment.without(rows))


def merge(content, opened, items):
    """Takes small segments out of the content of a manifest, if there are many.

    Args:
        content: the content of the manifest.
        opened: list of `Segment`, in the order of the manifest.
        items: `Items` that will be added.

    Returns:
        List of `Items` that must be written together with the new ones.
    """
    small = [segment for segment in opened if size(segment.entry) < SMALL_BYTES]
    if len(small) + 1 < SMALL_SEGMENTS:
        return []
    small.sort(key=lambda segment: size(segment.entry))
    taken, total = [], 0
    for segment in small:
        total += size(segment.entry)
        if total > MERGED_BYTES:
            break
        taken.append(segment)
    names = {segment.entry["name"] for segment in taken}
    content["segments"] = [each for each in content["segments"] if each["name"] not in names]
    return [segment.items() for segment in taken]


def gathered(opened):
    """Yields the items of segments that are not removed, in parts of about `segments.ROWS`."""
    pending, count = [], 0
    for segment in opened:
        if pending and count + segment.live > segments.ROWS:
            yield segments.join(pending)
            pending, count = [], 0
        pending.append(segment.items())
        count += segment.live
    if pending:
        yield segments.join(pending)


def size(entry):
    """Returns the size of the files of a segment in bytes."""
    return sum(file[1] for file in entry["files"].values())


def checked(content, codes, ids, keys, labels):
    """Checks new items and returns them. Updates `next_id` in the content of a manifest.

    Raises:
        UserError: the codes have another length, an id is given twice, or the numbers of codes,
            ids, keys and labels differ.
    """
    codes = checked_codes(codes, content["bits"])
    if ids is None:
        ids = np.arange(content["next_id"], content["next_id"] + len(codes))
    ids = checked_ids(ids)
    if len(ids) != len(codes):
        raise UserError(f"{len(codes)} codes and {len(ids)} ids; each code needs one id")
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise UserError(f"id {twice[0]} is given twice")
    columns = []
    for name, strings in (("keys", keys), ("labels", labels)):
        if strings is not None and len(strings) != len(codes):
            raise UserError(f"{len(codes)} codes and {len(strings)} {name}")
        columns.append(None if strings is None else texts.encode(strings))
    if len(ids):
        content["next_id"] = max(content["next_id"], int(ordered[-1]) + 1)
    padded = scan.pad(codes, scan.padded_width(content["bits"]))
    return segments.Items(ids, padded, *columns)


def checked_codes(codes, bits):
    """Returns packed codes as a uint8 array, after checking that they fit `bits`.

    Raises:
        UserError: they do not fit.
    """
    try:
        return packed.check(codes, bits)
    except ValueError as error:
        raise UserError(str(error)) from None


def checked_ids(ids):
    """Returns ids as an int64 array.

    Raises:
        UserError: they are not whole numbers from 0 to 2**63 - 1.
    """
    ids = np.asarray(ids)
    if not ids.size and ids.ndim == 1:
        return np.zeros(0, np.int64)
    # If a whole number is too large, NumPy makes an array of objects.
    whole = ids.ndim == 1 and ids.dtype.kind in "iu"
    if not whole or ids.min() < 0 or ids.max() > np.iinfo(np.int64).max:
        received = f"{ids.min()} to {ids.max()}" if whole else f"{ids.dtype} {ids.shape}"
        raise UserError(
            f"ids must be whole numbers from 0 to 2**63 - 1 of shape (n,). Received: {received}"
        )
    return ids.astype(np.int64)


def check_model(index, fingerprint):
    """Refuses codes of another model.

    Args:
        index: an index.
        fingerprint: str, the fingerprint of the model that made the codes. None is not checked.

    Raises:
        WrongModelError: another model made the codes of the index.
    """
    if fingerprint and index.fingerprint and fingerprint != index.fingerprint:
        raise WrongModelError(
            f"the codes are from model {shortened(fingerprint)}, but {index.path} contains codes "
            f"of model {shortened(index.fingerprint)}; distances between them mean nothing"
        )


def check_unchanged(index, changes, now):
    """Refuses to change an index that another process has changed since it was read.

    Args:
        index: an index.
        changes: int, the number of changes when it was read. None is not checked.
        now: int, the number of changes now.

    Raises:
        UserError: the numbers differ.
    """
    if changes not in (None, now):
        raise UserError(f"{index.path} was changed in the meantime; repeat the command")


def some(ids):
    """Writes the start of a message, such as `id 3 is` or `ids 3, 4, 5 and 8 more are`."""
    shown = ", ".join(str(i) for i in ids[:3])
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"id {shown} is" if len(ids) == 1 else f"ids {shown}{more} are"


def verify(folder, content, opened):
    """Returns a list of the faults of an index.

    Raises:
        FileNotFoundError: a file is missing.
    """
    problems, ids = [], []
    for segment in opened:
        for record in segment.entry["files"].values():
            try:
                if not disk.is_whole(folder, record):
                    problems.append(f"{record[0]}: its content has changed since it was written")
            except FileNotFoundError:
                raise
            except OSError as error:
                problems.append(f"{record[0]}: it cannot be read ({error.strerror})")
        ids.append(segment.ids[segment.living()])
        problems += [f"segment {segment.entry['name']}: {each}" for each in _faults(segment)]
    ids = np.sort(np.concatenate(ids)) if ids else np.zeros(0, np.int64)
    if (ids[1:] == ids[:-1]).any():
        problems.append("two items have the same id")
    if len(ids) and ids[-1] >= content["next_id"]:
        problems.append(f"id {ids[-1]} is not below next_id {content['next_id']}")
    return problems


def _faults(segment):
    """Yields the contradictions within a segment."""
    if int(segment.living().sum()) != segment.live:
        yield "it has another number of items than the manifest says"
    if [int(segment.ids.min()), int(segment.ids.max())] != segment.entry["range"]:
        yield "its ids do not fit the range in the manifest"
    if segment.starts is not None:
        starts = segment.starts.astype(np.int64)
        if starts[0] != 0 or starts[-1] != len(segment.ids) or (np.diff(starts) < 1).any():
            yield "its starts do not divide its items"
    for name in ("keys", "labels"):
        column = segment.column(name)
        if column and (
            column[1][0] or column[1][-1] != len(column[0]) or (np.diff(column[1]) < 0).any()
        ):
            yield f"its {name}_starts do not divide its {name}"
    used = np.asarray(segment.codes[:, : -(-segment.bits // 8)])
    if segment.codes[:, used.shape[1] :].any():
        yield "its codes have padding that is not 0"
    try:
        packed.check(used, segment.bits)
    except ValueError as error:
        yield str(error)
