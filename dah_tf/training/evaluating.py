"""A run's model under its own protocol, or on other data and another protocol."""

import pathlib

from dah_tf import pretrained
from dah_tf.errors import UserError
from dah_tf.runs import workspace


def evaluate(
    run,
    data=None,
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    protocol: str | None = None,
    mirror: bool | None = None,
    encoding_time: bool = False,
) -> dict:
    """Retrieval quality of a run's model. Nothing is written.

    Args:
        run: path of the run's folder, "pretrained:NAME", or what `train` returned.
        data: `data.Dataset`; None loads what the run was trained on, or `dataset`.
        dataset: text as of `load_data`, in place of the run's.
        data_dir: the folder of TensorFlow Datasets, in place of the run's.
        protocol: name of a protocol, in place of the run's.
        mirror: whether codes come from each image and its mirror image; None: as the run's.
        encoding_time: whether to time the encoding too.

    Returns:
        Dict as `evaluation.json` holds it, see `dah_tf.evaluation.retrieval.evaluate`.

    Raises:
        UserError: no such run or data, other classes, or queries that the run, or one that it
            started from, was trained on.

    Example:
        >>> evaluate("runs/digits-compact-36")["map"]["expected"]
    """
    return _measured(run, data, dataset, data_dir, protocol, mirror, encoding_time)[0]


def write(run, *, output: str | None = None, note: str | None = None, data=None, **about):
    """Evaluates a run and writes the result, with retrieval examples beside it.

    Args:
        run, data, **about: as in `evaluate`.
        output: path of the result; None is `evaluation.json` in the run's folder, which only the
            run's own figures may replace.
        note: a text beside the figures; None is the run's.

    Returns:
        The result, and the `pathlib.Path` of its file.

    Raises:
        UserError: as `evaluate`; the run keeps its own figures; the file cannot be written.
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
        raise UserError(f"{name} keeps its own figures; name a file: output=FILE.json")
    result, pictures, changed = _measured(run, data, **about)
    if changed and not output:
        raise UserError(
            f"{result['data']['name']} has changed since {name} was trained, which keeps its own "
            "figures; name a file: output=FILE.json"
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
    """The result, retrieval examples, and whether the run's own data has changed since."""
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
            "would draw other queries, some of them from its training images; restore the data, "
            "train again, or name images kept apart by dataset"
        )
    links = lineage.of(name)
    training = lineage.training_parts(links[0], recipe, loaded)
    if training is None:
        recipe = recipe.replace(validation=0)  # the run's was carved from its own data
    chosen = build.make_protocol(recipe, loaded, recipe.protocol)
    if not len(chosen.query):
        raise UserError(f"protocol={chosen.name} has no queries in {loaded.name}")
    others = links[1:] if chosen.name == own.protocol else links
    lineage.check(others, recipe, loaded, chosen, str(name))
    trained = None  # the classes that the classifier knows: those that the protocol trains
    if training is None:  # on which images the run was trained is not known here
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
