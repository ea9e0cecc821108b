"""This module turns a recipe into data, a protocol, a model and an optimiser."""

import os
import pathlib
import typing

from dah_tf import parts, pretrained
from dah_tf.errors import UserError
from dah_tf.runs import workspace
from dah_tf.runs.recipe import Recipe

if typing.TYPE_CHECKING:
    from dah_tf.model import HashModel

ORDINARY = 512  # pixels; every network accepts images of this side


def open_data(recipe: Recipe, data=None):
    """Opens the data set of a recipe and makes its protocol.

    Args:
        recipe: `Recipe`.
        data: `data.Dataset` that is used in place of the one that the recipe names, or None.

    Returns:
        `data.Dataset` and `data.Protocol`.

    Raises:
        UserError: the data is missing, damaged or does not allow the protocol.
    """
    dataset = load_data(recipe) if data is None else data
    return dataset, make_protocol(recipe, dataset, recipe.protocol)


def load_data(recipe: Recipe):
    """Loads the `data.Dataset` that a recipe names, and raises `UserError` as `data.load` does."""
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
    """Makes a protocol by its name, with the validation and the seed of a recipe."""
    from dah_tf import data

    if name == "auto":
        name = data.choose_protocol(dataset)
    return data.make_protocol(name, dataset, validation=recipe.validation, seed=recipe.seed)


def build_model(
    recipe: Recipe, *, num_classes, channels, image_size, multi_label=False, weights=True
):
    """Builds an untrained `HashModel`.

    Args:
        recipe: `Recipe` with every part decided.
        num_classes, channels, image_size, multi_label: the properties of the data.
        weights: bool, whether to load `backbone_weights`. False is enough for a description.

    Raises:
        UserError: a part is unknown, the weights do not fit, or the images are too small.
    """
    from dah_tf.model import HashModel, backbones

    source = recipe.backbone_weights if weights and recipe.backbone_weights != "none" else None
    trained = source is not None and is_run(source)
    smallest = backbones.facts(recipe.backbone).smallest
    if image_size < smallest:
        name = recipe.part("backbone").name
        raise UserError(
            f"{name} takes images of at least {smallest} pixels, not of {image_size}; "
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
    """Refuses a run that does not meet the needs of its method.

    Args:
        model: `HashModel`.
        plan: `data.GroupPlan`.
        replicas: int, the number of devices that the groups of a step are split over.

    Raises:
        UserError: the images have several labels and the method takes one, the groups are too
            small, or the method cannot be split between devices.
    """
    method = model.method
    if model.multi_label and not method.needs.several:
        raise UserError(
            f"method={method.name} takes images with one label, and these may have several; take "
            "another method, such as method=dah"
        )
    if plan.group_size < method.needs.smallest_group:
        raise UserError(
            f"method={method.name} needs groups of at least {method.needs.smallest_group} "
            f"images, but these have {plan.group_size}; raise images_per_class or "
            "classes_per_group"
        )
    if replicas > 1 and not method.needs.splits:
        raise UserError(
            f"method={method.name} would not train the same weights on {replicas} devices as on "
            "one; set strategy=one"
        )


def check_size(backbone, size):
    """Refuses images that are so small that a network would shrink them to nothing.

    Args:
        backbone: `keras.Model`.
        size: int, the side of the images in pixels.

    Raises:
        UserError: the images are too small.
        ValueError: the network fails on images of every size, which is a mistake in the network.
    """
    try:
        _trace(backbone, size)
    except ValueError as error:
        # If images of an ordinary size pass, the network failed because of the size.
        _trace(backbone, max(ORDINARY, size))
        raise UserError(
            f"{backbone.name} cannot take images of {size} pixels: its layers would shrink them to "
            "nothing; raise image_size or train_sizes"
        ) from error


def _trace(backbone, size):
    """Runs a network without computing anything, and raises the errors of its layers."""
    import keras

    backbone.compute_output_spec(keras.KerasTensor((1, size, size, backbone.input_shape[-1])))


def is_run(source):
    """Tells whether `backbone_weights` names a run's folder or a ready-made model."""
    return pretrained.is_name(source) or os.path.isdir(source)


def take_backbone(backbone, run):
    """Gives a backbone the weights of the backbone of a finished run.

    Args:
        backbone: `keras.Model`.
        run: path of the run's work folder, or "pretrained:NAME".

    Raises:
        UserError: there is no such run, it has not ended, or it has another backbone.
    """
    model, step = load_run(pretrained.folder(run))
    if step is not None:
        raise UserError(f"backbone_weights={run}: the run has not ended; train it to its end first")
    theirs = model.backbone
    if [(w.path, w.shape) for w in theirs.weights] != [(w.path, w.shape) for w in backbone.weights]:
        raise UserError(
            f"backbone_weights={run} holds another backbone ({theirs.name}, "
            f"{theirs.count_params():,} parameters) than the recipe asks for ({backbone.name}, "
            f"{backbone.count_params():,}); name a run with that backbone"
        )
    backbone.set_weights(theirs.get_weights())


def compile_model(model, recipe: Recipe, steps):
    """Gives a model the optimiser of a recipe, and builds the state of the optimiser."""
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
        UserError: a part or one of its options is unknown, or a value is out of its range.
    """
    from dah_tf.model import backbones, methods
    from dah_tf.training import optimizers

    backbones.resolved(recipe.backbone)
    if recipe.method is not None:
        methods.get(recipe.method)
    if recipe.optimizer is not None:
        optimizers.get(recipe.optimizer, 0.0)


def written_out(recipe: Recipe) -> Recipe:
    """Returns a recipe with every option of its parts written out, as a run stores it.

    Raises:
        UserError: a part does not exist, or it does not have an option that is given.
    """
    from dah_tf.model import backbones, methods
    from dah_tf.training import optimizers

    return recipe.replace(
        backbone=backbones.resolved(recipe.backbone),
        method=methods.resolved(recipe.method),
        optimizer=parts.resolved("optimizer", recipe.optimizer, optimizers.OPTIMIZERS),
    )


def load_model(run: str | os.PathLike | workspace.HasFolder) -> "HashModel":
    """Loads the model of a run.

    Args:
        run: path of a run's folder, "pretrained:NAME", or the object that `train` returned.

    Returns:
        `HashModel` in float32. If the run has not ended, it is the model of the last checkpoint.

    Raises:
        UserError: there is neither a model nor a checkpoint, or the file is damaged, or a newer
            version wrote it.

    Example:
        >>> import numpy as np
        >>> model = load_model("runs/digits")
        >>> model.encode(np.zeros((3, 16, 16, 1), np.uint8)).shape
        (3, 2)
    """
    folder = getattr(run, "folder", run)
    return load_run(pretrained.folder(folder))[0]


def load_run(workdir):
    """Loads the trained model of a run, or the model of the last checkpoint of an unfinished run.

    Returns:
        `HashModel`, and the number of steps that it was trained for. The number is None if the
        run has ended.

    Raises:
        UserError: there is neither a model nor a checkpoint, or it cannot be read. The function
            `stored.load` lists the reasons.
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
    if shipped.exists():  # The folder holds a ready-made model.
        model = build_model(recipe, **facts, weights=False)
        again = f"delete {folder}, which the next command makes anew"
        stored.load_arrays(model, shipped, again)
        return model, None
    own = keras.config.dtype_policy()
    try:
        # The optimiser has more variables if the run uses float16.
        keras.config.set_dtype_policy(workspace.read_precision(folder) or own)
        model = build_model(recipe, **facts, weights=False)
        compile_model(model, recipe, steps=1)
    finally:
        keras.config.set_dtype_policy(own)
    variables = [*model.variables, *model.optimizer.variables]
    step = checkpoint.restore(folder / "checkpoints", variables, {}, without=methods.STATE)
    return model.in_float32(), step


def _remedy(folder):
    """Returns advice on what to do about a damaged `model.keras` of a run."""
    from dah_tf.training import checkpoint

    if checkpoint.files(folder / "checkpoints"):
        return "restore it, or move it away and run the same training command, which writes it anew"
    return "restore it from a copy"
