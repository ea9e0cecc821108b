"""A grid of training runs: its cells, running them one after the other, what came of them.

Each cell is a run folder of its own below the sweep's folder, named after its settings, so a
sweep has no state beside its cells: finished ones are skipped, begun ones resumed, and several
machines may share the folder.
"""

import contextlib
import ctypes
import itertools
import json
import pathlib
import re
import signal
import subprocess
import sys
from typing import NamedTuple

from dah_tf.errors import UserError
from dah_tf.runs import runlog


class Cell(NamedTuple):
    """One run of a grid.

    Attributes:
        settings: dict of flag to value as text, in the grid's order.
        folder: path of the run's folder.
    """

    settings: dict
    folder: pathlib.Path

    @property
    def arguments(self):
        """The settings as arguments of `dah_tf.train`."""
        return [f"--{name}={value}" for name, value in self.settings.items()]

    @property
    def title(self):
        return " ".join(f"{name}={value}" for name, value in self.settings.items()) or "one run"


def axes(texts):
    """`NAME=VALUE,...` as a dict of name to list of values.

    Values are separated by commas, or by semicolons where there is one: `train_sizes=16:1;8:1`.

    Raises:
        UserError: another form, or a name or value that stands twice.
    """
    result = {}
    for text in texts:
        name, equals, values = text.partition("=")
        values = [value.strip() for value in values.split(";" if ";" in values else ",")]
        if not re.fullmatch(r"\w+", name) or not equals or "" in values:
            raise UserError(f"grid={text}: write grid=FLAG=VALUE,VALUE,...")
        if name in result or len(set(values)) < len(values):
            raise UserError(f"grid={text}: {name} or one of its values stands twice")
        result[name] = values
    return result


def cells(grid, output):
    """Every combination of a grid's values; the last name changes fastest.

    Args:
        grid: dict of name to list of values.
        output: path of the sweep's folder.

    Returns:
        List of `Cell`.

    Raises:
        UserError: two cells would have one folder.
    """
    result = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        name = "_".join(re.sub(r"[^\w.+-]", "-", f"{k}-{v}") for k, v in settings.items())
        result.append(Cell(settings, pathlib.Path(output) / (name or "run")))
    if len({cell.folder for cell in result}) < len(result):
        raise UserError("two cells of grid differ only in characters that no folder can have")
    return result


def part(text, count):
    """Indices that `--cells` names: `START:STOP:STEP` as in Python, or `I,J,...`.

    Raises:
        UserError: another form, or a cell that does not exist.
    """
    try:
        if ":" in text:
            bounds = [int(each) if each else None for each in text.split(":")]
            return list(range(count)[slice(*bounds)])
        chosen = [int(each) for each in text.split(",")]
    except (ValueError, TypeError):
        raise UserError(f"cells={text}: write START:STOP:STEP, such as 0::2, or I,J") from None
    if not set(chosen) <= set(range(count)):
        raise UserError(f"cells={text}: the grid's cells are 0 to {count - 1}")
    return chosen


def read_json(path):
    """A JSON file's content; None where it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(pathlib.Path(path).read_text())
    return None


def is_done(cell):
    """Whether a cell's run has ended and was evaluated."""
    return (cell.folder / "model.keras").exists() and bool(
        read_json(cell.folder / "evaluation.json")
    )


def is_busy(cell):
    """Whether another process trains in a cell's folder.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        runlog.Lock(cell.folder).close()
    except runlog.Busy:
        return True
    return False


class Stopped(Exception):
    """SIGTERM: the cell's run has saved its state."""


def run(cell, arguments):
    """Trains a cell, or resumes it, in a process of its own.

    What the run prints goes to `train.log` in its folder, its progress to the screen. It ends
    with this process, also where that is killed: it saves, and the same sweep resumes it.

    Args:
        cell: `Cell`.
        arguments: list of str, flags of `dah_tf.train` other than the cell's.

    Returns:
        int, the run's exit code.

    Raises:
        Stopped: this process was asked to stop.
    """
    command = [sys.executable, "-m", "dah_tf.train", *arguments, *cell.arguments]
    cell.folder.mkdir(parents=True, exist_ok=True)
    asked = []
    with open(cell.folder / "train.log", "a") as log:
        process = subprocess.Popen(
            [*command, f"--workdir={cell.folder}"],
            stdout=log,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - a sweep has no threads
        )

        def stop(*_):
            asked.append(True)
            process.terminate()

        old = signal.signal(signal.SIGTERM, stop)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, old)
    if asked:
        raise Stopped
    return code


def _end_with_parent():
    """Asks Linux to send SIGTERM to this process when its parent ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def summary(some):
    """What came of cells.

    Returns:
        List of dicts: `settings`, `folder`, `state` ("done", "begun" or "waiting"), `map` on the
        protocol's queries (expected), `validation_map` (the last), None where not known; and
        `chosen`: whether its settings, other than the seed, have the highest mean validation MAP
        among the cells of its code length.
    """
    rows = []
    for cell in some:
        result = read_json(cell.folder / "evaluation.json") if is_done(cell) else None
        begun = (cell.folder / "flags.json").exists()
        rows.append(
            {
                "settings": cell.settings,
                "folder": str(cell.folder),
                "state": "done" if result else "begun" if begun else "waiting",
                "map": result["map"]["expected"] if result else None,
                "validation_map": runlog.last_record(cell.folder / "validation.jsonl").get(
                    "validation_map"
                ),
            }
        )
    means = {}
    for row in rows:
        if row["state"] == "done" and row["validation_map"] is not None:
            bits, rest = _recipe(row)
            means.setdefault(bits, {}).setdefault(rest, []).append(row["validation_map"])
    for row in rows:
        bits, rest = _recipe(row)
        known = {k: sum(v) / len(v) for k, v in means.get(bits, {}).items()}
        row["chosen"] = len(known) > 1 and rest == max(known, key=known.get)
    return rows


def _recipe(row):
    """A cell's code length, and its settings without that and the seed."""
    settings = {k: v for k, v in row["settings"].items() if k not in ("bits", "seed")}
    return row["settings"].get("bits"), tuple(settings.items())


def table(rows):
    """`summary` for people."""
    width = max([len(_title(row)) for row in rows] + [4])
    lines = [f"{'cell':<{width}}  {'validation MAP':>14}  {'MAP':>6}"]
    for row in rows:
        score, chosen = row["map"], row["validation_map"]
        shown = f"{100 * score:.2f}" if score is not None else row["state"]
        checked = f"{100 * chosen:.2f}{' *' if row['chosen'] else '  '}" if chosen else "-  "
        lines.append(f"{_title(row):<{width}}  {checked:>14}  {shown:>6}")
    if any(row["chosen"] for row in rows):
        lines.append("* highest validation MAP, mean over the seeds: the choice")
    return "\n".join(lines)


def _title(row):
    return " ".join(f"{name}={value}" for name, value in row["settings"].items()) or "one run"
