"""Finds and reads result files, and groups the runs that may be compared.

A result is the JSON file that the evaluation of a run writes. Every key of it is optional here. An
entry that is missing, null or of the wrong kind is read as None.
"""

import collections
import dataclasses
import json
import math
import pathlib
import re

import numpy as np

from dah_tf.errors import UserError
from dah_tf.reporting import naming

RESULT = "evaluation.json"


def get(value, *keys):
    """Returns the entry of nested dicts under `keys`, or None."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def number(value, *keys):
    """Does the same as `get` for a finite number: float or None."""
    value = get(value, *keys)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:  # Integers in JSON are not bounded.
        return None
    return value if math.isfinite(value) else None


def whole(value, *keys):
    """Does the same as `number`, and rounds to an int."""
    value = number(value, *keys)
    return None if value is None else round(value)


def numbers(value, *keys):
    """Does the same as `get` for a list of numbers: float64 array with NaN for null, or None."""
    value = get(value, *keys)
    if not isinstance(value, list) or not value:
        return None
    found = [number(item) for item in value]
    return np.array([math.nan if item is None else item for item in found])


def measure(result, key):
    """Returns a measure. If it has bounds over the order of ties, takes the expected or worst."""
    for path in ((key,), (key, "expected"), (key, "worst")):
        found = number(result, *path)
        if found is not None:
            return found
    return None


def text(value, *keys):
    """Does the same as `get` for a string or a number: str or None."""
    value = get(value, *keys)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


@dataclasses.dataclass
class Run:
    """The result of one run.

    Attributes:
        path: pathlib.Path of the result file, as it was found.
        folder: pathlib.Path of the run's folder with its logs, or None.
        result: dict, the contents of the result file.
        flags: dict, the flags of the run. It is empty if they are not recorded.
        settings: dict, the result of `naming.settings` for the flags and the evaluation's `mirror`
            setting. It is empty if they contain no settings.
        number: int, the number of the run in the report.
        kind: str, the hash method, or "" if it is not recorded.
        network: str, the backbone, with the options in which it differs from others of its name.
        recipe: str, the settings in which the recipe differs from others of that kind and network.
        method: str, the table row to which the run belongs. It combines the three names above.
    """

    path: pathlib.Path
    folder: pathlib.Path
    result: dict
    flags: dict
    settings: dict
    number: int = 0
    kind: str = ""
    network: str = ""
    recipe: str = ""
    method: str = ""

    @property
    def name(self):
        """str, the run's recorded name, or else the name of its folder or file."""
        own = self.path.parent.absolute().name if self.path.name == RESULT else self.path.stem
        return text(self.result, "run", "name") or own

    @property
    def label(self):
        return f"{self.number} {self.name}"

    @property
    def bits(self):
        """int, the code length, or None."""
        found = number(self.result, "bits") or number(self.flags, "bits")
        return round(found) if found and found >= 1 else None

    @property
    def seed(self):
        return whole(self.flags, "seed")

    @property
    def note(self):
        """str, the note of the run, for example about a variant of its data, or ""."""
        return text(self.result, "run", "note") or ""

    @property
    def unfinished(self):
        """bool, whether the result is from a checkpoint before the end of the run."""
        step = number(self.result, "run", "step") or number(self.result, "step")
        steps = number(self.result, "run", "steps")
        return step is not None and steps is not None and step < steps


@dataclasses.dataclass
class Section:
    """Runs that may be compared because they share the data, its images and the protocol.

    Attributes:
        runs: list of `Run`.
        number: int, the number of the section, counted from 1.
    """

    runs: list
    number: int

    @property
    def first(self):
        return self.runs[0].result

    @property
    def data(self):
        return text(self.first, "data", "name") or "data not stated"

    @property
    def protocol(self):
        return text(self.first, "protocol", "name") or "not stated"

    @property
    def checksum(self):
        return text(self.first, "protocol", "checksum")

    @property
    def images(self):
        """Names the data. Resized images count as other data, since their fingerprint differs."""
        size = whole(self.runs[0].flags, "image_size")
        return f"{self.data} at {size} px" if size else self.data

    @property
    def title(self):
        checksum = f" ({self.checksum})" if self.checksum else ""
        return f"{self.images}, protocol {self.protocol}{checksum}"

    @property
    def methods(self):
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def lengths(self):
        return sorted({run.bits for run in self.runs if run.bits})

    def of(self, method, bits):
        """Returns the runs of one cell, which differ only in the seed."""
        return [run for run in self.runs if run.method == method and run.bits == bits]

    @property
    def groups(self):
        """Returns `(method, bits, runs)` of every cell with runs, with lengths inside methods."""
        lengths = [*self.lengths, None]
        cells = [(m, bits, self.of(m, bits)) for m in self.methods for bits in lengths]
        return [cell for cell in cells if cell[2]]


def find(paths):
    """Reads all results that the paths name.

    Args:
        paths: list of str. They name run folders, result files, or folders that hold several of
            either. Run folders are searched one and two levels deep, and other result files only
            in the folder itself.

    Returns:
        List of `Run`, which begins with the runs of the largest section. The runs are numbered and
        their methods are named. The second value is a list of str that says what could not be
        reported and why.

    Raises:
        UserError: a path does not exist, or no result could be read.
    """
    runs, problems = [], []
    for path in map(pathlib.Path, paths):
        if not path.exists():
            raise UserError(f"{path} does not exist; name run folders or result files")
        found, missing = _candidates(path)
        problems += missing
        for file, sure in found:
            try:
                run = _read(file, sure)
            except UserError as error:
                problems.append(str(error))
            else:
                runs += [run] if run else []
                problems += _told_nothing(run) if run else []
        if not found and not missing:
            problems.append(
                f"{path} contains no result, neither {RESULT} nor another JSON file of one"
            )
    runs, copies = _without_copies(runs)
    if not runs:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise UserError(f"no run to report: {''.join(problems[:1]) or 'no paths given'}{more}")
    held = collections.defaultdict(list)
    for run in sorted(runs, key=lambda run: str(run.path)):
        held[_section_key(run)].append(run)
    ordered = []
    for _, group in sorted(held.items(), key=lambda each: (-len(each[1]), each[0])):
        naming.name_methods(group)
        ordered += sorted(group, key=_order)
    for index, run in enumerate(ordered, 1):
        run.number = index
    return ordered, list(dict.fromkeys(problems + copies))


def _told_nothing(run):
    if not run.flags or run.settings:
        return []
    return [f"the flags of {run.path} are not those of a run, so it has a name of its own"]


def sections(runs):
    """Splits the runs of `find` by data and protocol. Runs of one part may share a table."""
    held = collections.defaultdict(list)
    for run in runs:
        held[_section_key(run)].append(run)
    return [Section(group, index) for index, group in enumerate(held.values(), 1)]


def notes(runs):
    """Returns a list of str, the notes of the runs without repetition."""
    return [note for note in dict.fromkeys(run.note for run in runs) if note]


def _candidates(path):
    """Lists a path's files, with whether each must be a result, and folders not evaluated yet."""
    if not path.is_dir():
        return [(path, True)], []
    if (path / RESULT).is_file():
        return [(path / RESULT, True)], []
    below = [file for level in ("*", "*/*") for file in sorted(path.glob(f"{level}/{RESULT}"))]
    begun = [path / "flags.json"]
    begun += [file for level in ("*", "*/*") for file in sorted(path.glob(f"{level}/flags.json"))]
    missing = [
        f"{file.parent} has not been evaluated: python -m dah_tf.evaluate --workdir={file.parent}"
        for file in begun
        if file.is_file() and not (file.parent / RESULT).exists() and _shown(file, path)
    ]
    found = [(file, True) for file in below if _shown(file, path)]
    found += [(file, False) for file in sorted(path.glob("*.json")) if _shown(file, path)]
    return found, missing


def _shown(file, root):
    return not any(part.startswith(".") for part in file.relative_to(root).parts)


def _read(file, sure):
    """Returns a `Run`, or None for JSON that is not a result, if it did not have to be one."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    if not isinstance(result, dict) or not {"map", "bit_balance", "top_curve"} & set(result):
        if sure:
            raise UserError(f"{file} is not a result: it contains no measures")
        return None
    folder = file.parent
    if file.name != RESULT and not (folder / "flags.json").exists():
        folder = None
    flags = _flags(result, folder)
    return Run(file, folder, result, flags, naming.settings(flags, get(result, "mirror")))


def _flags(result, folder):
    flags = get(result, "run", "flags")
    if flags is None and folder:
        try:
            flags = get(json.loads((folder / "flags.json").read_text()), "flags")
        except (OSError, ValueError, RecursionError):
            flags = None  # The result is sufficient without them.
    return flags if isinstance(flags, dict) else {}


def _without_copies(runs):
    """Keeps one run of each result, because a copy would be counted as a second seed."""
    kept, notes = {}, []
    for run in sorted(runs, key=lambda run: run.folder is None):
        key = json.dumps(run.result, sort_keys=True)
        first = kept.setdefault(key, run)
        if first.path.resolve() != run.path.resolve():
            notes.append(f"{run.path} is a copy of {first.path} and is counted once")
    return list(kept.values()), notes


def _section_key(run):
    result = run.result
    data = text(result, "data", "fingerprint") or text(result, "run", "note")
    parts = [text(result, "data", "name"), data]
    parts += [text(result, "protocol", "name"), text(result, "protocol", "checksum")]
    parts += [text(result, "queries"), text(result, "database")]
    return tuple(part or "" for part in parts)


def _order(run):
    """Sorts methods by name, such that `epochs=10` comes after `epochs=9`."""
    parts = re.split(r"(\d+)", run.method)
    method = [int(part) if index % 2 else part for index, part in enumerate(parts)]
    return method, run.bits or 0, run.seed or 0, str(run.path)
