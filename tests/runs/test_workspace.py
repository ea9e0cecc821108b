"""A run's folder: what it was begun with, what is written into it and read from it."""

import json
import types

import pytest

from dah_tf import export
from dah_tf.errors import UserError
from dah_tf.runs import workspace
from dah_tf.runs.recipe import Recipe
from dah_tf.training import session

FACTS = {"class_names": ["ant", "bee", "cat"]}


def test_a_run_keeps_what_it_was_begun_with(tmp_path):
    made = {"steps": 9, "images_per_step": 14, "precision": "mixed_float16"}
    recipe = Recipe(bits=12, epochs=3.0)
    assert workspace.resumed(tmp_path, recipe) is None
    workspace.record(tmp_path, recipe, FACTS, **made)
    later = {"steps": 9, "images_per_step": 14, "precision": "float32"}
    workspace.record(tmp_path, recipe.replace(note="JPEG"), FACTS, **later)
    content = json.loads((tmp_path / "flags.json").read_text())
    assert content["flags"] == recipe.as_dict() | {"note": "JPEG"}, "a note may come later"
    assert workspace.read_precision(tmp_path) == "mixed_float16"
    with pytest.raises(UserError, match="bits was 12, now 24; use the same"):
        workspace.resumed(tmp_path, Recipe(bits=24))
    with pytest.raises(UserError, match="contains a run on other data"):
        workspace.record(tmp_path, recipe, {"class_names": []}, **made)
    assert json.loads((tmp_path / "flags.json").read_text()) == content
    # What was left open is what the run was begun with; what may change is taken anew.
    again = workspace.resumed(tmp_path, Recipe(bits=12, export=False))
    assert again.epochs == 3.0 and again.export is False


def test_what_a_run_was_given_is_not_left_out_later(tmp_path):
    given = Recipe(bits=12, shift=0, method="dah:phi1=0.25", workdir="here")
    workspace.check_left_open(tmp_path, given)
    workspace.record(tmp_path, given.replace(epochs=3.0), FACTS, given)
    asked = {"bits": 12, "shift": 0, "method": "dah", "method.phi1": 0.25}
    assert json.loads((tmp_path / "flags.json").read_text())["given"] == asked
    workspace.check_left_open(tmp_path, given.replace(workdir="there"))
    with pytest.raises(UserError, match="other settings: shift was 0, now left out; use the same"):
        workspace.check_left_open(tmp_path, given.replace(shift=None))
    with pytest.raises(UserError, match=r"settings: method.phi1 was 0.25, now left out"):
        workspace.check_left_open(tmp_path, given.replace(method="dah"))


@pytest.mark.parametrize("text", ["{", "[]", '{"flags": 3}'])
def test_damaged_flags(tmp_path, text):
    (tmp_path / "flags.json").write_text(text)
    with pytest.raises(UserError, match=r"flags.json is damaged \(.*\); restore it or train again"):
        workspace.read_recipe(tmp_path)


def test_no_run_has_no_precision(tmp_path):
    assert workspace.read_precision(tmp_path) is None
    (tmp_path / "model.keras").touch()
    for path in (tmp_path, tmp_path / "none", tmp_path / "model.keras"):
        with pytest.raises(UserError, match=f"^{path} is not the folder of a run"):
            workspace.read_recipe(path)
    (tmp_path / "flags.json").mkdir()
    with pytest.raises(UserError, match="flags.json cannot be read: Is a directory"):
        workspace.read_recipe(tmp_path)


@pytest.mark.parametrize(
    "names, message",
    [
        (["ant", "bee"], "mine lacks class cat, unlike"),
        (["ant", "bee", "cow"], "mine lacks class cat and has class cow, unlike"),
        (["bee", "ant", "cat"], "mine has its classes in another order, unlike the 3 classes"),
    ],
)
def test_other_classes_are_named(names, message):
    with pytest.raises(UserError, match=message):
        workspace.check_classes(types.SimpleNamespace(name="mine", class_names=names), FACTS)


def test_skipped_files_of_any_name_are_listed(tmp_path):
    skipped = [("photos/\udcff.png", "not a readable image"), ("ä", "no such file")]
    said = []
    session.write_skipped(tmp_path, skipped, said.append)
    expected = b"photos/\xff.png\tnot a readable image\n" + "ä\tno such file\n".encode()
    assert (tmp_path / "skipped.txt").read_bytes() == expected
    assert "2 unreadable files" in said[0]


def test_an_export_has_the_figures_of_its_own_weights_only(tmp_path):
    workspace.record(tmp_path, Recipe(epochs=1.0), FACTS, steps=2)
    assert export.scores(tmp_path, None, False) == {}
    lines = [json.dumps({"step": step, "time": 0.0, "seconds": 1.0}) + "\n" for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    result = {"map": 0.5, "mirror": False, "run": {"step": 1}}
    (tmp_path / "evaluation.json").write_text(json.dumps(result))
    assert export.scores(tmp_path, 1, False) == result
    assert export.scores(tmp_path, 2, False) == export.scores(tmp_path, None, False) == {}
    assert export.scores(tmp_path, 1, True) == {}, "those of images alone"
