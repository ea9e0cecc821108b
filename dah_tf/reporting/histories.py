"""Reads, smooths and thins the logs of a run, and reads its example retrievals."""

import dataclasses
import json
import math
import zipfile
import zlib

import numpy as np

from dah_tf.reporting import collection

POINTS = 400
SMOOTH_SHARE = 1 / 50
NOT_TERMS = {"step", "time", "seconds", "accuracy"}  # These keys of metrics.jsonl are not terms.
SHAPES = {"query_images": 4, "neighbour_images": 5, "relevant": 2, "distances": 2}


@dataclasses.dataclass
class History:
    """Values that were logged against steps.

    Attributes:
        step: float64 array, increasing.
        values: dict of name to float64 array of the same length, with NaN for unknown values.
    """

    step: np.ndarray
    values: dict


def read(path, names=None):
    """Reads a file that has one JSON object in each line.

    Args:
        path: pathlib.Path.
        names: list of str, the names to keep in addition to `step`. None keeps every name that
            occurs in a record, in the order of first occurrence.

    Returns:
        `History`, or None if the file is missing or has no line with a step. Damaged lines, such as
        an incomplete last line, are left out.
    """
    rows, known = [], dict.fromkeys(names or ())
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    record = None
                step = collection.number(record, "step")
                if step is not None:
                    if names is None:
                        known.update(dict.fromkeys(record))
                    found = {name: collection.number(record, name) for name in known}
                    rows.append((step, {k: v for k, v in found.items() if v is not None}))
    except OSError:
        return None
    if not rows:
        return None
    known.pop("step", None)
    steps, chosen = np.unique([step for step, _ in rows], return_index=True)
    values = {
        name: np.array([rows[row][1].get(name, math.nan) for row in chosen]) for name in known
    }
    return History(steps, values)


def terms(history):
    """Returns the loss terms in a `metrics.jsonl` history: all names outside `NOT_TERMS`."""
    return [name for name in history.values if name not in NOT_TERMS]


def smooth(values, window):
    """Averages the last `window` values without NaN. The mean is NaN if all of them are NaN.

    Args:
        values: float64 array.
        window: int, the number of values, at least 1.

    Returns:
        float64 array of the same length.
    """
    known = ~np.isnan(values)
    sums = np.cumsum(np.concatenate([[0.0], np.where(known, values, 0)]))
    counts = np.cumsum(np.concatenate([[0], known]))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - window, 0)
    count = counts[last] - counts[first]
    mean = np.full(len(values), math.nan)
    return np.divide(sums[last] - sums[first], count, out=mean, where=count > 0)


def thin(length, points=POINTS):
    """Selects at most `points` of `length` indices, evenly spread, with the first and the last."""
    return np.unique(np.linspace(0, length - 1, min(length, points)).round().astype(int))


def smoothed(history, points=POINTS):
    """Returns a `History`: each series is smoothed over a fiftieth of its length, then thinned."""
    window = max(1, round(len(history.step) * SMOOTH_SHARE))
    kept = thin(len(history.step), points)
    values = {
        name: smooth(v, window)[kept] for name, v in history.values.items() if name != "seconds"
    }
    return History(history.step[kept], values)


def hours(history, steps):
    """Returns the hours of training up to each of `steps`, over all parts of the run, or None."""
    seconds = history.values.get("seconds")
    known = None if seconds is None else ~np.isnan(seconds)
    if known is None or known.sum() < 2:
        return None
    return np.interp(steps, history.step[known], seconds[known] / 3600)


def images_per_step(run):
    """Returns the number of images in each step of a run, or None."""
    seen = collection.number(run.result, "run", "images_seen")
    steps = collection.number(run.result, "run", "step") or collection.number(
        run.result, "run", "steps"
    )
    return seen / steps if seen and steps else None


def examples(path):
    """Reads queries and their nearest neighbours.

    Args:
        path: pathlib.Path of an `examples.npz`.

    Returns:
        Dict of arrays, or None if there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in (*SHAPES, "query_labels", "neighbour_labels")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not _fit(found):
        raise ValueError(f"{path} is damaged: its arrays do not fit together")
    return found


def _fit(found):
    if any(found[name].ndim != dimensions for name, dimensions in SHAPES.items()):
        return False
    grid = found["neighbour_images"].shape[:2]
    if any(found[name].shape != grid for name in ("relevant", "distances", "neighbour_labels")):
        return False
    queries = found["query_images"]
    same = queries.shape[1:] == found["neighbour_images"].shape[2:]
    counts = {grid[0], len(queries), *found["query_labels"].shape}
    return same and queries.shape[-1] in (1, 3) and counts == {grid[0]} and min(grid) > 0
