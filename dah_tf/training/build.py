"""What a recipe stands for: data, protocol, model and optimiser."""

import os
import pathlib

from dah_tf import parts, pretrained
from dah_tf.errors import UserError
from dah_tf.runs import workspace
from dah_tf.runs.recipe import Recipe

ORDINARY = 512  # pixels; no network shrinks images of this side to nothing


def open_data(recipe: Recipe, data=None):
    """The data set and protocol of a recipe.

    Args:
        recipe: `Recipe`.
        data: `data.Dataset` in place of the one that the recipe names.

    Returns:
        `data.Dataset` and `data.Protocol`.

    Raises:
        UserError: the data is missing, damaged or does not allow the protocol.
    """
    dataset = load_data(recipe) if data is None else data
    return dataset, make_protocol(recipe, dataset, recipe.protocol)


def load_data(recipe: Recipe):
    """The data set that a recipe names: `data.Dataset`. Raises `UserError` as `data.load` does."""
    from dah_tf import data

    return data.load(
        recipe.dataset,
        image_size=recipe.image_size,
        channels=recipe.channels,
        data_dir=recipe.data_dir,
        cache_gib=recipe.cache_gib,
        max_unreadable=recipe.max_unreadable,
        unlabelled=recipe.unlabelled,
    )


def make_protocol(recipe: Recipe, dataset, name: str):
    """A protocol by its name, with what a recipe says of validation and seed."""
    from dah_tf import data

    if name == "auto":
        name = data.choose_protocol(dataset)
    return data.make_protocol(name, dataset, validation=recipe.validation, seed=recipe.seed)


def build_model(
    recipe: Recipe, *, num_classes, channels, image_size, multi_label=False, weights=True
):
    """An untrained `HashModel`.

    Args:
        recipe: `Recipe`, every part of it decided.
        num_classes, channels, image_size, multi_label: of the data.
        weights: bool; False leaves `backbone_weights` alone, as for describing.

    Raises:
        UserError: unknown parts, weights that do not fit, an image too small.
    """
    from dah_tf.model import HashModel, backbones

    source = recipe.backbone_weights if weights and recipe.backbone_weights != "none" else None
    trained = source is not None and is_run(source)
    smallest = backbones.facts(recipe.backbone).smallest
    if image_size < smallest:
        name = recipe.part("backbone").name
        raise UserError(
            f"{name} takes images of at least {smallest} pixels, not {image_size}; "
            f"set image_size={smallest}"
        )
    backbone = backbones.get(
        recipe.backbone, channels=channels, weights=None if trained else source
    )
    if trained:
        take_backbone(backbone, source)
    return HashModel(
        backbone,
        bits=recipe.bits,
        num_classes=num_classes,
        image_size=image_size,
        multi_label=multi_label,
        method=recipe.method,
        cutout=recipe.cutout,
        mirror=recipe.mirror,
        name="hash_model",
    )


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
            f"method={method.name} needs groups of at least {method.needs.smallest_group} "
            f"images, and these have {plan.group_size}; raise images_per_class or "
            "classes_per_group"
        )
    if replicas > 1 and not method.needs.splits:
        raise UserError(
            f"method={method.name} would not train the same weights on {replicas} devices as on "
            "one; set strategy=one"
        )


def check_size(backbone, size):
    """Refuses images that a network would shrink to nothing.

    Args:
        backbone: `keras.Model`.
        size: int, pixels.

    Raises:
        UserError: they are too small.
        ValueError: the network takes images of no size; that is a mistake in it.
    """
    try:
        _trace(backbone, size)
    except ValueError as error:
        # Images of an ordinary size tell whether it is for their size.
        _trace(backbone, max(ORDINARY, size))
        raise UserError(
            f"{backbone.name} cannot take images of {size} pixels: its layers would shrink them to "
            "nothing; raise image_size or train_sizes"
        ) from error


def _trace(backbone, size):
    """Runs a network without computing anything. Raises what its layers raise."""
    import keras

    backbone.compute_output_spec(keras.KerasTensor((1, size, size, backbone.input_shape[-1])))


def is_run(source):
    """Whether `backbone_weights` names a run's folder or a ready-made model."""
    return pretrained.is_name(source) or os.path.isdir(source)


def take_backbone(backbone, run):
    """Gives a backbone the weights that a run's has at its end.

    Args:
        backbone: `keras.Model`.
        run: path of the run's work folder, or "pretrained:NAME".

    Raises:
        UserError: no run, one that has not ended, or one of another backbone.
    """
    model, step = load_run(pretrained.folder(run))
    if step is not None:
        raise UserError(f"backbone_weights={run}: its training has not ended")
    theirs = model.backbone
    if [(w.path, w.shape) for w in theirs.weights] != [(w.path, w.shape) for w in backbone.weights]:
        raise UserError(
            f"backbone_weights={run} holds another backbone ({theirs.name}, "
            f"{theirs.count_params():,} parameters) than the recipe asks for ({backbone.name}, "
            f"{backbone.count_params():,})"
        )
    backbone.set_weights(theirs.get_weights())


def compile_model(model, recipe: Recipe, steps):
    """Gives a model the optimiser of a recipe, and builds its state."""
    from dah_tf.training import optimizers

    rate = optimizers.WarmupDecay(
        recipe.learning_rate,
        total=steps,
        warmup=round(recipe.warmup * steps),
        decay=recipe.decay,
    )
    model.compile(optimizer=optimizers.get(recipe.optimizer, rate))
    model.optimizer.build(model.trainable_variables)


def check_parts(recipe: Recipe):
    """Refuses parts that do not exist, before any data is read.

    Raises:
        UserError: a part or an option of one is unknown, or its value out of range.
    """
    from dah_tf.model import backbones, methods
    from dah_tf.training import optimizers

    backbones.resolved(recipe.backbone)
    if recipe.method is not None:
        methods.get(recipe.method)
    if recipe.optimizer is not None:
        optimizers.get(recipe.optimizer, 0.0)


def written_out(recipe: Recipe) -> Recipe:
    """A recipe with every option of its parts written out, as a run keeps it.

    Raises:
        UserError: a part that does not exist, or an option that it does not have.
    """
    from dah_tf.model import backbones, methods
    from dah_tf.training import optimizers

    return recipe.replace(
        backbone=backbones.resolved(recipe.backbone),
        method=methods.resolved(recipe.method),
        optimizer=parts.resolved("optimizer", recipe.optimizer, optimizers.OPTIMIZERS),
    )


def load_model(run):
    """The model of a run.

    Args:
        run: path of a run's folder, "pretrained:NAME", or what `train` returned.

    Returns:
        `HashModel`, in float32. Of a run that has not ended it is that of the last checkpoint.

    Raises:
        UserError: there is neither a model nor a checkpoint; or it is damaged, or written by a newer
            version.

    Example:
        >>> model = load_model("runs/digits-compact-36")
        >>> model.encode(images).shape
        (1000, 5)
    """
    folder = getattr(run, "folder", run)
    return load_run(pretrained.folder(folder))[0]


def load_run(workdir):
    """The trained model of a run, or where it has not ended yet, of its last checkpoint.

    Returns:
        `HashModel` and the number of steps it was trained for (None: to the end).

    Raises:
        UserError: there is neither, or it cannot be read: see `stored.load`.
    """
    import keras

    from dah_tf.model import methods, stored
    from dah_tf.training import checkpoint

    folder = pathlib.Path(workdir)
    recipe = workspace.read_recipe(folder)
    if (folder / "model.keras").exists():
        return stored.load(
            folder / "model.keras",
            versions=workspace.read_versions(folder),
            remedy=_remedy(folder),
        ).in_float32(), None
    shipped = folder / pretrained.WEIGHTS
    found = None if shipped.exists() else checkpoint.read(folder / "checkpoints")
    if found is None and not shipped.exists():
        raise UserError(f"{workdir} has neither a model nor a checkpoint yet; let it train longer")
    facts = workspace.read_data_facts(folder)
    keep = ["num_classes", "channels", "image_size", "multi_label"]
    facts = {name: facts[name] for name in keep}
    if shipped.exists():  # of a ready-made model
        model = build_model(recipe, **facts, weights=False)
        again = f"delete {folder}, which the next command makes anew"
        stored.load_arrays(model, shipped, again)
        return model, None
    own = keras.config.dtype_policy()
    try:
        # The optimiser of a run in float16 has more variables.
        keras.config.set_dtype_policy(workspace.read_precision(folder) or own)
        model = build_model(recipe, **facts, weights=False)
        compile_model(model, recipe, steps=1)
    finally:
        keras.config.set_dtype_policy(own)
    variables = [*model.variables, *model.optimizer.variables]
    step = checkpoint.restore(folder / "checkpoints", variables, {}, without=methods.STATE)
    return model.in_float32(), step


def _remedy(folder):
    """What to do about a run's `model.keras` that is damaged."""
    from dah_tf.training import checkpoint

    if checkpoint.files(folder / "checkpoints"):
        return "restore it, or move it away and run the training's command, which writes it anew"
    return "restore it from a copy"
