"""This module does a whole training run, with data, model, loop, evaluation and export."""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import textwrap
import threading
import time
import typing
from collections.abc import Callable, Sequence

import numpy as np

from dah_tf import pretrained
from dah_tf.data.dataset import Dataset
from dah_tf.errors import UserError
from dah_tf.runs.recipe import Recipe
from dah_tf.training import fitted, planning

if typing.TYPE_CHECKING:
    from dah_tf.model import HashModel


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """Holds what `train` returns.

    Attributes:
        folder: `pathlib.Path` of the run's folder.
        recipe: `Recipe` with everything decided.
        model: `HashModel` in float32, or None if the run was stopped before its end.
        result: dict with the contents of `evaluation.json`. It is empty if nothing was
            evaluated.
    """

    folder: pathlib.Path
    recipe: Recipe
    model: "HashModel | None"
    result: dict

    @property
    def history(self) -> dict:
        """Returns a dict of name to float64 array with every logged value.

        The arrays have one entry for each step, which is NaN if the value is not known.
        """
        from dah_tf.runs import runlog

        return runlog.history(self.folder / "metrics.jsonl")


def train(
    recipe: Recipe,
    data: Dataset | None = None,
    *,
    watch: Sequence[Callable] = (),
    stop_on_sigterm: bool = False,
    say: Callable[[str], None] = print,
) -> TrainedRun:
    """Trains, evaluates and exports a model.

    If the run's folder has a checkpoint, training resumes from it. The function works in a
    script, in a notebook and in a thread. It sets a signal handler only if it is asked to, and it
    leaves the global precision policy and random state as they were.

    Args:
        recipe: `Recipe`.
        data: `data.Dataset`, such as `load_data` returns, that is used in place of the one that
            the recipe names.
        watch: functions of a step's number and its dict of logged values, or Keras callbacks. Of
            a callback, `on_train_begin`, `on_train_batch_end` and `on_train_end` are called.
        stop_on_sigterm: whether SIGTERM saves the state and ends the run. This works only in
            the main thread.
        say: function that takes a line of text. The lines tell what is about to happen and what
            the results are.

    Returns:
        `TrainedRun`.

    Raises:
        UserError: the settings, the data or the disk are at fault, or the run diverged. If a
            setting is at fault, the message begins with its name.

    Example:
        >>> small = "compact:widths=8/16/16"
        >>> recipe = Recipe(dataset="digits", bits=16, backbone=small, epochs=1.0, export=False)
        >>> run = train(recipe, say=lambda line: None)
        >>> run.result["map"]["expected"] > 0.3, run.folder.is_dir()
        (True, True)
    """
    from dah_tf.machine import backend
    from dah_tf.runs import runlog

    backend.check()
    if stop_on_sigterm and threading.current_thread() is not threading.main_thread():
        raise UserError("stop_on_sigterm=True needs the main thread, which alone gets signals")
    # This refuses a bad text before anything is read.
    planning.sizes_of(recipe.train_sizes, 1, None)
    recipe = fitted.with_features(recipe)
    if data is not None:
        recipe = recipe.replace(dataset=data.name)
    workdir = recipe.workdir or default_workdir(recipe)
    if pretrained.is_name(workdir):
        raise UserError(f"workdir={workdir} is a ready-made model; name the folder of a new run")
    recipe = recipe.replace(workdir=str(workdir))
    begun = time.monotonic()
    with runlog.Lock(workdir) as held, planning.undisturbed(recipe.seed):
        return _train(recipe, data, held, watch, stop_on_sigterm, say, begun)


def _train(given, data, held, watch, stop_on_sigterm, say, clock):
    from dah_tf.files import durable
    from dah_tf.runs import runlog, workspace
    from dah_tf.terminal import progress
    from dah_tf.training import budget, build, checkpoint, described, lineage, loop

    build.check_parts(given)
    workdir = pathlib.Path(given.workdir)
    recipe = workspace.resumed(workdir, given)
    strategy = loop.strategy(given.strategy)
    precision = set_precision(workspace.read_precision(workdir) or given.precision)
    try:
        dataset = build.load_data(recipe or given) if data is None else data
    except UserError as error:
        write_skipped(workdir, getattr(error, "skipped", ()), say)
        raise
    protocol = build.make_protocol(given, dataset, (recipe or given).protocol)
    if recipe is None:
        if given.minutes and given.epochs:
            raise UserError("minutes and epochs exclude each other; leave one out")
        recipe = planning.decided(given, dataset, protocol)
    facts = workspace.data_facts(dataset) | {"checksum": protocol.checksum}
    write_skipped(workdir, dataset.skipped, say)
    started_from = []
    begun = bool(checkpoint.files(workdir / "checkpoints"))
    if build.is_run(recipe.backbone_weights) and not begun:
        started_from = lineage.of(recipe.backbone_weights)
        lineage.check(
            started_from, recipe, dataset, protocol, f"backbone_weights={recipe.backbone_weights}"
        )

    plan = planning.make_plan(recipe, dataset, protocol)
    replicas = strategy.num_replicas_in_sync if strategy else 1
    if recipe.groups % replicas:
        raise UserError(f"groups={recipe.groups} must be a multiple of the {replicas} devices")

    def make(recipe):
        return planning.made(recipe, dataset, protocol, plan, facts, strategy, begun)

    if given.minutes and not workspace.is_begun(workdir):
        say(f"a rehearsal measures how many epochs fit into {given.minutes:g} minutes")
        recipe = budget.within(given, recipe, dataset, protocol, plan, make, strategy, clock)
        left = 60 * given.minutes - (time.monotonic() - clock)
        end = time.strftime("%H:%M", time.localtime(time.time() + left))
        images = recipe.epochs * plan.steps_per_epoch * recipe.groups * plan.group_size
        shown = f"{recipe.epochs:g} epochs, {images:,.0f} images, until about {end}"
        say(f"minutes   {given.minutes:g}: {shown}")
    model = make(recipe)
    settings = planning.settings_of(recipe, dataset, plan)
    steps = settings.steps
    images_per_step = recipe.groups * plan.group_size
    if model.method.one_fit:
        images_per_step = len(protocol.train)
    workspace.record(
        workdir,
        recipe,
        facts,
        given,
        steps=steps,
        images_per_step=images_per_step,
        precision=precision,
        started_from=started_from,
        **surroundings(),
    )
    announce(recipe, dataset, protocol, model, plan, steps, precision, replicas, say)
    validate = make_validator(recipe, dataset, protocol)
    with writing(workdir):
        run = loop.of(model.method)(
            model,
            plan,
            dataset.images,
            settings,
            log=lambda step: runlog.RunLog(workdir, resume_step=step, lock=held),
            progress=lambda step: progress.Progress(
                steps, images_per_step, start_step=step, work=work_of(settings)
            ),
            validate=validate,
            strategy=strategy,
            watch=watch,
            stop_on_sigterm=stop_on_sigterm,
        )
        run.log.hparams(recipe.as_dict(), {})
    if run.step:
        say(f"the run resumes at step {run.step:,} of {steps:,}")
    run.advice = slow_advice(recipe)
    run.describe = lambda: described.features(model, dataset)
    start = time.time()
    try:
        run.fit()
    except loop.Stopped:
        say(f"the run was stopped at step {run.step:,}; the same command resumes it from {workdir}")
        run.log.close()
        return TrainedRun(workdir, recipe, None, {})
    trained = time.time() - start
    model = model.in_float32()
    path = workdir / "model.keras"
    temporary = path.with_name(".model.tmp.keras")
    with keeping(workdir):
        model.save(temporary)
        durable.sync(temporary)
        temporary.replace(path)
        durable.sync(path.parent)
    say(f"the run was trained to step {steps:,} ({trained / 60:.1f} min in this part); {path}")
    result = finish(recipe, model, dataset, protocol, run.log, facts, say)
    with keeping(workdir):
        run.log.close()
    return TrainedRun(workdir, recipe, model, result)


def surroundings():
    """Returns a dict that describes the machine and the packages of a run.

    `hardware` is a line of text, and `versions` is a dict of package name to version.
    """
    import keras

    from dah_tf import __version__
    from dah_tf.machine import devices

    versions = {"dah_tf": __version__, "python": platform.python_version()}
    for name in ("keras", "numpy", keras.backend.backend()):
        versions[name] = importlib.metadata.version(name)
    return {"hardware": devices.hardware(), "versions": versions}


@contextlib.contextmanager
def writing(workdir):
    """Turns the error of a full or broken disk into a message of one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {workdir} ({error.strerror or error}); free space and run the same "
            "command"
        ) from error


@contextlib.contextmanager
def keeping(workdir):
    """Does the same as `writing` at the end of a run, when a checkpoint holds all of its work."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {workdir} ({error.strerror or error}); the run is trained to its end "
            "and kept in its checkpoint: free space and run the same command"
        ) from error


def finish(recipe, model, dataset, protocol, log, facts, say) -> dict:
    """Evaluates under the protocol, writes the result and the SavedModel, and reports both."""
    import keras

    from dah_tf.evaluation import measure, retrieval
    from dah_tf.runs import workspace
    from dah_tf.training import described

    folder = pathlib.Path(recipe.workdir)
    result = {}
    if recipe.evaluate and len(protocol.query):
        known = described.features(model, dataset) if model.method.one_fit else None
        result, pictures = measure.evaluate(
            model, dataset, protocol, recipe.mirror, described=known
        )
        result["run"] = workspace.run_facts(folder)
        with keeping(folder):
            measure.write_examples(folder / "examples.npz", pictures)
            workspace.write_json(folder / "evaluation.json", result)
            log.hparams(recipe.as_dict(), {"map": result["map"]["expected"]})
        say(retrieval.table(result))
    if recipe.export and keras.backend.backend() != "tensorflow":
        say(f"the run can be exported under TensorFlow: python -m dah_tf.export --workdir={folder}")
    elif recipe.export and not (folder / "export" / "1").exists():
        from dah_tf.exporting import export

        export.save(
            model,
            folder / "export" / "1",
            flags=recipe.as_dict(),
            metrics=result,
            class_names=facts["class_names"],
            mirror=recipe.mirror,
        )
        say(f"the SavedModel turns image bytes into packed codes: {folder / 'export' / '1'}")
    return result


def default_workdir(recipe: Recipe) -> str:
    """Returns `runs/DATASET-BACKBONE-BITS`, with the method's name if it is not dah."""
    name = recipe.dataset.replace(":", "-").replace("/", "-").strip("-.")
    method = recipe.part("method").name if recipe.method else "dah"
    words = [name, recipe.part("backbone").name, str(recipe.bits)]
    return "runs/" + "-".join(words if method == "dah" else [*words, method])


def set_precision(name):
    """Sets the global precision policy of Keras.

    "auto" stands for mixed bfloat16 if the hardware multiplies bfloat16 quickly, and for float32
    otherwise.

    Returns:
        str, the name of the policy.
    """
    import keras

    from dah_tf.machine import devices

    if name == "auto":
        name = "mixed_bfloat16" if devices.bfloat16_is_fast() else "float32"
    keras.config.set_dtype_policy(name)
    return name


def work_of(settings):
    """Makes a function that returns the work of all steps up to a given step.

    The work of a step is proportional to the number of pixels in an image.
    """
    from dah_tf.training import loop

    parts = [(first, last, size**2) for first, last, size, _ in loop.phases(settings)]

    def work(step):
        return sum(max(0, min(step, last) - first) * pixels for first, last, pixels in parts)

    return work


def write_skipped(workdir, skipped, say):
    """Lists the files that could not be read in `skipped.txt`, and reports their number."""
    if skipped:
        path = pathlib.Path(workdir) / "skipped.txt"
        lines = [f"{name}\t{reason}\n" for name, reason in skipped]
        with writing(workdir):
            path.write_bytes(os.fsencode("".join(lines)))
        count = len(skipped)
        say(
            f"{count} unreadable {'file was' if count == 1 else 'files were'} skipped; {path} lists them"
        )


def make_validator(recipe, dataset, protocol):
    """Makes the function that validates a run, or returns None without validation images.

    The function measures the MAP of the validation images against up to 10,000 training images.
    """
    from dah_tf.gallery import examples
    from dah_tf.training import loop

    if not len(protocol.validation) or not recipe.validate_epochs:
        return None
    train = np.asarray(protocol.train)
    rows = np.random.default_rng([recipe.seed, 7]).permutation(len(train))[: planning.VALIDATED]
    return loop.validator(
        dataset.images,
        dataset.labels,
        protocol.validation,
        np.sort(train[rows]),
        examples.picture,
        recipe.mirror,
    )


def announce(recipe, dataset, protocol, model, plan, steps, precision, replicas, say):
    """Tells what is about to happen, what the data holds, and what in it would spoil a run."""
    import keras

    from dah_tf.data import summary
    from dah_tf.machine import devices
    from dah_tf.runs import presets, workspace

    size, channels = dataset.images.size, dataset.images.channels
    count = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    data = f"{dataset.num_classes} classes" if dataset.labelled else "unlabelled"
    data += f", {size}x{size}x{channels} ({dataset.fingerprint})"
    parts = f"{len(protocol.train):,} training, {len(protocol.validation):,} validation"
    parts += f", {len(protocol.query):,} query, {len(protocol.database):,} database images"
    given = workspace.read_given(recipe.workdir)
    # A run of version 0.2.0 does not record what the user left open.
    chosen = recipe.recipe if given is None else presets.told(recipe, given)
    shown = f"{steps:,} of {recipe.groups} groups x {plan.group_size} images"
    lines = [
        ("optimizer", f"{recipe.optimizer} at {recipe.learning_rate:g}"),
        *zip(itertools.chain(["recipe"], itertools.repeat("")), textwrap.wrap(chosen, 110)),
        ("steps", f"{shown} ({recipe.epochs:g} epochs)"),
    ]
    if model.method.one_fit:
        lines = [("recipe", f"{recipe.recipe}: one fit to {len(protocol.train):,} images")]
    rows = [
        ("data", f"{dataset.name}: {data}"),
        ("protocol", f"{protocol.name} ({protocol.checksum}): {parts}"),
        ("network", f"{recipe.backbone}, {recipe.bits} bits, {count:,} trainable parameters"),
        ("method", f"{model.method.title}: {model.method}"),
        *lines,
        ("device", f"{devices.name()} x {replicas}, {precision}, {keras.backend.backend()}"),
        ("folder", recipe.workdir),
    ]
    for name, value in rows:
        say(f"{name:<10}{value}")
    facts, warnings = summary.describe(dataset, protocol)
    for line in [*facts, *(f"warning: {each}" for each in warnings)]:
        say(line)


def slow_advice(recipe):
    """Returns advice that is shown if a run turns out to take hours on a CPU, or None."""
    from dah_tf.machine import devices
    from dah_tf.model import backbones

    return None if devices.accelerators() else backbones.facts(recipe.backbone).advice


def describe(recipe: Recipe, as_json: bool = False) -> str:
    """Describes the network of a recipe.

    It uses the classes, the channels and the image size of the data set, without its images.

    Returns:
        str, a table or JSON.

    Raises:
        UserError: there is no such data or part, or the network would shrink the images to
            nothing.
    """
    from dah_tf import data
    from dah_tf.model import describe as description
    from dah_tf.training import build

    build.check_parts(recipe)
    outline = data.outline(
        recipe.dataset,
        image_size=recipe.image_size,
        channels=recipe.channels,
        data_dir=recipe.data_dir,
    )
    open_settings = {"method": recipe.method or "dah", "cutout": 0, "mirror": False}
    model = build.build_model(
        recipe.replace(**open_settings), **dataclasses.asdict(outline), weights=False
    )
    build.check_size(model.backbone, outline.image_size)
    result = description.describe(model)
    return json.dumps(result, indent=1) if as_json else description.table(result)
