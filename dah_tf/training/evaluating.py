"""This module evaluates the model of a run.

It uses the protocol and the data of the run, or other data and another protocol.
"""

import os
import pathlib

from dah_tf import pretrained
from dah_tf.data.dataset import Dataset
from dah_tf.errors import UserError
from dah_tf.runs import workspace


def evaluate(
    run: str | os.PathLike | workspace.HasFolder,
    data: Dataset | None = None,
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    protocol: str | None = None,
    mirror: bool | None = None,
    encoding_time: bool = False,
) -> dict:
    """Measures the retrieval quality of a run's model, without writing anything.

    Args:
        run: path of the run's folder, "pretrained:NAME", or the object that `train` returned.
        data: `data.Dataset`. None loads `dataset`, or if that is None too, the data that the
            run was trained on.
        dataset: text as for `load_data`, which replaces the data set of the run.
        data_dir: the folder of TensorFlow Datasets, which replaces that of the run.
        protocol: name of a protocol, which replaces that of the run.
        mirror: whether codes are computed from each image and its mirror image. None uses the
            setting of the run.
        encoding_time: whether to time the encoding too.

    Returns:
        Dict with the contents of `evaluation.json`, which
        `dah_tf.evaluation.retrieval.evaluate` describes.

    Raises:
        UserError: there is no such run or data, the data has other classes, or the run or one
            that it started from was trained on some of the queries.

    Example:
        >>> evaluate("runs/digits")["map"]["expected"] > 0.3
        True
    """
    return _measured(run, data, dataset, data_dir, protocol, mirror, encoding_time)[0]


def write(run, *, output: str | None = None, note: str | None = None, data=None, **about):
    """Evaluates a run and writes the result and some retrieval examples.

    Args:
        run, data, **about: the same as in `evaluate`.
        output: path of the result. None stands for `evaluation.json` in the run's folder. Only
            an evaluation on the run's own data and protocol may replace that file.
        note: a text that is stored with the figures. None uses the note of the run.

    Returns:
        The result, and the `pathlib.Path` of its file.

    Raises:
        UserError: for the same reasons as in `evaluate`, or because other figures would replace
            those of the run, or because the file cannot be written.
    """
    from dah_tf.evaluation import measure

    name = getattr(run, "folder", run)
    own = workspace.read_recipe(pretrained.folder(name))
    others = [
        key
        for key in ("dataset", "protocol", "mirror")
        if about.get(key) not in (None, getattr(own, key))
    ]
    if not output and (others or pretrained.is_name(name) or data is not None):
        raise UserError(
            f"the result would replace that of {name}; name another file: output=FILE.json"
        )
    result, pictures, changed = _measured(run, data, **about)
    if changed and not output:
        raise UserError(
            f"{result['data']['name']} has changed since {name} was trained, and the result would "
            "replace that of the run; name another file: output=FILE.json"
        )
    if note is not None:
        result["run"]["note"] = note
    path = pathlib.Path(output or pathlib.Path(name) / "evaluation.json")
    mine = path.name == "evaluation.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        examples = "examples.npz" if mine else f"{path.stem}.examples.npz"
        measure.write_examples(path.with_name(examples), pictures)
        workspace.write_json(path, result)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another output") from error
    return result, path


def _measured(
    run, data=None, dataset=None, data_dir=None, protocol=None, mirror=None, encoding_time=False
):
    """Returns the result, retrieval examples, and whether the run's data has changed since."""
    from dah_tf.evaluation import measure
    from dah_tf.machine import devices
    from dah_tf.training import build, lineage

    name = getattr(run, "folder", run)
    folder = pretrained.folder(name)
    own, facts = workspace.read_recipe(folder), workspace.read_data_facts(folder)
    named = dataset not in (None, own.dataset) or data is not None
    recipe = own.replace(
        dataset=dataset or own.dataset,
        data_dir=data_dir or own.data_dir,
        protocol=protocol or own.protocol,
        mirror=own.mirror if mirror is None else mirror,
        image_size=facts["image_size"],
        channels=facts["channels"],
    )
    model, step = build.load_run(folder)
    if data is not None:
        recipe = recipe.replace(dataset=data.name)
    loaded = build.load_data(recipe) if data is None else data
    workspace.check_classes(loaded, facts)
    changed = loaded.fingerprint != facts["fingerprint"] and not named
    if changed and own.protocol != "full":
        raise UserError(
            f"{loaded.name} has changed since the run was trained, and protocol={own.protocol} "
            "would choose other queries, some of them from its training images; restore the data, "
            "train again, or name a dataset of images that were kept apart"
        )
    links = lineage.of(name)
    training = lineage.training_parts(links[0], recipe, loaded)
    if training is None:
        # The validation images of the run were taken from the data of the run.
        recipe = recipe.replace(validation=0)
    chosen = build.make_protocol(recipe, loaded, recipe.protocol)
    if not len(chosen.query):
        raise UserError(f"protocol={chosen.name} has no queries in {loaded.name}; choose another")
    others = links[1:] if chosen.name == own.protocol else links
    lineage.check(others, recipe, loaded, chosen, str(name))
    # `trained` lists the classes that the classifier knows. None stands for those that the
    # protocol trains.
    trained = None
    if training is None:  # The images that the run was trained on are not known here.
        trained = [] if own.protocol == "unseen" else range(loaded.num_classes)
    elif chosen.name != own.protocol:
        trained = loaded.labels[training.train]
    result, pictures = measure.evaluate(model, loaded, chosen, recipe.mirror, trained)
    result["run"] = workspace.run_facts(folder, step)
    if pretrained.is_name(name):
        result["run"]["name"] = str(name)
    if encoding_time:
        result["encoding"] = measure.encoding_time(model, loaded, chosen.database, recipe.mirror)
        result["encoding"]["hardware"] = devices.hardware()
    return result, pictures, changed
