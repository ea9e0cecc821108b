"""A whole training run from its flags: data, model, loop, evaluation, export."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import time

import numpy as np

from dah_tf import pretrained
from dah_tf.errors import UserError


def train(options):
    """Trains, evaluates and exports; resumes where the work folder has a checkpoint.

    Args:
        options: namespace of the flags of `dah_tf.train`.

    Returns:
        int, the process' exit code.

    Raises:
        UserError: flags, data or disk; the run diverged.
    """
    from dah_tf.runs import runlog

    for name, value in vars(options).items():
        if isinstance(value, float) and not np.isfinite(value):
            raise UserError(f"--{name}={value} is no finite number")
    sizes_of(options.train_sizes, 1, None)
    options.workdir = options.workdir or default_workdir(options)
    if pretrained.is_name(options.workdir):
        raise UserError(f"{options.workdir} is trained already; name a folder: --workdir=DIR")
    with runlog.Lock(options.workdir) as held:
        return _train(options, held)


def _train(options, held):
    import keras

    from dah_tf.files import durable
    from dah_tf.runs import runlog, workspace
    from dah_tf.terminal import progress
    from dah_tf.training import build, checkpoint, loop

    flags = dict(sorted(vars(options).items()))
    keras.utils.set_random_seed(options.seed)
    strategy = loop.strategy(options.strategy)
    precision = set_precision(workspace.read_precision(options.workdir) or options.precision)

    dataset, protocol = build.open_data(options)
    facts = workspace.data_facts(dataset)
    plan = make_plan(options, dataset, protocol)
    steps = max(1, round(options.epochs * plan.steps_per_epoch))
    replicas = strategy.num_replicas_in_sync if strategy else 1
    if options.groups % replicas:
        raise UserError(f"--groups={options.groups} cannot be split over {replicas} devices")

    begun = bool(checkpoint.files(pathlib.Path(options.workdir) / "checkpoints"))
    if not begun:
        build.check_backbone(options, dataset, protocol)
    with scope(strategy):
        model = build.build_model(
            options,
            **{k: facts[k] for k in ["num_classes", "channels", "image_size", "multi_label"]},
            weights=not begun,
        )
        sizes = sizes_of(options.train_sizes, steps, dataset.images.size)
        build.check_size(model.backbone, min(size for size, _ in sizes))
        build.check_needs(model, plan, replicas)
        if options.backbone_weights == "none" and not begun:
            prepare_stem(model, dataset, protocol.train)
        build.compile_model(model, options, steps)
    images_per_step = options.groups * plan.group_size
    workspace.record_flags(
        options.workdir,
        flags,
        facts,
        steps=steps,
        images_per_step=images_per_step,
        precision=precision,
        **surroundings(),
    )
    with writing(options.workdir):
        report_skipped(options.workdir, dataset)

    settings = loop.Settings(
        workdir=options.workdir,
        steps=steps,
        sizes=sizes,
        frozen_steps=round(options.freeze_epochs * plan.steps_per_epoch),
        checkpoint_steps=options.checkpoint_steps,
        checkpoint_minutes=options.checkpoint_minutes,
        validate_steps=round(options.validate_epochs * plan.steps_per_epoch),
    )
    announce(options, dataset, protocol, model, plan, steps, precision, replicas)
    validate = make_validator(options, dataset, protocol)
    with writing(options.workdir):
        run = loop.of(model.method)(
            model,
            plan,
            dataset.images,
            settings,
            log=lambda step: runlog.RunLog(options.workdir, resume_step=step, lock=held),
            progress=lambda step: progress.Progress(
                steps, images_per_step, start_step=step, work=work_of(settings)
            ),
            validate=validate,
            strategy=strategy,
        )
        run.log.hparams(flags, {})
    if run.step:
        print(f"resuming at step {run.step:,} of {steps:,}")
    run.advice = slow_advice(options)
    start = time.time()
    try:
        run.fit()
    except loop.Stopped:
        print(f"stopped at step {run.step:,}; the same command resumes it from {options.workdir}")
        return 0
    trained = time.time() - start
    model = model.in_float32()
    path = pathlib.Path(options.workdir) / "model.keras"
    temporary = path.with_name(".model.tmp.keras")
    try:
        model.save(temporary)
        durable.sync(temporary)
        temporary.replace(path)
        durable.sync(path.parent)
        print(f"trained to step {steps:,} ({trained / 60:.1f} min in this part); {path}")
        finish(options, flags, model, dataset, protocol, run.log, facts)
        run.log.close()
    except OSError as error:
        raise UserError(
            f"cannot write to {options.workdir} ({error.strerror or error}); the run is trained to "
            "its end and kept in its checkpoint: free space and run the same command"
        ) from error
    return 0


def surroundings():
    """What a run is made with: a dict of `hardware`, a line, and `versions` by package."""
    import keras

    from dah_tf import __version__
    from dah_tf.machine import devices

    versions = {"dah_tf": __version__, "python": platform.python_version()}
    for name in ("keras", "numpy", keras.backend.backend()):
        versions[name] = importlib.metadata.version(name)
    return {"hardware": devices.hardware(), "versions": versions}


@contextlib.contextmanager
def writing(workdir):
    """Turns a full or broken disk into one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {workdir} ({error.strerror or error}); free space and run the same "
            "command"
        ) from error


def finish(options, flags, model, dataset, protocol, log, facts):
    """Evaluates under the protocol, writes the result and the SavedModel, and says so."""
    import keras

    from dah_tf.evaluation import measure, retrieval
    from dah_tf.runs import workspace

    folder = pathlib.Path(options.workdir)
    result = {}
    if len(protocol.query):
        result, pictures = measure.evaluate(model, dataset, protocol, options.mirror)
        result["run"] = workspace.run_facts(folder)
        measure.write_examples(folder / "examples.npz", pictures)
        workspace.write_json(folder / "evaluation.json", result)
        print(retrieval.table(result))
        log.hparams(flags, {"map": result["map"]["expected"]})
    if options.export and keras.backend.backend() != "tensorflow":
        print(f"export it under TensorFlow: python -m dah_tf.export --workdir={folder}")
    elif options.export and not (folder / "export" / "1").exists():
        from dah_tf.exporting import export

        export.save(
            model,
            folder / "export" / "1",
            flags=flags,
            metrics=result,
            class_names=facts["class_names"],
            mirror=options.mirror,
        )
        print(f"SavedModel: {folder / 'export' / '1'} (image bytes to packed codes)")


def default_workdir(options):
    """`runs/DATASET-BACKBONE-BITS`."""
    name = options.dataset.replace(":", "-").replace("/", "-").strip("-.")
    return f"runs/{name}-{options.backbone}-{options.bits}"


def set_precision(name):
    """Sets Keras' global policy; "auto" is bfloat16 where the hardware multiplies it, else float32.

    Returns:
        str, the policy's name.
    """
    import keras

    from dah_tf.machine import devices

    if name == "auto":
        name = "mixed_bfloat16" if devices.bfloat16_is_fast() else "float32"
    keras.config.set_dtype_policy(name)
    return name


def scope(strategy):
    """The strategy's scope; nothing under another back end."""
    return strategy.scope() if strategy else contextlib.nullcontext()


def make_plan(options, dataset, protocol):
    """The plan of groups and augmentation of a run's flags."""
    from dah_tf import data

    size = dataset.images.size
    if options.cutout >= size:
        raise UserError(
            f"--cutout={options.cutout} would cover images of {size} pixels; lower it, such as to "
            f"{size // 4}"
        )
    classes = options.classes_per_group or min(dataset.num_classes, 100)
    return data.GroupPlan(
        dataset.labels[protocol.train],
        indices=protocol.train,
        seed=options.seed,
        groups=options.groups,
        classes_per_group=classes,
        images_per_class=options.images_per_class,
        flip=options.flip,
        shift=options.shift,
        cutout=options.cutout,
        cutout_epochs=options.cutout_epochs,
        image_size=size,
    )


def sizes_of(text, steps, size):
    """`--train_sizes` as a list of `(image size, first step)`.

    Raises:
        UserError: not SIZE:SHARE,... with shares that sum to 1.
    """
    if not text:
        return [(size, 0)]
    try:
        parts = [(int(a), float(b)) for a, b in (part.split(":") for part in text.split(","))]
    except ValueError:
        parts = []
    shares = [share for _, share in parts]
    # Written so that NaN is refused too.
    whole = abs(sum(shares) - 1.0) <= 1e-6 and all(0.0 <= share <= 1.0 for share in shares)
    if not whole or min(parts)[0] < 8:
        raise UserError(
            f"--train_sizes={text}: give SIZE:SHARE,... with shares that sum to 1, "
            "such as 16:0.5,32:0.5"
        )
    starts = np.cumsum([0.0] + [share for _, share in parts[:-1]])
    return [(each, round(start * steps)) for (each, _), start in zip(parts, starts, strict=True)]


def work_of(settings):
    """The work of the steps up to one, taken as the pixels that they see."""
    from dah_tf.training import loop

    parts = [(first, last, size**2) for first, last, size, _ in loop.phases(settings)]

    def work(step):
        return sum(max(0, min(step, last) - first) * pixels for first, last, pixels in parts)

    return work


def prepare_stem(model, dataset, train):
    """Sets the frozen stem of `compact` from up to 5,000 training images."""
    from dah_tf.model import backbones

    rows = np.asarray(train)[np.linspace(0, len(train) - 1, min(len(train), 5000)).astype(int)]
    backbones.whiten(model.backbone, dataset.images.read(rows))


def report_skipped(workdir, dataset):
    """Writes the unreadable files and says how many there are."""
    if dataset.skipped:
        path = pathlib.Path(workdir) / "skipped.txt"
        lines = [f"{name}\t{reason}\n" for name, reason in dataset.skipped]
        path.write_bytes(os.fsencode("".join(lines)))
        count = len(dataset.skipped)
        print(f"{count} unreadable {'file' if count == 1 else 'files'} skipped, listed in {path}")


def make_validator(options, dataset, protocol):
    """MAP of the validation images against up to 10,000 training images; None without any."""
    from dah_tf.runs import runlog
    from dah_tf.training import loop

    if not len(protocol.validation) or not options.validate_epochs:
        return None
    train = np.asarray(protocol.train)
    rows = np.random.default_rng([options.seed, 7]).permutation(len(train))[:10_000]
    return loop.validator(
        dataset.images,
        dataset.labels,
        protocol.validation,
        np.sort(train[rows]),
        runlog.example_sheet,
        options.mirror,
    )


def announce(options, dataset, protocol, model, plan, steps, precision, replicas):
    """Prints what is about to happen."""
    import keras

    from dah_tf.machine import devices

    size, channels = dataset.images.size, dataset.images.channels
    count = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    rows = [
        (
            "data",
            (
                f"{dataset.name}: {dataset.num_classes} classes, {size}x{size}x{channels} "
                f"({dataset.fingerprint})"
            ),
        ),
        (
            "protocol",
            (
                f"{protocol.name} ({protocol.checksum}): {len(protocol.train):,} training, "
                f"{len(protocol.validation):,} validation, {len(protocol.query):,} query, "
                f"{len(protocol.database):,} database images"
            ),
        ),
        (
            "network",
            (
                f"{options.backbone}{' + CBAM' if has_attention(model) else ''}, "
                f"{options.bits} bits, {count:,} trainable parameters"
            ),
        ),
        (
            "training",
            (
                f"{steps:,} steps of {options.groups} groups x {plan.group_size} images "
                f"({options.epochs:g} epochs), {options.optimizer} at {options.learning_rate:g}"
            ),
        ),
        ("method", f"{model.method.title}: {model.method}"),
        ("device", f"{devices.name()} x {replicas}, {precision}, {keras.backend.backend()}"),
        ("folder", options.workdir),
    ]
    for name, value in rows:
        print(f"{name:<10}{value}")
    sys.stdout.flush()


def has_attention(model):
    """Whether the backbone holds a CBAM."""
    from dah_tf.layers import CBAM

    return any(isinstance(layer, CBAM) for layer in model.backbone.layers)


def slow_advice(options):
    """What to say where a run turns out to take hours on a CPU, or None."""
    from dah_tf.machine import devices

    if options.backbone == "compact" or devices.accelerators():
        return None
    return (
        "that is long for a CPU: --flagfile=configs/cifar10_compact.cfg trains a network made "
        "for one"
    )


KNOWN = {"cifar10": (10, 3, 32), "digits": (10, 1, 16)}


def describe(options, as_json):
    """`train --describe`: of a data set's classes, channels and size, without its images.

    Returns:
        str, the table or JSON.
    """
    from dah_tf.model import describe as description
    from dah_tf.runs import workspace
    from dah_tf.training import build

    classes, channels, size = KNOWN.get(options.dataset, (None, None, None))
    if classes is None:
        dataset, _ = build.open_data(options)
        facts = workspace.data_facts(dataset)
        classes, channels, size = (facts[k] for k in ("num_classes", "channels", "image_size"))
    if options.channels:
        channels = int(options.channels)
    try:
        model = build.build_model(
            options,
            num_classes=classes,
            channels=channels,
            image_size=options.image_size or size,
            weights=False,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    result = description.describe(model)
    return json.dumps(result, indent=1) if as_json else description.table(result)
