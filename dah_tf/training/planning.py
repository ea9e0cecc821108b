"""This module plans a run.

It decides the recipe and makes the plan, the settings and the model that the run begins with.
"""

import contextlib
import random

import numpy as np

from dah_tf.errors import UserError
from dah_tf.runs.recipe import Recipe

VALIDATED = 10_000  # the largest number of training images that validation searches


def decided(recipe: Recipe, dataset, protocol) -> Recipe:
    """Decides everything that a recipe left open, and writes out the options of its parts."""
    from dah_tf.model import backbones, methods
    from dah_tf.runs import presets
    from dah_tf.training import build

    about = backbones.facts(recipe.backbone)
    facts = presets.Facts(
        images=len(protocol.train),
        classes=recipe.classes_per_group or min(dataset.num_classes, 100),
        size=dataset.images.size,
        smallest=about.smallest,
        paper=about.paper and recipe.dataset == "cifar10",
        trained=recipe.backbone_weights != "none",
        one_fit=methods.is_shallow(recipe.method),
        mirrored=dataset.mirrored,
    )
    return build.written_out(presets.resolve(recipe, facts).replace(protocol=protocol.name))


def make_plan(recipe, dataset, protocol):
    """Makes a recipe's plan of groups and augmentation."""
    from dah_tf import data

    size = dataset.images.size
    if recipe.cutout >= size:
        raise UserError(
            f"cutout={recipe.cutout} would cover images of {size} pixels; lower it, for example to "
            f"{size // 4}"
        )
    classes = recipe.classes_per_group or min(dataset.num_classes, 100)
    return data.GroupPlan(
        dataset.labels[protocol.train],
        indices=protocol.train,
        seed=recipe.seed,
        groups=recipe.groups,
        classes_per_group=classes,
        images_per_class=recipe.images_per_class,
        flip=recipe.flip,
        shift=recipe.shift,
        cutout=recipe.cutout,
        cutout_epochs=recipe.cutout_epochs,
        image_size=size,
    )


def settings_of(recipe: Recipe, dataset, plan):
    """Makes the `loop.Settings` of a recipe.

    They say how long its run is, and how often the run writes and validates.
    """
    from dah_tf.training import loop

    steps = max(1, round(recipe.epochs * plan.steps_per_epoch))
    return loop.Settings(
        workdir=recipe.workdir,
        steps=steps,
        sizes=sizes_of(recipe.train_sizes, steps, dataset.images.size),
        frozen_steps=round(recipe.freeze_epochs * plan.steps_per_epoch),
        checkpoint_steps=recipe.checkpoint_steps,
        checkpoint_minutes=recipe.checkpoint_minutes,
        validate_steps=round(recipe.validate_epochs * plan.steps_per_epoch),
    )


def sizes_of(text, steps, size):
    """Parses `train_sizes` into a list of `(image size, first step)`.

    Raises:
        UserError: the text does not have the form SIZE:SHARE,... with shares that sum to 1.
    """
    if not text:
        return [(size, 0)]
    try:
        parts = [(int(a), float(b)) for a, b in (part.split(":") for part in text.split(","))]
    except ValueError:
        parts = []
    shares = [share for _, share in parts]
    # The comparisons are written so that NaN is refused too.
    whole = abs(sum(shares) - 1.0) <= 1e-6 and all(0.0 <= share <= 1.0 for share in shares)
    if not whole or min(parts)[0] < 8:
        raise UserError(
            f"train_sizes={text}: give SIZE:SHARE,... with shares that sum to 1, "
            "for example 16:0.5,32:0.5"
        )
    starts = np.cumsum([0.0] + [share for _, share in parts[:-1]])
    return [(each, round(start * steps)) for (each, _), start in zip(parts, starts, strict=True)]


def made(recipe: Recipe, dataset, protocol, plan, facts, strategy, begun):
    """Makes the compiled model that a run begins with.

    Args:
        recipe: `Recipe` with everything decided.
        dataset: `data.Dataset`.
        protocol: `data.Protocol`.
        plan: `data.GroupPlan`.
        facts: dict, the result of `workspace.data_facts`.
        strategy: `tf.distribute.Strategy` or None.
        begun: bool, whether a checkpoint will replace the weights.

    Returns:
        `HashModel`.
    """
    from dah_tf.model import backbones
    from dah_tf.training import build

    with scope(strategy):
        model = build.build_model(
            recipe,
            **{k: facts[k] for k in ["num_classes", "channels", "image_size", "multi_label"]},
            weights=not begun,
        )
        settings = settings_of(recipe, dataset, plan)
        build.check_size(model.backbone, min(size for size, _ in settings.sizes))
        build.check_needs(model, plan, strategy.num_replicas_in_sync if strategy else 1)
        if recipe.backbone_weights == "none" and not begun:
            backbones.prepare(model.backbone, recipe.backbone, some_images(dataset, protocol.train))
        build.compile_model(model, recipe, settings.steps)
    return model


def some_images(dataset, train):
    """Returns up to 5,000 evenly spread training images.

    They are a uint8 array of shape `(n, h, w, channels)`.
    """
    rows = np.asarray(train)[np.linspace(0, len(train) - 1, min(len(train), 5000)).astype(int)]
    return dataset.images.read(rows)


def scope(strategy):
    """Returns the scope of the strategy, or an empty context under another back end."""
    return strategy.scope() if strategy else contextlib.nullcontext()


@contextlib.contextmanager
def undisturbed(seed):
    """Seeds the random initial weights, and afterwards restores random state and precision.

    Keras draws the seeds of initial weights and of dropout from Python's generator and from a
    generator that belongs to Keras. Keras makes that generator when it is first needed, and the
    generator has no public name.
    """
    import keras
    from keras.src.backend.common import global_state
    from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

    state, policy = random.getstate(), keras.config.dtype_policy()
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, None)
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)
        keras.config.set_dtype_policy(policy)
