"""The folder of a run: the record of its settings, and the facts that its results contain.

A folder has these files:
flags.json  metrics.jsonl  validation.jsonl  events.out.tfevents.*  skipped.txt
checkpoints/  model.keras  evaluation.json  examples.npz  export/1/
"""

import datetime
import json
import pathlib
import typing

from dah_tf.errors import UserError
from dah_tf.files import durable
from dah_tf.runs import recipe as recipes
from dah_tf.runs.recipe import SETTINGS, Recipe

RECORD = "flags.json"


class HasFolder(typing.Protocol):
    """An object with the folder of a run, such as the one that `dah_tf.train` returns."""

    folder: pathlib.Path


def portable(flags):
    """Returns flags without the paths of this machine: absolute paths become their last part."""
    return {
        name: pathlib.Path(value).name if isinstance(value, str) and value[:1] == "/" else value
        for name, value in flags.items()
    }


def write_json(path, content):
    """Writes a JSON file in one step, so that a reader never sees half a file."""
    with durable.replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def is_begun(workdir) -> bool:
    """Says whether a run was begun in a folder."""
    return (pathlib.Path(workdir) / RECORD).exists()


def read_recipe(workdir) -> Recipe:
    """Returns the recipe of a run of any version.

    Raises:
        UserError: `workdir` is None or not the folder of a run.
    """
    if not workdir:
        raise UserError("name the run's folder: workdir=DIR")
    recorded = _recorded(workdir)
    try:
        return recipes.from_record(recorded["flags"])
    except (KeyError, TypeError, UserError) as error:
        raise _damaged(workdir, error) from error


def read_started_from(workdir) -> list[dict]:
    """Returns the runs from which the backbone came, as `training.lineage.of` lists them."""
    return _recorded(workdir).get("started_from", [])


def read_given(workdir) -> dict | None:
    """What a run's recipe did not leave open, as `recipe.closed`; None in runs of version 0.2.0."""
    return _recorded(workdir).get("given")


def read_data_facts(workdir):
    """Returns the facts about the data that `record` stored."""
    return _recorded(workdir)["data"]


def read_precision(workdir):
    """Returns the name of the Keras policy of a run; None if no run was begun in the folder."""
    return _recorded(workdir).get("precision") if is_begun(workdir) else None


def read_versions(workdir) -> dict:
    """The versions, by package, that a run was begun with; none of a run of version 0.2.0."""
    return _recorded(workdir).get("versions", {})


def _recorded(workdir):
    path = pathlib.Path(workdir) / RECORD
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{workdir} is not the folder of a run, because it has no flags.json; "
            f"train with workdir={workdir}"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(workdir, error) from error


def _damaged(workdir, error):
    path = pathlib.Path(workdir) / RECORD
    return UserError(f"{path} is damaged ({error}); restore it or train again")


def data_facts(dataset):
    """Returns the facts about the data that the folder of a run stores."""
    return {
        "num_classes": dataset.num_classes,
        "channels": dataset.images.channels,
        "image_size": dataset.images.size,
        "multi_label": dataset.multi_label,
        "class_names": list(dataset.class_names),
        "fingerprint": dataset.fingerprint,
    }


def check_classes(dataset, facts):
    """Refuses a data set whose classes are not those of the run.

    Raises:
        UserError: the classes differ.
    """
    ours, theirs = list(dataset.class_names), facts["class_names"]
    if ours == theirs:
        return
    differences = [f"lacks class {name}" for name in sorted(set(theirs) - set(ours))[:1]]
    differences += [f"has class {name}" for name in sorted(set(ours) - set(theirs))[:1]]
    raise UserError(
        f"{dataset.name} {' and '.join(differences) or 'has its classes in another order'}, unlike "
        f"the {len(theirs)} classes that the model was trained on; name data of the same classes"
    )


def record(workdir, recipe: Recipe, data, given: Recipe | None = None, **made):
    """Stores the recipe of a run, or updates what may change in a run that was begun.

    Args:
        workdir: path. The folder is made if it is missing.
        recipe: `Recipe` in which everything is decided.
        given: `Recipe` as the user gave it. The record says which settings were not left open.
        data: dict that JSON can hold: what `build_model` must know about the data, and its
            fingerprint.
        **made: further facts, which keep their first values when a run is resumed: `steps` of the
            whole run, `images_per_step`, `precision` (the name of a Keras policy), `hardware` (one
            line), `versions` by package, and `started_from`.

    Raises:
        UserError: the run was begun with other data. Nothing was written.
    """
    folder = pathlib.Path(workdir)
    path = folder / RECORD
    content = {"flags": recipe.as_dict(), "data": data, **made}
    if given is not None:
        content["given"] = recipes.closed(given)
    if path.exists():
        begun = _recorded(folder)
        theirs = begun["data"]
        if any(theirs.get(name, value) != value for name, value in data.items()):
            raise UserError(
                f"{folder} contains a run on other data; name the same data to resume it, or "
                "another workdir"
            )
        if begun["flags"].get("note") == recipe.note:
            return
        begun["flags"]["note"] = recipe.note
        content = begun
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; choose another workdir"
        ) from error


def resumed(workdir, recipe: Recipe) -> Recipe | None:
    """Returns the recipe with which a run continues.

    It is the recorded recipe, with the given values of the settings that may change.

    Args:
        workdir: path of the run's folder.
        recipe: `Recipe` as the user gave it.

    Returns:
        `Recipe`, or None if no run was begun in the folder.

    Raises:
        UserError: a setting that must not change has another value, or the record is damaged.
    """
    if not is_begun(workdir):
        return None
    begun = read_recipe(workdir)
    changed = recipes.differences(recipe, begun)
    if changed:
        raise UserError(
            f"{workdir} contains a run with other settings: {'; '.join(changed)}; use the same "
            "settings to resume it, or another workdir"
        )
    free = {name: getattr(recipe, name) for name, each in SETTINGS.items() if each.free}
    return begun.replace(**free)


def check_left_open(workdir, recipe: Recipe):
    """Refuses a recipe that leaves a setting open which was given when the run was begun.

    `resumed` allows this. In a sweep, however, the runs are compared with each other, so that a
    finished run counts only if its recipe left the same settings open. Runs of version 0.2.0 are
    not checked.

    Args:
        workdir: path of the run's folder. A folder without a run is not checked.
        recipe: `Recipe` as the user gave it.

    Raises:
        UserError: a setting was given then and is not given now, or the record is damaged.
    """
    given = read_given(workdir) if is_begun(workdir) else None
    now = recipes.closed(recipe)
    missing = [
        f"{name} was {value}, now left out"
        for name, value in (given or {}).items()
        if name not in now
    ]
    if missing:
        raise UserError(
            f"{workdir} contains a run with other settings: {'; '.join(missing)}; use the same "
            "settings, or another folder"
        )


def run_facts(workdir, step=None):
    """Returns the facts about a run that its result must contain.

    Args:
        workdir: path of the run's folder.
        step: int, the step of the checkpoint that is evaluated; None is the end of the run.

    Returns:
        Dict that JSON can hold: `name`, `note`, `flags`, `step`, `steps` of the whole run,
        `epochs`, `images_seen`, `seconds` of training, `finished` (UTC), and `precision`,
        `hardware` and `versions` from the start of the run.
    """
    from dah_tf.runs import runlog

    folder = pathlib.Path(workdir)
    content = _recorded(folder)
    flags, last = content["flags"], runlog.last_record(folder / "metrics.jsonl", step)
    step, images = last.get("step", 0), content.get("images_per_step")
    finished = datetime.datetime.fromtimestamp(last.get("time", 0), datetime.UTC)
    return {
        "name": folder.resolve().name,
        "note": flags.get("note", ""),
        "flags": {
            name: value
            for name, value in flags.items()
            if not (name in SETTINGS and SETTINGS[name].local) and name not in ("describe", "json")
        },
        "step": step,
        "steps": content.get("steps"),
        "epochs": flags["epochs"],
        "images_seen": None if images is None else step * images,
        "seconds": last.get("seconds"),
        "finished": finished.isoformat(timespec="seconds") if last else None,
        "precision": content.get("precision"),
        "hardware": content.get("hardware"),
        "versions": content.get("versions", {}),
    }
