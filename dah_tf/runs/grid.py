"""A grid of training runs: its cells, how they are run one after the other, and their results.

Each cell has its own run folder in the folder of the sweep, named after its settings. A sweep has
no other state. It skips finished cells and resumes begun ones, and several machines may work in
the same folder.
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
        settings: dict of flag to value as text, in the order of the grid.
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
    """Reads texts `NAME=VALUE,...` as a dict of name to list of values.

    Commas separate the values. If there is a semicolon, semicolons do: `train_sizes=16:1;8:1`.

    Raises:
        UserError: a text has another form, or a name or value is given twice.
    """
    result = {}
    for text in texts:
        name, equals, values = text.partition("=")
        values = [value.strip() for value in values.split(";" if ";" in values else ",")]
        if not re.fullmatch(r"\w+", name) or not equals or "" in values:
            raise UserError(f"grid={text}: write grid=FLAG=VALUE,VALUE,...")
        if name in result or len(set(values)) < len(values):
            raise UserError(f"grid={text}: {name} or one of its values is given twice")
        result[name] = values
    return result


def cells(grid, output):
    """Returns every combination of a grid's values. The last name changes fastest.

    Args:
        grid: dict of name to list of values.
        output: path of the sweep's folder.

    Returns:
        List of `Cell`.

    Raises:
        UserError: two cells would have the same folder.
    """
    result = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        name = "_".join(re.sub(r"[^\w.+-]", "-", f"{k}-{v}") for k, v in settings.items())
        result.append(Cell(settings, pathlib.Path(output) / (name or "run")))
    if len({cell.folder for cell in result}) < len(result):
        raise UserError(
            "two cells of the grid would have the same folder, because they differ only in "
            "characters that a folder's name cannot contain"
        )
    return result


def part(text, count):
    """Returns the indices that `--cells` names: `START:STOP:STEP` as in Python, or `I,J,...`.

    Raises:
        UserError: the text has another form, or names a cell that does not exist.
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
    """Returns the content of a JSON file, or None if it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(pathlib.Path(path).read_text())
    return None


def searches(grid):
    """Says whether a grid compares settings, rather than code lengths and seeds of one recipe."""
    return bool(set(grid) - {"bits", "seed"})


def is_done(cell, evaluated=True):
    """Says whether the run of a cell has ended, and with `evaluated` also whether it has a result.

    A run keeps its model when its last step is done, before it is evaluated.
    """
    return (cell.folder / "model.keras").exists() and (
        not evaluated or bool(read_json(cell.folder / "evaluation.json"))
    )


def is_busy(cell):
    """Says whether another process trains in the folder of a cell.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        runlog.Lock(cell.folder).close()
    except runlog.Busy:
        return True
    return False


class Stopped(Exception):
    """The sweep got SIGTERM. The run of the current cell has saved its state."""


def run(cell, arguments):
    """Trains a cell, or resumes it, in a separate process.

    The output of the run goes to `train.log` in its folder, and its progress to the screen. If
    this process ends or is killed, the run saves its state and ends too; the same sweep resumes
    it.

    Args:
        cell: `Cell`.
        arguments: list of str, the flags of `dah_tf.train` that are the same for all cells.

    Returns:
        int, the exit code of the run.

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


def summary(some, evaluated=True):
    """Returns the state and the results of cells.

    Args:
        some: list of `Cell`.
        evaluated: bool, whether the runs are evaluated on the queries. If it is False, no result
            is read, and a run is done when it is trained.

    Returns:
        List of dicts with these entries:
        - `settings` and `folder` of the cell;
        - `state`: "done", "begun" or "waiting";
        - `map`: the expected MAP on the queries of the protocol, or None;
        - `validation_map`: the last MAP on the validation images, or None;
        - `chosen`: whether the settings, apart from the seed, have the highest mean validation MAP
          among the cells of the same code length.
    """
    rows = []
    for cell in some:
        done = is_done(cell, evaluated)
        result = read_json(cell.folder / "evaluation.json") if done and evaluated else None
        begun = (cell.folder / "flags.json").exists()
        rows.append(
            {
                "settings": cell.settings,
                "folder": str(cell.folder),
                "state": "done" if done else "begun" if begun else "waiting",
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
    """Returns the code length of a cell, and its settings without the code length and the seed."""
    settings = {k: v for k, v in row["settings"].items() if k not in ("bits", "seed")}
    return row["settings"].get("bits"), tuple(settings.items())


def table(rows):
    """Returns the rows of `summary` as a table of text."""
    width = max([len(_title(row)) for row in rows] + [4])
    last = "MAP" if any(row["map"] is not None for row in rows) else "state"
    lines = [f"{'cell':<{width}}  {'validation MAP':>14}  {last:>6}"]
    for row in rows:
        score, chosen = row["map"], row["validation_map"]
        shown = f"{100 * score:.2f}" if score is not None else row["state"]
        checked = f"{100 * chosen:.2f}{' *' if row['chosen'] else '  '}" if chosen else "-  "
        lines.append(f"{_title(row):<{width}}  {checked:>14}  {shown:>6}")
    if any(row["chosen"] for row in rows):
        lines.append("* These settings have the highest validation MAP (the mean over the seeds).")
    return "\n".join(lines)


def _title(row):
    return " ".join(f"{name}={value}" for name, value in row["settings"].items()) or "one run"
