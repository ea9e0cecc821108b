"""`Recipe`: every setting of a training run, declared once. Standard library only.

The flags of the commands, the record in a run's folder, what may change when a run is resumed,
what two runs must share to be seeds of one recipe, and the help texts all come from here.
"""

import dataclasses
import math
import re
import types
import typing

from dah_tf import parts
from dah_tf.errors import UserError

DATA, MODEL, TRAINING = "data", "model", "training"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one field of `Recipe` beside its type and default.

    Attributes:
        group: str, `DATA`, `MODEL` or `TRAINING`.
        help: str.
        low, high: the least and the greatest value, or None.
        choices: tuple of the values that are allowed, or None.
        spec: bool; the value is a part, `name:key=value,...`.
        free: bool; it may be another when a run is resumed.
        local: bool; it names a place on this machine, or how a run is kept, and is no part of a
            result.
        varied: bool; runs that differ in it are still runs of one recipe.
    """

    group: str
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple | None = None
    spec: bool = False
    free: bool = False
    local: bool = False
    varied: bool = False


def _setting(default, group, text, **facts):
    return dataclasses.field(default=default, metadata={"setting": Setting(group, text, **facts)})


BY_RECIPE = "By default the recipe decides."


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of a training run.

    A setting that is None is decided by `recipe`, or by the data, as its help text says. Parts
    such as `backbone` are texts `name:key=value,key=value`, see `dah_tf.parts`.

    Raises:
        UserError: a value of another type or out of its range; the message begins with the
            setting's name.

    Example:
        >>> recipe = Recipe(dataset="digits", bits=24, backbone="compact:depth=3")
        >>> recipe.bits, recipe.epochs
        (24, None)
    """

    # === Data ===
    dataset: str = _setting(
        "cifar10",
        DATA,
        "dataset: cifar10, tfds:NAME, folder:PATH (a folder for each class, inside optional train "
        "and test folders), csv:FILE (rows path,label[;label...]), npz:FILE (x_train, y_train, "
        "x_test, y_test) or digits.",
        varied=True,
    )
    data_dir: str | None = _setting(
        None,
        DATA,
        "data_dir: the folder in which TensorFlow Datasets keeps its data.",
        free=True,
        local=True,
    )
    image_size: int | None = _setting(
        None,
        DATA,
        "image_size: the images' side in pixels. By default it is the data's own.",
        low=8,
    )
    channels: int | None = _setting(
        None,
        DATA,
        "channels: 1 for grey images, 3 for colour. By default they are the data's own.",
        choices=(1, 3),
    )
    protocol: str = _setting(
        "auto",
        DATA,
        "protocol: which images train, are queries and are searched: full, 1k/5k/59k, 1k/5k/54k, "
        "unseen or own. auto is full where the data has test images, and own where it has none.",
        varied=True,
    )
    validation: int | None = _setting(
        None,
        DATA,
        "validation: the number of training images that are kept apart for choosing settings. By "
        "default it is 1,000, but at most a tenth.",
        low=0,
    )
    cache_gib: float = _setting(
        4.0,
        DATA,
        "cache_gib: the memory in GiB that decoded images of a folder may take.",
        low=0.0,
        free=True,
        varied=True,
    )
    max_unreadable: float = _setting(
        0.01,
        DATA,
        "max_unreadable: the share of image files that may be unreadable, from 0 to 1.",
        low=0.0,
        high=1.0,
        free=True,
        varied=True,
    )

    # === Model ===
    bits: int = _setting(36, MODEL, "bits: the code length.", low=1, high=1024, varied=True)
    backbone: str = _setting(
        "resnet30",
        MODEL,
        "backbone: the network, such as resnet30, compact:widths=128/256/256,depth=3, resnet50 or "
        "the name of another Keras Applications network.",
        spec=True,
        varied=True,
    )
    features: str | None = _setting(
        None,
        MODEL,
        "features: what a method that learns in one fit sees of an image: gist, hog, pixels, "
        "run:DIR for those of a trained run, or application:NAME for a network of Keras "
        "Applications with its ImageNet weights. By default gist, unless backbone_weights are "
        "given.",
    )
    backbone_weights: str = _setting(
        "none",
        MODEL,
        "backbone_weights: what the backbone starts from: none, imagenet, a .weights.h5 file, the "
        "folder of a run, or pretrained:NAME.",
    )
    method: str | None = _setting(
        None,
        MODEL,
        "method: the hash layer and its loss, such as dah:t=12.5,balance_weight=30, ce or dpsh. "
        "By default it is dah, with the constants of the recipe.",
        spec=True,
    )
    mirror: bool | None = _setting(
        None,
        MODEL,
        f"mirror: codes come from each image and its mirror image together. {BY_RECIPE}",
    )

    # === Training ===
    recipe: str = _setting(
        "auto",
        TRAINING,
        "recipe: what decides the settings that are not given. paper is the paper's own training; "
        "fast has large steps, Muon and a schedule; tuned is for a backbone that is trained "
        "already. auto takes tuned where backbone_weights are given, paper for the paper's "
        "network on cifar10, and fast otherwise.",
        choices=("auto", "paper", "fast", "tuned", "fitted"),
    )
    epochs: float | None = _setting(
        None, TRAINING, f"epochs: how often the training images are shown. {BY_RECIPE}", low=0.0
    )
    minutes: float | None = _setting(
        None,
        TRAINING,
        "minutes: the time from the start to the end of the run, evaluation and export among it. "
        "The run measures its speed first, and sets its epochs so that it ends in time.",
        low=0.1,
        varied=True,
    )
    groups: int | None = _setting(
        None, TRAINING, f"groups: the class-balanced groups of a step. {BY_RECIPE}", low=1
    )
    classes_per_group: int | None = _setting(
        None,
        TRAINING,
        "classes_per_group: the classes in a group. By default they are all, but at most 100.",
        low=2,
    )
    images_per_class: int | None = _setting(
        None,
        TRAINING,
        f"images_per_class: the images of each class in a group. {BY_RECIPE}",
        low=1,
    )
    flip: str | None = _setting(
        None,
        TRAINING,
        f"flip: how images are mirrored left to right in training. {BY_RECIPE}",
        choices=("none", "random", "alternate"),
    )
    shift: int | None = _setting(
        None, TRAINING, f"shift: the largest random shift in pixels. {BY_RECIPE}", low=0
    )
    cutout: int | None = _setting(
        None, TRAINING, f"cutout: the side in pixels of a box that is cut out. {BY_RECIPE}", low=0
    )
    cutout_epochs: float | None = _setting(
        None,
        TRAINING,
        "cutout_epochs: the first epochs in which a box is cut out. By default they are all.",
        low=0.0,
    )
    train_sizes: str | None = _setting(
        None,
        TRAINING,
        "train_sizes: image sizes that grow during the run, SIZE:SHARE,... of its steps, such as "
        f"16:0.4,24:0.3,32:0.3; an empty text keeps one size. {BY_RECIPE}",
    )
    optimizer: str | None = _setting(
        None,
        TRAINING,
        "optimizer: adam (the paper's), sgd:momentum=0.9 or muon:ns_steps=3,fixed_norm; all take "
        f"weight_decay. {BY_RECIPE}",
        spec=True,
    )
    learning_rate: float | None = _setting(
        None, TRAINING, f"learning_rate: the highest learning rate of the run. {BY_RECIPE}", low=0.0
    )
    warmup: float | None = _setting(
        None,
        TRAINING,
        f"warmup: the share of the steps in which the learning rate rises. {BY_RECIPE}",
        low=0.0,
        high=1.0,
    )
    decay: str | None = _setting(
        None,
        TRAINING,
        f"decay: the course of the learning rate after its rise. {BY_RECIPE}",
        choices=("constant", "linear", "cosine"),
    )
    freeze_epochs: float | None = _setting(
        None,
        TRAINING,
        f"freeze_epochs: the first epochs, in which only the hash head is trained. {BY_RECIPE}",
        low=0.0,
    )
    precision: str = _setting(
        "auto",
        TRAINING,
        "precision: the arithmetic of training. auto is mixed_bfloat16 where the hardware "
        "multiplies it fast, and float32 otherwise.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    strategy: str = _setting(
        "auto",
        TRAINING,
        "strategy: the devices that train. auto is mirrored where there are several GPUs.",
        choices=("auto", "one", "mirrored"),
        free=True,
        varied=True,
    )
    seed: int = _setting(
        0,
        TRAINING,
        "seed: it decides splits, order, augmentation and initial weights.",
        low=0,
        high=2**32 - 1,
        varied=True,
    )

    # === How a run is kept ===
    workdir: str | None = _setting(
        None,
        TRAINING,
        "workdir: the run's folder, with its checkpoints, logs, model and results. By default it "
        "is runs/DATASET-BACKBONE-BITS. A model that ships with dah_tf is pretrained:NAME.",
        free=True,
        local=True,
    )
    checkpoint_steps: int = _setting(
        0,
        TRAINING,
        "checkpoint_steps: the steps between checkpoints; 0 leaves it to checkpoint_minutes.",
        low=0,
        free=True,
        varied=True,
    )
    checkpoint_minutes: float = _setting(
        5.0,
        TRAINING,
        "checkpoint_minutes: the minutes between checkpoints.",
        low=0.0,
        free=True,
        varied=True,
    )
    validate_epochs: float | None = _setting(
        None,
        TRAINING,
        f"validate_epochs: the epochs between validations; 0 leaves them out. {BY_RECIPE}",
        low=0.0,
        varied=True,
    )
    evaluate: bool = _setting(
        True,
        TRAINING,
        "evaluate: the run ends with an evaluation on the protocol's queries.",
        free=True,
        varied=True,
    )
    export: bool = _setting(
        True,
        TRAINING,
        "export: the run ends with a SavedModel in WORKDIR/export/1.",
        free=True,
        varied=True,
    )
    note: str = _setting(
        "",
        TRAINING,
        "note: a text that stands beside the run's figures, such as a variant of the data.",
        free=True,
        varied=True,
    )

    def __post_init__(self):
        for name, hint in typing.get_type_hints(type(self)).items():
            value = _checked(name, getattr(self, name), hint, SETTINGS[name])
            object.__setattr__(self, name, value)

    def as_dict(self) -> dict:
        """Every setting by its name, as JSON can hold it."""
        return dataclasses.asdict(self)

    def replace(self, **changes):
        """A recipe with some settings changed."""
        return dataclasses.replace(self, **changes)

    def part(self, name: str) -> parts.Spec:
        """A setting that is a part, read: `Spec`."""
        return parts.parse(getattr(self, name))


SETTINGS = {each.name: each.metadata["setting"] for each in dataclasses.fields(Recipe)}


def _checked(name, value, hint, setting):
    """A value as its field holds it; whole floats become ints and ints floats."""
    options = [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [each for each in typing.get_args(hint) if each is not type(None)]
        if value is None:
            return None
    (kind,) = options
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is str and hasattr(value, "__fspath__"):
        value = str(value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy number
        value = value.item()
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {str: "a text", int: "a whole number", float: "a number", bool: "True or False"}
        raise UserError(f"{name}={value!r} must be {names[kind]}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{name}={value} must be a finite number")
    if setting.low is not None and value < setting.low:
        raise UserError(f"{name}={value} must be at least {setting.low}")
    if setting.high is not None and value > setting.high:
        raise UserError(f"{name}={value} must be at most {setting.high}")
    if setting.choices and value not in setting.choices:
        known = ", ".join(str(each) for each in setting.choices)
        raise UserError(f"{name}={value} must be one of {known}")
    if setting.spec:
        try:
            parts.parse(value)
        except UserError as error:
            raise UserError(f"{name}={value}: {error}") from None
    return value


# Settings of version 0.2.0 that are options of a part now, by the part's name. Folders and result
# files of that version are read by it, and its flags are still accepted.
MOVED = {
    "backbone": {"resnet30": ("attention",), "compact": ("widths", "depth", "attention")},
    "method": {
        "dah": (
            "phi1",
            "phi2",
            "t",
            "similar_weight",
            "balance_weight",
            "label_smoothing",
            "class_scale",
        )
    },
    "optimizer": {
        "adam": ("weight_decay",),
        "sgd": ("momentum", "weight_decay"),
        "muon": ("momentum", "weight_decay", "adam_ratio", "fixed_norm", "ns_steps"),
    },
}

# What an option was where a record of version 0.2.0 has none: the default of that time, which a
# record of today writes out.
UNRECORDED = {("backbone", "compact"): {"widths": "64/256/256", "depth": "2"}}


def moved() -> dict:
    """Each old setting's name and the setting whose part has it now."""
    return {
        key: setting
        for setting, tables in MOVED.items()
        for keys in tables.values()
        for key in keys
    }


def upgraded(flags: dict) -> dict:
    """Recorded settings of any version as `Recipe` has them.

    Args:
        flags: dict of a flags.json or a result file.

    Returns:
        Dict of settings; one that the record does not have is left out.
    """
    flags = dict(flags)
    if isinstance(flags.get("channels"), str):
        flags["channels"] = int(flags["channels"])
    old = flags.keys() & moved().keys()
    if old:
        flags.setdefault("method", "dah")
        # It did not know recipes; what they decide was always given.
        flags.setdefault("recipe", "paper")
        for setting, tables in MOVED.items():
            spec = parts.parse(flags[setting])
            known = tables.get(spec.name, ())
            given = {key: parts.write(flags[key]) for key in known if flags.get(key) is not None}
            flags[setting] = str(parts.Spec(spec.name, {**given, **spec.arguments}))
    return {name: value for name, value in flags.items() if name in SETTINGS}


def from_record(flags: dict) -> Recipe:
    """The recipe that a run's record holds.

    Raises:
        UserError: a setting is not what it can be.
    """
    return Recipe(**upgraded(flags))


def differences(given: Recipe, recorded: Recipe) -> list[str]:
    """How a recipe differs from the one that a run was begun with.

    A setting that is None was left to the recipe, and agrees with what it became; so do options
    of a part that are not given.

    Returns:
        List of str, one a setting that must stay as it was.
    """
    found = []
    for name, setting in SETTINGS.items():
        ours, theirs = getattr(given, name), getattr(recorded, name)
        if setting.free or ours == theirs or _left_open(name, ours):
            continue
        if setting.spec and theirs is not None:
            found += _part_differences(name, given.part(name), recorded.part(name))
        else:
            found.append(f"{name} was {theirs!r}, now {ours!r}")
    return found


def _part_differences(name, given, recorded):
    if given.name != recorded.name:
        return [f"{name} was {recorded.name}, now {given.name}"]
    return [
        f"{name}.{key} was {recorded.arguments.get(key, 'left out')}, now {value}"
        for key, value in given.arguments.items()
        if not parts.agree(parts.Spec(given.name, {key: value}), recorded)
    ]


def _left_open(name, value):
    return value is None or (name in ("recipe", "protocol") and value == "auto")


def closed(given: Recipe) -> dict:
    """The settings of a recipe that are not left at their defaults, of those that must stay.

    Returns:
        Dict such as `{"epochs": 24.0, "method": "dah", "method.t": 12.5}`, options of parts one by
        one.
    """
    found = {}
    for field in dataclasses.fields(Recipe):
        name, value = field.name, getattr(given, field.name)
        if SETTINGS[name].free or value == field.default:
            continue
        if SETTINGS[name].spec:
            part = given.part(name)
            found[name] = part.name
            found |= {f"{name}.{key}": _value(text) for key, text in part.arguments.items()}
        else:
            found[name] = value
    return found


def comparable(flags: dict) -> dict:
    """Recorded settings as two runs are compared by, options of parts one by one.

    Args:
        flags: dict of a flags.json or a result file of any version.

    Returns:
        Dict such as `{"epochs": 24.0, "method.t": 12.5, "backbone": "compact"}`. Settings that are
        not given, and options that are "none", are left out; so is `recipe`, since a record has
        what it decided.
    """
    result = {}
    for name, value in upgraded(flags).items():
        if value is None or value == "" or name == "recipe":
            continue
        if not SETTINGS[name].spec:
            result[name] = value
            continue
        spec = parts.parse(value)
        result[name] = spec.name
        unrecorded = UNRECORDED.get((name, spec.name), {})
        for key, text in {**unrecorded, **spec.arguments}.items():
            if text != "none":
                result[f"{name}.{key}"] = _value(text)
    return result


def _value(text):
    """An option's text as a number or boolean where it is one, so that equal ones are equal."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE):
        return float(text)
    return text
