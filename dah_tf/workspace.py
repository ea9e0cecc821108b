"""A run's folder and what its flags stand for: data, protocol, model.

flags.json  metrics.jsonl  validation.jsonl  events.out.tfevents.*  skipped.txt
checkpoints/  model.keras  evaluation.json  examples.npz  export/1/
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import types

from dah_tf import __version__, durable, pretrained
from dah_tf.errors import UserError

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


# Where things lie on one machine, and how a command answers: no part of a result.
LOCAL_FLAGS = {"workdir", "data_dir", "describe", "json"}


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
            `images_per_step`, `precision`, the name of a Keras policy.

    Raises:
        UserError: flags that matter differ; nothing was written.
    """
    folder = pathlib.Path(workdir)
    path = folder / "flags.json"
    if path.exists():
        changed = changed_flags(folder, flags)
        if read_data_facts(folder) != data:
            changed.append("the data itself")
        if changed:
            raise UserError(
                f"{folder} holds a run with other flags: {'; '.join(changed)}; use the same "
                "flags to resume it, or another --workdir"
            )
        content = _recorded(folder)
        if content["flags"].get("note") == flags.get("note"):
            return
        content["flags"]["note"] = flags.get("note")
    else:
        content = {"flags": flags, "data": data, **made, **surroundings()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; choose another --workdir"
        ) from error


def changed_flags(workdir, flags):
    """How flags differ from those that a run's folder was begun with.

    Args:
        workdir: path of the folder.
        flags: dict; flags that are not in it are not compared.

    Returns:
        List of str, one a flag that must stay as it was; empty where no run was begun.

    Raises:
        UserError: the folder's flags.json is damaged.
    """
    if not (pathlib.Path(workdir) / "flags.json").exists():
        return []
    old = vars(read_flags(workdir))
    return [
        f"{name} was {old.get(name)!r}, now {value!r}"
        for name, value in flags.items()
        if name not in FREE_FLAGS and old.get(name) != value
    ]


def surroundings():
    """What a run is made with: a dict of `hardware`, a line, and `versions` by package."""
    import keras

    from dah_tf import devices

    versions = {"dah_tf": __version__, "python": platform.python_version()}
    for name in ("keras", "numpy", keras.backend.backend()):
        versions[name] = importlib.metadata.version(name)
    return {"hardware": devices.hardware(), "versions": versions}


def open_data(options):
    """The data set and protocol of a run's flags.

    Returns:
        `data.Dataset` and `data.Protocol`.

    Raises:
        UserError: the data is missing, damaged or does not allow the protocol.
    """
    from dah_tf import data

    dataset = data.load(
        options.dataset,
        image_size=options.image_size,
        channels=int(options.channels) if options.channels else None,
        data_dir=options.data_dir,
        cache_gib=options.cache_gib,
    )
    return dataset, make_protocol(options, dataset, options.protocol)


def make_protocol(options, dataset, name):
    """A protocol by its name, with what a run's flags say of validation and seed."""
    from dah_tf import data

    return data.make_protocol(name, dataset, validation=options.validation, seed=options.seed)


def build_model(options, *, num_classes, channels, image_size, multi_label=False, weights=True):
    """An untrained `HashModel` of a run's flags.

    Args:
        options: namespace of flags.
        num_classes, channels, image_size, multi_label: of the data.
        weights: bool; False leaves `--backbone_weights` alone, for describing.

    Raises:
        UserError: unknown backbone, weights that do not fit, an image too small.
    """
    from dah_tf import backbones
    from dah_tf.model import HashModel

    smallest = {"resnet30": 32, "compact": 16}.get(options.backbone, 32)
    if image_size < smallest:
        raise UserError(
            f"{options.backbone} takes images of at least {smallest} pixels, not {image_size}; "
            f"set --image_size={smallest}"
        )
    source = options.backbone_weights if weights and options.backbone_weights != "none" else None
    trained = source is not None and (pretrained.is_name(source) or os.path.isdir(source))
    try:
        backbone = backbones.get(
            options.backbone,
            channels=channels,
            attention=options.attention,
            widths=widths_of(options),
            depth=getattr(options, "depth", None),  # runs from before it have none
            weights=None if trained else source,
        )
    except Exception as error:  # Keras raises its bare class where a download fails
        raise UserError(
            f"--backbone={options.backbone} --backbone_weights={options.backbone_weights}: {error}"
        ) from error
    if trained:
        take_backbone(backbone, source)
    return HashModel(
        backbone,
        bits=options.bits,
        num_classes=num_classes,
        image_size=image_size,
        multi_label=multi_label,
        phi1=options.phi1,
        phi2=options.phi2,
        t=options.t,
        similar_weight=options.similar_weight,
        balance_weight=options.balance_weight,
        label_smoothing=options.label_smoothing,
        class_scale=options.class_scale,
        cutout=options.cutout,
        name="hash_model",
    )


def check_size(backbone, size):
    """Refuses images that a network would shrink to nothing.

    Args:
        backbone: `keras.Model`.
        size: int, pixels.

    Raises:
        UserError: they are too small.
    """
    import keras

    try:
        backbone.compute_output_spec(keras.KerasTensor((1, size, size, backbone.input_shape[-1])))
    except ValueError as error:
        raise UserError(
            f"{backbone.name} cannot take images of {size} pixels: its layers would shrink them to "
            "nothing; raise --image_size or --train_sizes"
        ) from error


def widths_of(options):
    """`--widths` as ints; None where it is not given, as in runs from before it.

    Raises:
        UserError: not numbers.
    """
    texts = getattr(options, "widths", None)
    try:
        return None if texts is None else [int(each) for each in texts]
    except ValueError:
        raise UserError(
            f"--widths={','.join(texts)} are no whole numbers, such as 64,256,256"
        ) from None


def take_backbone(backbone, run):
    """Gives a backbone the weights that a run's has at its end.

    Args:
        backbone: `keras.Model`.
        run: path of the run's work folder, or "pretrained:NAME".

    Raises:
        UserError: no run, one that has not ended, or one of another backbone.
    """
    model, step = load_model(pretrained.folder(run))
    if step is not None:
        raise UserError(f"--backbone_weights={run}: its training has not ended")
    theirs = model.backbone
    if [(w.path, w.shape) for w in theirs.weights] != [(w.path, w.shape) for w in backbone.weights]:
        raise UserError(
            f"--backbone_weights={run} holds another backbone ({theirs.name}, "
            f"{theirs.count_params():,} parameters) than --backbone asks for ({backbone.name}, "
            f"{backbone.count_params():,})"
        )
    backbone.set_weights(theirs.get_weights())


def compile_model(model, options, steps):
    """Gives a model the optimiser of a run's flags, and builds its state."""
    from dah_tf import optimizers

    rate = optimizers.WarmupDecay(
        options.learning_rate,
        total=steps,
        warmup=round(options.warmup * steps),
        decay=options.decay,
    )
    optimizer = optimizers.get(
        options.optimizer,
        rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        adam_ratio=options.adam_ratio,
        fixed_norm=options.fixed_norm,
        ns_steps=options.ns_steps,
        ema=options.ema,
    )
    model.compile(optimizer=optimizer)
    model.optimizer.build(model.trainable_variables)


def load_model(workdir):
    """The trained model of a run, or where it has not ended yet, of its last checkpoint.

    Returns:
        `HashModel` and the number of steps it was trained for (None: to the end).

    Raises:
        UserError: there is neither.
    """
    import keras

    from dah_tf import checkpoint, optimizers
    from dah_tf.model import HashModel

    folder = pathlib.Path(workdir)
    options = read_flags(folder)
    if (folder / "model.keras").exists():
        custom = {"HashModel": HashModel}
        model = keras.saving.load_model(folder / "model.keras", custom, compile=False)
        return model.in_float32(), None
    found = checkpoint.read(folder / "checkpoints")
    if found is None:
        raise UserError(f"{workdir} has neither a model nor a checkpoint yet; let it train longer")
    facts = read_data_facts(folder)
    keep = ["num_classes", "channels", "image_size", "multi_label"]
    own = keras.config.dtype_policy()
    try:
        # The optimiser of a run in float16 has more variables.
        keras.config.set_dtype_policy(read_precision(folder) or own)
        model = build_model(options, **{name: facts[name] for name in keep}, weights=False)
        compile_model(model, options, steps=1)
    finally:
        keras.config.set_dtype_policy(own)
    variables = [*model.variables, *model.optimizer.variables]
    step = checkpoint.restore(folder / "checkpoints", variables, {})
    optimizers.take_average(model)
    return model.in_float32(), step


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
    from dah_tf import runlog

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
