"""`Recipe`: every setting of a training run, declared once. Standard library only.

This module decides the flags of the commands and their help texts, the record in the folder of a
run, the settings that may change when a run is resumed, and the settings that two runs must share
to count as seeds of one recipe.
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
    """Facts about one field of `Recipe` besides its type and default.

    Attributes:
        group: str, `DATA`, `MODEL` or `TRAINING`.
        help: str, the help text.
        low, high: the smallest and the largest value, or None.
        choices: tuple of the allowed values, or None.
        spec: bool, whether the value is a part, `name:key=value,...`.
        free: bool, whether the value may change when a run is resumed.
        local: bool, whether the setting is about this machine or its folders, so that results
            leave it out.
        varied: bool, whether runs that differ in this setting still count as runs of one recipe.
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

    If a setting is None, `recipe` or the data decides it, as its help text says. Parts such as
    `backbone` are texts `name:key=value,key=value`; see `dah_tf.parts`.

    Raises:
        UserError: a value has the wrong type or is out of its range. The message starts with the
            name of the setting.

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
    unlabelled: bool = _setting(
        False,
        DATA,
        "unlabelled: labels are passed over, and folder:PATH is any tree of images. The method must "
        "be one that learns without labels: lsh, sh, pcah or itq, which is the default.",
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
        "image_size: the side of the images in pixels. By default it is that of the data.",
        low=8,
    )
    channels: int | None = _setting(
        None,
        DATA,
        "channels: 1 for grey images, 3 for colour images. By default it is that of the data.",
        choices=(1, 3),
    )
    protocol: str = _setting(
        "auto",
        DATA,
        "protocol: decides which images train, which are queries, and which are searched: full, "
        "1k/5k/59k, 1k/5k/54k, unseen or own. auto is full if the data has test images, and own "
        "otherwise.",
        varied=True,
    )
    validation: int | None = _setting(
        None,
        DATA,
        "validation: the number of training images that do not train, but serve to choose "
        "settings. By default it is 1,000, but at most a tenth of them.",
        low=0,
    )
    cache_gib: float = _setting(
        4.0,
        DATA,
        "cache_gib: the memory in GiB that the decoded images of a folder may use.",
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
    bits: int = _setting(
        36, MODEL, "bits: the number of bits of a code.", low=1, high=1024, varied=True
    )
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
        "backbone_weights: the weights with which the backbone starts: none, imagenet, a "
        ".weights.h5 file, the folder of a run, or pretrained:NAME.",
    )
    method: str | None = _setting(
        None,
        MODEL,
        "method: the hash layer and its loss, such as dah:t=12.5,balance_weight=30 or csq. "
        "By default it is dah, with the constants of the recipe.",
        spec=True,
    )
    mirror: bool | None = _setting(
        None,
        MODEL,
        f"mirror: a code is made from an image and its mirror image together. {BY_RECIPE}",
    )

    # === Training ===
    recipe: str = _setting(
        "auto",
        TRAINING,
        "recipe: decides the settings that you do not give. paper is the training of the paper; "
        "fast has large steps, Muon and a schedule; tuned is for a backbone that is trained "
        "already. auto is tuned if backbone_weights is given, paper for the paper's network on "
        "cifar10, and fast otherwise. fitted is that of methods that learn in one fit.",
        choices=("auto", "paper", "fast", "tuned", "fitted"),
    )
    epochs: float | None = _setting(
        None, TRAINING, f"epochs: how often each training image is shown. {BY_RECIPE}", low=0.0
    )
    minutes: float | None = _setting(
        None,
        TRAINING,
        "minutes: the time from the start to the end of the run, including evaluation and export. "
        "The run measures its speed first, and sets its epochs so that it ends in time.",
        low=0.1,
        varied=True,
    )
    groups: int | None = _setting(
        None,
        TRAINING,
        f"groups: the number of class-balanced groups in a step. {BY_RECIPE}",
        low=1,
    )
    classes_per_group: int | None = _setting(
        None,
        TRAINING,
        "classes_per_group: the number of classes in a group. By default it is all classes, but "
        "at most 100.",
        low=2,
    )
    images_per_class: int | None = _setting(
        None,
        TRAINING,
        f"images_per_class: the number of images of each class in a group. {BY_RECIPE}",
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
        None,
        TRAINING,
        f"cutout: the side in pixels of the box that is cut out of an image. {BY_RECIPE}",
        low=0,
    )
    cutout_epochs: float | None = _setting(
        None,
        TRAINING,
        "cutout_epochs: the number of epochs, from the first, in which a box is cut out. By "
        "default it is all epochs.",
        low=0.0,
    )
    train_sizes: str | None = _setting(
        None,
        TRAINING,
        "train_sizes: sizes of the images, which grow during the run, each with its share of the "
        "steps, such as 16:0.4,24:0.3,32:0.3. With an empty text the size does not change. "
        f"{BY_RECIPE}",
    )
    optimizer: str | None = _setting(
        None,
        TRAINING,
        "optimizer: adam (as in the paper), sgd:momentum=0.9 or muon:ns_steps=3,fixed_norm. All of "
        f"them have the option weight_decay. {BY_RECIPE}",
        spec=True,
    )
    learning_rate: float | None = _setting(
        None, TRAINING, f"learning_rate: the highest learning rate of the run. {BY_RECIPE}", low=0.0
    )
    warmup: float | None = _setting(
        None,
        TRAINING,
        "warmup: the share of the steps, from the first, in which the learning rate rises. "
        f"{BY_RECIPE}",
        low=0.0,
        high=1.0,
    )
    decay: str | None = _setting(
        None,
        TRAINING,
        f"decay: how the learning rate changes after it has risen. {BY_RECIPE}",
        choices=("constant", "linear", "cosine"),
    )
    freeze_epochs: float | None = _setting(
        None,
        TRAINING,
        "freeze_epochs: the number of epochs, from the first, in which only the hash head is "
        f"trained. {BY_RECIPE}",
        low=0.0,
    )
    precision: str = _setting(
        "auto",
        TRAINING,
        "precision: the number format of the training. auto is mixed_bfloat16 if the hardware "
        "multiplies it fast, and float32 otherwise.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    strategy: str = _setting(
        "auto",
        TRAINING,
        "strategy: the devices that train: one, or mirrored for several GPUs. auto is mirrored if "
        "there are several GPUs.",
        choices=("auto", "one", "mirrored"),
        free=True,
        varied=True,
    )
    seed: int = _setting(
        0,
        TRAINING,
        "seed: a number that decides the random choices: splits, order, augmentation and initial "
        "weights.",
        low=0,
        high=2**32 - 1,
        varied=True,
    )

    # === How a run is kept ===
    workdir: str | None = _setting(
        None,
        TRAINING,
        "workdir: the folder of the run, with its checkpoints, logs, model and results. By default "
        "it is runs/DATASET-BACKBONE-BITS. pretrained:NAME is a model that comes with dah_tf.",
        free=True,
        local=True,
    )
    checkpoint_steps: int = _setting(
        0,
        TRAINING,
        "checkpoint_steps: the number of steps between checkpoints. With 0, checkpoint_minutes "
        "decides.",
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
        "validate_epochs: the number of epochs between validations; with 0 there are none. "
        f"{BY_RECIPE}",
        low=0.0,
        varied=True,
    )
    evaluate: bool = _setting(
        True,
        TRAINING,
        "evaluate: the run ends with an evaluation on the queries of the protocol.",
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
        "note: a text that is shown with the figures of the run, such as a variant of the data.",
        free=True,
        varied=True,
    )

    def __post_init__(self):
        for name, hint in typing.get_type_hints(type(self)).items():
            value = _checked(name, getattr(self, name), hint, SETTINGS[name])
            object.__setattr__(self, name, value)

    def as_dict(self) -> dict:
        """Returns all settings by their names, in types that JSON can hold."""
        return dataclasses.asdict(self)

    def replace(self, **changes: typing.Any) -> "Recipe":
        """Returns a recipe with some settings changed."""
        return dataclasses.replace(self, **changes)

    def part(self, name: str) -> parts.Spec:
        """Returns a setting that is a part, as a `Spec`."""
        return parts.parse(getattr(self, name))


SETTINGS = {each.name: each.metadata["setting"] for each in dataclasses.fields(Recipe)}


def _checked(name, value, hint, setting):
    """Checks a value, and converts an int to a float if the field needs a float."""
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


# In version 0.2.0 these options of parts were settings of their own. This table serves to read the
# folders and result files of that version, and its flags are still accepted.
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
    """Returns the name of each old setting, with the setting whose part has it as an option now."""
    return {
        key: setting
        for setting, tables in MOVED.items()
        for keys in tables.values()
        for key in keys
    }


def upgraded(flags: dict) -> dict:
    """Converts recorded settings of any version to settings of `Recipe`.

    Args:
        flags: dict of a flags.json or a result file.

    Returns:
        Dict of settings, without those that the record does not have.
    """
    flags = dict(flags)
    if isinstance(flags.get("channels"), str):
        flags["channels"] = int(flags["channels"])
    old = flags.keys() & moved().keys()
    if old:
        flags.setdefault("method", "dah")
        # Version 0.2.0 had no recipes: every setting that they decide was always given.
        flags.setdefault("recipe", "paper")
        for setting, tables in MOVED.items():
            if setting not in flags:  # a result file that somebody has cut down
                continue
            spec = parts.parse(flags[setting])
            known = tables.get(spec.name, ())
            given = {key: parts.write(flags[key]) for key in known if flags.get(key) is not None}
            flags[setting] = str(parts.Spec(spec.name, {**given, **spec.arguments}))
    return {name: value for name, value in flags.items() if name in SETTINGS}


def from_record(flags: dict) -> Recipe:
    """Returns the recipe in the record of a run.

    Raises:
        UserError: the value of a setting is not allowed.
    """
    return Recipe(**upgraded(flags))


def differences(given: Recipe, recorded: Recipe) -> list[str]:
    """Compares a recipe with the one with which a run was begun.

    A setting that is None agrees with any recorded value, because the recipe decided it. The same
    holds for options of a part that are not given.

    Returns:
        List of str, one for each setting that must not change but differs.
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
    """Returns the settings that differ from their defaults and must not change in a run.

    Returns:
        Dict such as `{"epochs": 24.0, "method": "dah", "method.t": 12.5}`. Each option of a part
        has its own entry.
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
    """Returns recorded settings in a form in which two runs can be compared.

    Args:
        flags: dict of a flags.json or a result file of any version.

    Returns:
        Dict such as `{"epochs": 24.0, "method.t": 12.5, "backbone": "compact"}`. Each option of a
        part has its own entry. Settings without a value and options that are "none" are left out.
        So are switches that are off as by default, and `recipe`, because a record has what it
        decided.
    """
    result, defaults = {}, {field.name: field.default for field in dataclasses.fields(Recipe)}
    for name, value in upgraded(flags).items():
        off = value is False and defaults[name] is False
        if value is None or value == "" or off or name == "recipe":
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
    """Converts the text of an option to a number or boolean if possible, for comparisons."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE):
        return float(text)
    return text
