"""A run's folder: what it was begun with, and what its results must say of it.

flags.json  metrics.jsonl  validation.jsonl  events.out.tfevents.*  skipped.txt
checkpoints/  model.keras  evaluation.json  examples.npz  export/1/
"""

import datetime
import json
import pathlib
import types

from dah_tf.errors import UserError
from dah_tf.files import durable

# What may change between the parts of one run.
FREE_FLAGS = {
    "workdir",
    "data_dir",
    "checkpoint_steps",
    "checkpoint_minutes",
    "cache_gib",
    "export",
    "note",
    "describe",
    "json",
    "strategy",
}


# What runs from before a flag were made with.
BEFORE_FLAGS = {"method": "dah"}

# Where things lie on one machine, and how a command answers: no part of a result.
LOCAL_FLAGS = {"workdir", "data_dir", "describe", "json"}


def portable(flags):
    """Flags by which a run can be named elsewhere: of an absolute path only the last part."""
    return {
        name: pathlib.Path(value).name if isinstance(value, str) and value[:1] == "/" else value
        for name, value in flags.items()
    }


def write_json(path, content):
    """Writes JSON aside and renames it, so that a reader never sees half a file."""
    with durable.replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def read_flags(workdir):
    """The flags of a run, as a namespace.

    Raises:
        UserError: `workdir` is None or not a run's folder.
    """
    if not workdir:
        raise UserError("name the run's folder: --workdir=DIR")
    try:
        return types.SimpleNamespace(**_recorded(workdir)["flags"])
    except (KeyError, TypeError) as error:
        raise _damaged(workdir, error) from error


def read_data_facts(workdir):
    """What `record_flags` stored of the data."""
    return _recorded(workdir)["data"]


def read_precision(workdir):
    """The name of the Keras policy that a run was begun with; None where none was begun."""
    begun = (pathlib.Path(workdir) / "flags.json").exists()
    return _recorded(workdir).get("precision") if begun else None


def _recorded(workdir):
    path = pathlib.Path(workdir) / "flags.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{workdir} is no work folder (it has no flags.json); train with --workdir={workdir}"
        ) from None
    except ValueError as error:
        raise _damaged(workdir, error) from error


def _damaged(workdir, error):
    path = pathlib.Path(workdir) / "flags.json"
    return UserError(f"{path} is damaged ({error}); restore it or train anew")


def data_facts(dataset):
    """What a run's folder keeps of its data."""
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
        UserError: they differ.
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


def record_flags(workdir, flags, data, **made):
    """Stores a run's flags, or holds them against those the folder was begun with.

    Args:
        workdir: path; made if missing.
        flags: JSON-able dict.
        data: JSON-able dict, what `build_model` must know of the data, and its fingerprint.
        **made: what came of the flags, kept as it was at first: `steps` of the whole run,
            `images_per_step`, `precision`, the name of a Keras policy, `hardware`, a line, and
            `versions` by package.

    Raises:
        UserError: flags that matter differ; nothing was written.
    """
    folder = pathlib.Path(workdir)
    path = folder / "flags.json"
    if path.exists():
        changed = changed_flags(folder, flags)
        content = _recorded(folder)
        if content["data"] != data:
            changed.append("the data itself")
        if changed:
            raise UserError(
                f"{folder} holds a run with other flags: {'; '.join(changed)}; use the same "
                "flags to resume it, or another --workdir"
            )
        if content["flags"].get("note") == flags.get("note"):
            return
        content["flags"]["note"] = flags.get("note")
    else:
        content = {"flags": flags, "data": data, **made}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; choose another --workdir"
        ) from error


def changed_flags(workdir, flags, defaults=()):
    """How flags differ from those that a run's folder was begun with.

    Args:
        workdir: path of the folder.
        flags: dict; flags that are not in it are not compared.
        defaults: dict, the values of flags that the run did not know yet.

    Returns:
        List of str, one a flag that must stay as it was; empty where no run was begun.

    Raises:
        UserError: the folder's flags.json is damaged.
    """
    if not (pathlib.Path(workdir) / "flags.json").exists():
        return []
    old = {**BEFORE_FLAGS, **dict(defaults), **vars(read_flags(workdir))}
    return [
        f"{name} was {old.get(name)!r}, now {value!r}"
        for name, value in flags.items()
        if name not in FREE_FLAGS and old.get(name) != value
    ]


def run_facts(workdir, step=None):
    """What a result must say of the run behind it.

    Args:
        workdir: path of the run's folder.
        step: int, the checkpoint's that is evaluated; None is the run's end.

    Returns:
        JSON-able dict: `name`, `note`, `flags`, `step`, `steps` of the whole run, `epochs`,
        `images_seen`, `seconds` of training, `finished` (UTC), and what the run was begun with:
        `precision`, `hardware`, `versions`.
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
        "flags": {name: flags[name] for name in flags if name not in LOCAL_FLAGS},
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
