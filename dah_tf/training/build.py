"""What a run's flags stand for: data, protocol, model and optimiser."""

import os
import pathlib

import numpy as np

from dah_tf import parts, pretrained
from dah_tf.errors import UserError
from dah_tf.runs import workspace


def open_data(options):
    """The data set and protocol of a run's flags.

    Returns:
        `data.Dataset` and `data.Protocol`.

    Raises:
        UserError: the data is missing, damaged or does not allow the protocol.
    """
    dataset = load_data(options)
    return dataset, make_protocol(options, dataset, options.protocol)


def load_data(options):
    """The data set of a run's flags: `data.Dataset`. Raises `UserError` as `data.load` does."""
    from dah_tf import data

    return data.load(
        options.dataset,
        image_size=options.image_size,
        channels=int(options.channels) if options.channels else None,
        data_dir=options.data_dir,
        cache_gib=options.cache_gib,
    )


def make_protocol(options, dataset, name):
    """A protocol by its name, with what a run's flags say of validation and seed."""
    from dah_tf import data

    return data.make_protocol(name, dataset, validation=options.validation, seed=options.seed)


def trained_by(workdir, options, dataset):
    """By which protocol a run was trained on a data set.

    Args:
        workdir: path of the run's work folder.
        options: namespace of flags; `dataset` names the data set.
        dataset: `data.Dataset`.

    Returns:
        `data.Protocol`; None where the data is another than the run's, by content and by name: on
        which of its images the run was trained is not known then.
    """
    run, facts = workspace.read_flags(workdir), workspace.read_data_facts(workdir)
    if dataset.fingerprint != facts["fingerprint"] and options.dataset != run.dataset:
        return None
    return make_protocol(run, dataset, run.protocol)


def trained_on(protocol, training):
    """How many of a protocol's queries are among the images that another trains on: int."""
    known = np.concatenate([training.train, training.validation])
    return int(np.isin(protocol.query, known).sum())


def check_backbone(options, dataset, protocol):
    """Refuses `--backbone_weights` of a run that was trained on the protocol's queries.

    Raises:
        UserError: it was.
    """
    source = options.backbone_weights
    training = trained_by(pretrained.folder(source), options, dataset) if _is_run(source) else None
    if training and (known := trained_on(protocol, training)):
        raise UserError(
            f"--backbone_weights={source} was trained on {known:,} of the {len(protocol.query):,} "
            f"queries of --protocol={protocol.name}, by --protocol={training.name}; take that "
            "protocol, or another start"
        )


def _is_run(source):
    return pretrained.is_name(source) or os.path.isdir(source)


def build_model(options, *, num_classes, channels, image_size, multi_label=False, weights=True):
    """An untrained `HashModel` of a run's flags.

    Args:
        options: namespace of flags.
        num_classes, channels, image_size, multi_label: of the data.
        weights: bool; False leaves `--backbone_weights` alone, for describing.

    Raises:
        UserError: unknown backbone, weights that do not fit, an image too small.
    """
    from dah_tf.model import HashModel, backbones

    smallest = {"resnet30": 32, "compact": 16}.get(options.backbone, 32)
    if image_size < smallest:
        raise UserError(
            f"{options.backbone} takes images of at least {smallest} pixels, not {image_size}; "
            f"set --image_size={smallest}"
        )
    source = options.backbone_weights if weights and options.backbone_weights != "none" else None
    trained = source is not None and _is_run(source)
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
        method=method_of(options),
        cutout=options.cutout,
        mirror=options.mirror,
        name="hash_model",
    )


def method_of(options):
    """The method of a run's flags: `methods.Method`.

    Flags named as DAH's options are DAH's; `--method=dah:phi1=0.5` goes before `--phi1`.

    Raises:
        UserError: there is no such method or option.
    """
    from dah_tf.model import hash_model, methods

    text = getattr(options, "method", "dah")  # runs from before it have none
    if parts.parse(text).name == "dah":
        names = hash_model.BEFORE_METHODS
        given = {name: getattr(options, name) for name in names if hasattr(options, name)}
        text = str(methods.with_options(text, given))
    return methods.get(text)


def check_needs(model, plan, replicas):
    """Refuses a run that has not what its method needs.

    Args:
        model: `HashModel`.
        plan: `data.GroupPlan`.
        replicas: int, devices that the groups of a step are split over.

    Raises:
        UserError: its groups are too small, or it cannot be split.
    """
    method = model.method
    if plan.group_size < method.needs.smallest_group:
        raise UserError(
            f"--method={method.name} needs groups of at least {method.needs.smallest_group} "
            f"images, and these have {plan.group_size}; raise --images_per_class or "
            "--classes_per_group"
        )
    if replicas > 1 and not method.needs.splits:
        raise UserError(
            f"--method={method.name} would not train the same weights on {replicas} devices as on "
            "one; set --strategy=one"
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
    from dah_tf.training import optimizers

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

    from dah_tf.model import HashModel, methods
    from dah_tf.training import checkpoint

    folder = pathlib.Path(workdir)
    options = workspace.read_flags(folder)
    if (folder / "model.keras").exists():
        custom = {"HashModel": HashModel}
        try:
            model = keras.saving.load_model(folder / "model.keras", custom, compile=False)
        except Exception as error:  # of a damaged archive Keras raises whatever it meets
            raise UserError(
                f"{folder / 'model.keras'} is damaged ({error}); restore it, or delete it and "
                "train on: the same command writes it anew"
            ) from error
        return model.in_float32(), None
    shipped = folder / pretrained.WEIGHTS
    found = None if shipped.exists() else checkpoint.read(folder / "checkpoints")
    if found is None and not shipped.exists():
        raise UserError(f"{workdir} has neither a model nor a checkpoint yet; let it train longer")
    facts = workspace.read_data_facts(folder)
    keep = ["num_classes", "channels", "image_size", "multi_label"]
    facts = {name: facts[name] for name in keep}
    if shipped.exists():  # of a ready-made model
        model = build_model(options, **facts, weights=False)
        with np.load(shipped) as stored:
            model.set_weights([stored[str(number)] for number in range(len(model.weights))])
        return model, None
    own = keras.config.dtype_policy()
    try:
        # The optimiser of a run in float16 has more variables.
        keras.config.set_dtype_policy(workspace.read_precision(folder) or own)
        model = build_model(options, **facts, weights=False)
        compile_model(model, options, steps=1)
    finally:
        keras.config.set_dtype_policy(own)
    variables = [*model.variables, *model.optimizer.variables]
    step = checkpoint.restore(folder / "checkpoints", variables, {}, without=methods.STATE)
    return model.in_float32(), step
