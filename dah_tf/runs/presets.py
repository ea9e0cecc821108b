"""Values for the settings that a recipe leaves open. Standard library only."""

import dataclasses

from dah_tf.runs.recipe import Recipe

# The paper prints these values, but not the epochs and the augmentation, which are our choice.
PAPER = {
    "method": "dah",
    "mirror": False,
    "epochs": 200.0,
    "groups": 1,
    "images_per_class": 2,
    "flip": "random",
    "shift": 4,
    "cutout": 0,
    "train_sizes": "",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "warmup": 0.0,
    "decay": "constant",
    "freeze_epochs": 0.0,
    "validate_epochs": 5.0,
}

FAST = PAPER | {
    "method": "dah:phi1=0.5,phi2=0.5,similar_weight=0.3,class_scale=8",
    "mirror": True,
    "flip": "alternate",
    "shift": 2,
    "optimizer": "muon:momentum=0.6,fixed_norm=true,ns_steps=3,adam_ratio=0.05",
    "learning_rate": 0.15,
    "warmup": 0.04,
    "decay": "linear",
}

# For a backbone that is trained already: first only the head is trained, then everything, by
# small steps.
TUNED = FAST | {
    "optimizer": "adam",
    "learning_rate": 3e-4,
    "warmup": 0.1,
    "freeze_epochs": 1.0,
}

# A method that learns in one fit: no step of an optimiser is taken.
FITTED = {
    "mirror": False,
    "epochs": 0.0,
    "groups": 1,
    "images_per_class": 1,
    "flip": "none",
    "shift": 0,
    "cutout": 0,
    "train_sizes": "",
    "optimizer": "sgd",
    "learning_rate": 0.0,
    "warmup": 0.0,
    "decay": "constant",
    "freeze_epochs": 0.0,
    "validate_epochs": 0.0,
}

STEP_IMAGES = 500  # images of a step in the recipe "fast"
STEPS_PER_EPOCH = 12  # the smallest number for a small data set
FAST_IMAGES = 1_200_000  # images of a whole run, which is half an hour on two CPU cores with AMX
FAST_EPOCHS = (12, 30)
# Few images are seen more often. On 4,860 images of Fashion-MNIST, 60 epochs gave no higher MAP than
# 30.
FEW_IMAGES, FEW_EPOCHS = 150_000, 60
TUNED_EPOCHS = (4, 12)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a preset needs to know.

    Attributes:
        images: int, the number of training images.
        classes: int, the number of classes in a group.
        size: int, the side of the images in pixels.
        smallest: int, the smallest side that the backbone takes.
        paper: bool, whether both the backbone and the data are the paper's.
        trained: bool, whether the backbone starts from trained weights.
        one_fit: bool, whether the method learns in one fit, without steps.
        mirrored: bool, whether a mirror image shows the same thing, which is false for digits and
            text.
    """

    images: int
    classes: int
    size: int
    smallest: int
    paper: bool
    trained: bool
    one_fit: bool = False
    mirrored: bool = True


def name_of(recipe: Recipe, facts: Facts) -> str:
    """Returns the preset that a recipe means: "paper", "fast", "tuned" or "fitted"."""
    if facts.one_fit:
        return "fitted"
    if recipe.recipe != "auto":
        return recipe.recipe
    if facts.trained:
        return "tuned"
    return "paper" if facts.paper else "fast"


def resolve(recipe: Recipe, facts: Facts) -> Recipe:
    """Decides the settings that a recipe leaves open.

    Args:
        recipe: `Recipe`.
        facts: `Facts`.

    Returns:
        `Recipe` whose `recipe` names the preset. Given settings do not change. A part that was
        given keeps its own default options, and does not get the options of the preset.
    """
    name = name_of(recipe, facts)
    chosen = dict({"paper": PAPER, "fast": FAST, "tuned": TUNED, "fitted": FITTED}[name])
    if name in ("fast", "tuned"):
        chosen |= _sized(recipe, facts, TUNED_EPOCHS if name == "tuned" else FAST_EPOCHS)
    open_settings = {key: value for key, value in chosen.items() if getattr(recipe, key) is None}
    return recipe.replace(recipe=name, **open_settings)


def told(recipe: Recipe, given: dict) -> str:
    """Says which preset a run follows, and what it decided, in one sentence or two.

    Args:
        recipe: `Recipe`, with everything decided.
        given: dict whose keys are the settings that were not left open, as a run keeps them.

    Example:
        >>> told(Recipe(recipe="fast", epochs=24.0, mirror=True), dict.fromkeys(PAPER, 1))
        'fast, chosen by auto; every setting was given'
    """
    name = f"{recipe.recipe}, {'as given' if 'recipe' in given else 'chosen by auto'}"
    values = {key: getattr(recipe, key) for key in PAPER if key not in given}
    if not values:
        return f"{name}; every setting was given"
    # What a part became, with its options, is told beside this.
    shown = [
        f"{key}={recipe.part(key).name if key in ('method', 'optimizer') else _text(value)}"
        for key, value in values.items()
        if value not in OFF
    ]
    off = [key for key, value in values.items() if value in OFF]
    without = f", without {', '.join(off)}" if off else ""
    return f"{name}. Left open and decided by it: {', '.join(shown)}{without}"


OFF = (False, 0, "", "none")  # values of settings that do nothing


def _text(value):
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _sized(recipe, facts, epochs):
    """Returns the settings that depend on the number and the size of the images."""
    per_class = recipe.images_per_class or PAPER["images_per_class"]
    group = max(facts.classes * per_class, 1)
    wanted = min(STEP_IMAGES, max(facts.images // STEPS_PER_EPOCH, 1))
    groups = recipe.groups or max(1, round(wanted / group))
    least, most = epochs
    count = min(most, max(least, round(FAST_IMAGES / max(facts.images, 1))))
    if epochs is FAST_EPOCHS:
        count = max(count, min(FEW_EPOCHS, round(FEW_IMAGES / max(facts.images, 1))))
    count = recipe.epochs or count
    found = {"groups": groups, "epochs": float(count), "validate_epochs": float(-(-count // 3))}
    smaller = round(facts.size * 0.75)
    if facts.size >= 24 and smaller >= facts.smallest:
        found["train_sizes"] = f"{smaller}:0.3,{facts.size}:0.7"
    if not facts.mirrored:
        found |= {"flip": "none", "mirror": False}
    if facts.size < 24:
        found["shift"] = 1
    return found
