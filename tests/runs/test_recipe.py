"""`Recipe`: checks, records of earlier versions, what a resumed run may change."""

import dataclasses
import json
import pathlib
import textwrap
import typing

import numpy as np
import pytest

from dah_tf.errors import UserError
from dah_tf.runs import presets
from dah_tf.runs import recipe as recipes
from dah_tf.runs.recipe import SETTINGS, Recipe

HERE = pathlib.Path(__file__).resolve().parents[1]
OLD = json.loads((HERE / "data" / "v0.2.0" / "run_flags.json").read_text())["flags"]


def test_every_setting_says_what_it_is():
    for field in dataclasses.fields(Recipe):
        setting = SETTINGS[field.name]
        assert setting.help.startswith(f"{field.name}: ") and setting.help.endswith("."), field.name
        assert setting.group in (recipes.DATA, recipes.MODEL, recipes.TRAINING)
        hints = typing.get_type_hints(Recipe)[field.name]
        assert field.default is not None or type(None) in typing.get_args(hints)


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"bits": 0}, "bits=0 must be at least 1"),
        ({"bits": 2000}, "bits=2000 must be at most 1024"),
        ({"bits": "36"}, "bits='36' must be a whole number"),
        ({"bits": True}, "bits=True must be a whole number"),
        ({"bits": 36.5}, "bits=36.5 must be a whole number"),
        ({"epochs": float("nan")}, "epochs=nan must be a finite number"),
        ({"epochs": "3"}, "epochs='3' must be a number"),
        ({"mirror": 1}, "mirror=1 must be True or False"),
        ({"flip": "up"}, "flip=up must be one of none, random, alternate"),
        ({"channels": 2}, "channels=2 must be one of 1, 3"),
        ({"dataset": None}, "dataset=None must be a text"),
        ({"method": "dah:t="}, "method=dah:t=: 'dah:t=' is not of the form"),
        ({"recipe": "slow"}, "recipe=slow must be one of auto, paper, fast, tuned"),
    ],
)
def test_refuses_what_no_setting_can_be(settings, reason):
    with pytest.raises(UserError) as caught:
        Recipe(**settings)
    assert reason in str(caught.value)


def test_numbers_and_paths_become_what_the_field_holds(tmp_path):
    recipe = Recipe(epochs=3, bits=np.int64(12), workdir=tmp_path, learning_rate=np.float32(0.5))
    assert recipe.epochs == 3.0 and isinstance(recipe.epochs, float)
    assert type(recipe.bits) is int and recipe.workdir == str(tmp_path)
    assert recipe.learning_rate == 0.5
    assert json.loads(json.dumps(recipe.as_dict())) == recipe.as_dict()
    assert Recipe(**recipe.as_dict()) == recipe


def test_a_record_of_version_0_2_0_is_read():
    recipe = recipes.from_record(OLD)
    assert recipe.part("backbone").name == "compact"
    assert recipe.part("backbone").arguments == {"widths": "8/16/16", "attention": "false"}
    method = recipe.part("method")
    assert method.name == "dah" and "t" not in method.arguments  # it was None: bits / 4.8
    assert {k: float(v) for k, v in method.arguments.items()} == {
        "phi1": 0.5,
        "phi2": 0.5,
        "similar_weight": 0.3,
        "balance_weight": 1.0,
        "label_smoothing": 0.1,
        "class_scale": 8.0,
    }
    assert recipe.part("optimizer").arguments["fixed_norm"] == "false"
    assert recipe.channels is None and recipe.bits == 16 and recipe.mirror is True
    assert recipes.from_record(OLD | {"channels": "3"}).channels == 3
    assert recipes.from_record(OLD | {"backbone": "resnet50"}).backbone == "resnet50"


def test_the_same_recipe_of_two_versions_compares_equal():
    now = recipes.from_record(OLD).as_dict()
    new = {"evaluate": True, "max_unreadable": 0.01}  # what version 0.2.0 did not know
    assert recipes.comparable(now) == recipes.comparable(OLD) | new
    flat = recipes.comparable(OLD)
    assert flat["backbone"] == "compact" and flat["backbone.widths"] == "8/16/16"
    assert flat["method.phi1"] == 0.5 and flat["optimizer.adam_ratio"] == 0.2
    assert recipes.comparable(OLD | {"phi1": 0.25}) != flat
    # The recipe's name says nothing beside what it decided.
    assert recipes.comparable(now | {"recipe": "fast"}) == recipes.comparable(now)
    # What a default was then is written out today.
    compact = {"depth": None, "widths": None}
    written = "compact:widths=64/256/256,depth=2,attention=false"
    assert (
        recipes.comparable(now | {"backbone": written}) == recipes.comparable(OLD | compact) | new
    )
    # Newton-Schulz steps are nothing to Adam.
    adam = OLD | {"optimizer": "adam"}
    assert recipes.comparable(adam | {"ns_steps": 3}) == recipes.comparable(adam)


def test_what_may_change_when_a_run_is_resumed():
    begun = Recipe(
        dataset="digits",
        backbone="compact:widths=8/16/16,depth=2,attention=true",
        method="dah:phi1=1.0,t=none",
        optimizer="adam:weight_decay=0.0",
        epochs=3,
        recipe="fast",
        protocol="full",
        mirror=True,
        validation=10,
    )
    given = Recipe(dataset="digits", backbone="compact", validation=10)
    assert recipes.differences(given, begun) == []
    assert recipes.differences(given.replace(method="dah:phi1=1", epochs=3.0), begun) == []
    free = {"data_dir": "x", "workdir": "y", "cache_gib": 1.0, "note": "z", "export": False}
    assert recipes.differences(given.replace(**free), begun) == []
    changed = recipes.differences(
        given.replace(bits=24, backbone="compact:depth=3", method="ce", epochs=4.0, seed=1), begun
    )
    names = [each.split()[0] for each in changed]
    assert names == ["bits", "backbone.depth", "method", "epochs", "seed"]
    assert "method was dah, now ce" in changed and "backbone.depth was 2, now 3" in changed
    assert "bits was 36, now 24" in changed


FACTS = presets.Facts(
    images=6000, classes=10, size=32, smallest=16, paper=False, trained=False, mirrored=True
)


def test_presets_decide_what_was_left_open_and_nothing_else():
    for facts, name in (
        (FACTS, "fast"),
        (dataclasses.replace(FACTS, paper=True), "paper"),
        (dataclasses.replace(FACTS, paper=True, trained=True), "tuned"),
    ):
        recipe = presets.resolve(Recipe(learning_rate=0.5, method="dah:t=2"), facts)
        assert recipe.recipe == name
        assert recipe.learning_rate == 0.5 and recipe.method == "dah:t=2"
        open_settings = {"image_size", "channels", "validation", "data_dir", "workdir"}
        open_settings |= {"classes_per_group", "cutout_epochs", "features", "minutes"}
        undecided = {k for k, v in recipe.as_dict().items() if v is None}
        assert undecided == open_settings
    assert presets.resolve(Recipe(recipe="paper"), FACTS).groups == 1


def test_a_record_without_a_part_is_read():
    found = recipes.comparable({"bits": 24, "phi1": 0.5, "momentum": 0.6})
    assert found == {"bits": 24, "method": "dah", "method.phi1": 0.5}


def test_the_paper_is_what_the_paper_prints():
    recipe = presets.resolve(Recipe(recipe="paper"), FACTS)
    assert recipe.optimizer == "adam" and recipe.learning_rate == 1e-3 and recipe.groups == 1
    assert recipe.method == "dah" and recipe.images_per_class == 2 and recipe.mirror is False


@pytest.mark.parametrize("images", [50, 500, 6000, 50_000, 1_000_000])
def test_a_fast_recipe_fits_the_data(images):
    recipe = presets.resolve(Recipe(), dataclasses.replace(FACTS, images=images))
    step = recipe.groups * 20
    assert step <= presets.STEP_IMAGES or recipe.groups == 1
    expected = {50: 60, 500: 60, 6000: 30, 50_000: 24, 1_000_000: 12}
    assert recipe.epochs == expected[images]
    sizes = [int(part.split(":")[0]) for part in recipe.train_sizes.split(",")]
    assert sizes == [24, 32] and min(sizes) >= FACTS.smallest


def test_digits_and_small_images():
    facts = dataclasses.replace(FACTS, size=16, mirrored=False)
    recipe = presets.resolve(Recipe(), facts)
    assert recipe.train_sizes == "" and recipe.flip == "none" and recipe.mirror is False


def test_what_a_preset_decided_is_told_in_full():
    recipe = presets.resolve(Recipe(shift=3, method="ce", optimizer="adam"), FACTS)
    given = recipes.closed(Recipe(shift=3, method="ce", optimizer="adam"))
    text = presets.told(recipe, given)
    name, _, rest = text.partition(". Left open and decided by it: ")
    assert name == f"{recipe.recipe}, chosen by auto"
    decided, _, off = rest.partition(", without ")
    values = dict(each.split("=") for each in decided.split(", "))
    off = off.split(", ")
    # Each setting of the preset is given, or decided, or without effect; none is told twice.
    left = [name for name in presets.PAPER if name not in ("shift", "method", "optimizer")]
    assert sorted([*values, *off]) == sorted(left)
    assert float(values["learning_rate"]) == recipe.learning_rate
    assert int(values["groups"]) == recipe.groups and float(values["epochs"]) == recipe.epochs
    assert all(getattr(recipe, name) in (False, 0, "", "none") for name in off)


@pytest.mark.parametrize("name", ["paper", "fast", "tuned"])
def test_what_a_preset_decided_fits_three_lines(name):
    facts = dataclasses.replace(FACTS, images=1_234_567, size=224, classes=100)
    recipe = presets.resolve(Recipe(recipe=name), facts)
    text = presets.told(recipe, {"recipe": name})
    assert text.startswith(f"{name}, as given. Left open and decided by it: method=dah, ")
    assert len(textwrap.wrap(text, 110)) <= 3
    assert presets.told(recipe, dict.fromkeys([*presets.PAPER, "recipe"])) == (
        f"{name}, as given; every setting was given"
    )
