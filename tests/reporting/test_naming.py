"""What methods and recipes are called, of records of any version."""

import json
import pathlib

import pytest
from report_runs import FLAGS, result, store

from dah_tf.reporting import collection, naming
from dah_tf.runs import recipe as recipes

OLD = json.loads(
    (pathlib.Path(__file__).parents[1] / "data" / "v0.2.0" / "run_flags.json").read_text()
)["flags"]


def methods(folder, *flags):
    """The names that runs of these flags have beside each other, in the order given."""
    for number, each in enumerate(flags):
        run = {"name": f"{number:02}", "flags": {**FLAGS, "bits": 12, **each}}
        store(folder / f"{number:02}", result(12, 0.5 + number / 100, run=run))
    runs, _ = collection.find([str(folder)])
    return [run.method for run in sorted(runs, key=lambda run: run.name)]


def test_what_makes_no_other_method(tmp_path):
    told = [{"seed": 7, "workdir": "x"}, {"cache_gib": 9.0, "note": "y", "export": False}]
    told += [{"data_dir": "/z", "validate_epochs": 3.0}, {"bits": 24}]
    assert methods(tmp_path, {}, *told) == ["resnet30"] * 5


def test_every_setting_that_varies_or_is_local_is_left_out():
    record = recipes.Recipe(workdir="x", data_dir="y", note="z").as_dict()
    found = naming.settings(record)
    varied = {name for name, each in recipes.SETTINGS.items() if each.varied}
    assert not set(naming.of_recipe(found)) & varied
    assert not {"workdir", "data_dir"} & set(found)
    assert {"precision", "backbone_weights"} <= set(naming.of_recipe(found))
    assert {"bits", "seed"} <= set(found) & varied


def test_attention_counts_where_a_network_has_it(tmp_path):
    flags = [{"backbone": "VGG16"}, {"backbone": "VGG16", "attention": False}]
    assert methods(tmp_path, *flags) == ["VGG16"] * 2
    flags = [{"attention": True}, {"attention": False}]
    assert methods(tmp_path / "other", *flags) == ["resnet30, attention=true", "resnet30"]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ([{}], [""]),
        ([{}, {"epochs": 8.0}], ["epochs=4", "epochs=8"]),
        # Of the many the usual ones; each of the few by what it has unlike them.
        (
            [{}, {"epochs": 8.0, "cutout": 8}, {"t": 12.5}, {"flip": "none"}, {"phi1": 0.0}],
            ["usual settings", "epochs=8, cutout=8", "t=12.5", "flip=none", "phi1=0"],
        ),
        # A neighbour that has one of two.
        (
            [{"epochs": 8.0, "cutout": 8}, {"epochs": 8.0}, {}, {}],
            ["cutout=8", "epochs=8, cutout=none", "epochs=4", "epochs=4"],
        ),
        # Long ones are told by few settings, of training before others.
        (
            [{}, {"epochs": 8.0, "shift": 1, "phi1": 0.5, "t": 3.0, "mirror": True}],
            ["epochs=4, …", "epochs=8, …"],
        ),
        (
            [{}, {"train_sizes": "16:0.5,24:0.5"}, {"optimizer": "sgd", "momentum": 0.9}],
            ["train_sizes=none, optimizer=adam", "train_sizes=16:0.5,24:0.5"]
            + ["optimizer=sgd, momentum=0.9"],
        ),
    ],
)
def test_recipes_are_named_by_what_they_have_unlike_their_neighbours(tmp_path, flags, names):
    found = methods(tmp_path, *flags)
    assert found == [f"resnet30, {name}" if name else "resnet30" for name in names]


def test_names_are_never_alike():
    """All recipes of four settings of three values: each has a name of its own."""
    every = [
        {"epochs": a, "groups": b, "cutout": c, "method.t": d, "flip": e}
        for a in (1.0, 2.0, None)
        for b in (1, 2, 3)
        for c in (0, 4)
        for d in (1.5, None)
        for e in ("none", "random")
    ]
    every = [{k: v for k, v in each.items() if v is not None} for each in every]
    names = naming.called(every)
    assert len(set(names)) == len(every) == 72
    assert "usual settings" in names


def test_options_of_a_part_tell_where_the_part_alone_would_not():
    def recipe(optimizer, groups, momentum=None):
        given = {} if momentum is None else {"optimizer.momentum": momentum}
        return {"optimizer": optimizer, "groups": groups, **given}

    adam = [recipe("adam", n) for n in (1, 2, 3)]
    muon = [recipe("muon", n, 0.9) for n in (1, 2, 3)]
    # The usual optimizer is Adam, the usual momentum 0.9 of the others.
    sgd = [recipe("sgd", 1, 0.9), recipe("sgd", 2, 0.9)]
    assert naming.called([*adam, *muon, *sgd])[6:] == ["optimizer=sgd", "groups=2, optimizer=sgd"]
    found = naming.called([*adam, *muon, *sgd, recipe("sgd", 1)])
    assert len(set(found)) == 9
    assert (found[6], found[8]) == ("optimizer=sgd", "optimizer=sgd, momentum=none")


def test_hash_methods_are_named_where_there_are_several(tmp_path):
    today = {"backbone": "resnet30:attention=true", "optimizer": "adam", "epochs": 4.0, "seed": 0}
    for name in ("ce", "dpsh"):
        store(tmp_path / name, result(12, 0.5, run={"flags": {**today, "method": name}}))
    runs, _ = collection.find([str(tmp_path)])
    assert [run.method for run in runs] == ["ce, resnet30", "dpsh, resnet30"]


def test_old_and_new_flags_are_one_recipe(tmp_path):
    """A result of version 0.2.0, and one of today of another seed with the same settings."""
    old = {**OLD, "seed": 0, "t": 12.5, "momentum": 0.6, "optimizer": "muon", "attention": True}
    new = recipes.from_record({**old, "seed": 1}).as_dict()
    assert not set(recipes.moved()) & set(new)
    new["recipe"] = "fast"  # which decided the same
    store(tmp_path / "old", result(16, 0.90, run={"flags": old}))
    store(tmp_path / "new", result(16, 0.92, run={"flags": new}))
    store(tmp_path / "other", result(16, 0.5, run={"flags": {**old, "t": 3.0}}))
    runs, problems = collection.find([str(tmp_path)])
    assert problems == []
    [section] = collection.sections(runs)
    assert [(method, len(those)) for method, _, those in section.groups] == [
        ("compact, t=3", 1),
        ("compact, t=12.5", 2),
    ]


def test_defaults_that_version_0_2_0_did_not_record(tmp_path):
    flags = {k: v for k, v in OLD.items() if k not in ("widths", "depth")}
    new = recipes.from_record(flags).as_dict()
    assert new["backbone"] == "compact:attention=false"
    new["backbone"] = "compact:widths=64/256/256,depth=2,attention=false"  # as a run writes it
    store(tmp_path / "old", result(16, 0.90, run={"flags": flags}))
    store(tmp_path / "new", result(16, 0.92, run={"flags": new}))
    runs, _ = collection.find([str(tmp_path)])
    assert [run.method for run in runs] == ["compact", "compact"]
    assert runs[0].settings["backbone.depth"] == runs[1].settings["backbone.depth"] == 2


def test_what_evaluation_was_told_counts(tmp_path):
    run = {"flags": {**FLAGS, "mirror": False}}
    store(tmp_path / "plain", result(12, 0.90, run=run, mirror=False))
    store(tmp_path / "mirrored", result(12, 0.92, run=run, mirror=True))
    runs, _ = collection.find([str(tmp_path)])
    assert {run.method for run in runs} == {"resnet30, mirror=false", "resnet30, mirror=true"}


@pytest.mark.parametrize(
    "flags",
    [
        {"backbone": 7, "t": 1.0},
        {"backbone": "compact", "t": 1.0},  # no optimizer beside a flag of the old ones
        {"backbone": "compact:depth"},
        {"backbone": "compact:=", "method": "dah"},
        {"backbone": ["compact"], "channels": "many"},
        {"backbone": "compact", "epochs": [1, {"x": 2}], "shift": {}},
    ],
)
def test_flags_that_are_not_those_of_a_run(tmp_path, flags):
    store(tmp_path / "odd", result(12, 0.5, run={"name": "odd one", "flags": flags}))
    store(tmp_path / "other", result(12, 0.6))
    runs, problems = collection.find([str(tmp_path)])
    assert len(runs) == 2
    [run] = [run for run in runs if run.name == "odd one"]
    if not run.settings:
        assert run.method == "odd one"
        assert len(problems) == 1 and "are not those of a run" in problems[0]


def test_notes_tell_runs_apart_that_differ_in_nothing_else(tmp_path):
    def method(number, note, seed, bits=12):
        flags = {**FLAGS, "seed": seed, "bits": bits}
        run = {"name": f"{number}", "note": note, "flags": flags}
        store(tmp_path / f"{number}", result(bits, 0.5 + number / 100, run=run))
        runs, _ = collection.find([str(tmp_path)])
        return {run.name: run.method for run in runs}

    method(0, "JPEG", 0)
    method(1, "JPEG", 1)
    # Another seed, and another length, are no variants.
    assert set(method(2, "by night", 2).values()) == {"resnet30"}
    assert set(method(3, "", 0, bits=24).values()) == {"resnet30"}
    found = method(4, "another start", 0)
    assert found["0"] == found["1"] == "resnet30"
    assert found["4"] == "resnet30, “another start”"
    assert (found["2"], found["3"]) == ("resnet30, “by night”", "resnet30, “no note”")


def test_unfinished_runs_stand_alone(tmp_path):
    store(tmp_path / "a", result(12, 0.5))
    run = {**result()["run"], "step": 1, "steps": 9}
    store(tmp_path / "b", result(12, 0.6, run=run))
    runs, _ = collection.find([str(tmp_path)])
    assert [run.method for run in runs] == ["resnet30", "resnet30, unfinished"]
