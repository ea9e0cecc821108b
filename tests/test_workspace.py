"""A run's folder: what it was begun with, what data and weights it takes."""

import json
import types

import keras
import pytest
import tensorflow as tf

from dah_tf import backbones, export, optimizers, pipeline, workspace
from dah_tf.errors import UserError

FACTS = {"class_names": ["ant", "bee", "cat"]}


def test_a_run_keeps_what_it_was_begun_with(tmp_path):
    made = {"steps": 9, "images_per_step": 14, "precision": "mixed_float16"}
    workspace.record_flags(tmp_path, {"bits": 12, "note": ""}, FACTS, **made)
    later = {"steps": 9, "images_per_step": 14, "precision": "float32"}
    workspace.record_flags(tmp_path, {"bits": 12, "note": "JPEG"}, FACTS, **later)
    content = json.loads((tmp_path / "flags.json").read_text())
    assert content["flags"] == {"bits": 12, "note": "JPEG"}, "a note may come later"
    assert workspace.read_precision(tmp_path) == "mixed_float16"
    with pytest.raises(UserError, match="bits was 12, now 24; the data itself; use the same"):
        workspace.record_flags(tmp_path, {"bits": 24, "note": ""}, {"class_names": []}, **made)
    assert json.loads((tmp_path / "flags.json").read_text()) == content


@pytest.mark.parametrize("text", ["{", "[]", '{"flags": 3}'])
def test_damaged_flags(tmp_path, text):
    (tmp_path / "flags.json").write_text(text)
    with pytest.raises(UserError, match=r"flags.json is damaged \(.*\); restore it or train anew"):
        workspace.read_flags(tmp_path)


def test_no_run_has_no_precision(tmp_path):
    assert workspace.read_precision(tmp_path) is None
    with pytest.raises(UserError, match="is no work folder"):
        workspace.read_flags(tmp_path)


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


@pytest.mark.parametrize("size, fits", [(9, True), (8, False)])
def test_images_that_would_shrink_to_nothing(size, fits):
    backbone = backbones.compact(channels=1, widths=(8, 8, 8))
    if fits:
        workspace.check_size(backbone, size)
        backbone(tf.zeros((1, size, size, 1)))
        return
    with pytest.raises(UserError, match="compact cannot take images of 8 pixels"):
        workspace.check_size(backbone, size)
    with pytest.raises((ValueError, tf.errors.OpError)):
        backbone(tf.zeros((1, size, size, 1)))


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def offline(*_, **__):
        raise Exception("URL fetch failure on https://there")  # noqa: TRY002 - as Keras does

    monkeypatch.setattr(backbones, "get", offline)
    options = types.SimpleNamespace(
        backbone="resnet50", backbone_weights="imagenet", attention=False, widths=None
    )
    with pytest.raises(UserError, match="--backbone_weights=imagenet: URL fetch failure"):
        workspace.build_model(options, num_classes=3, channels=3, image_size=32)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_average_is_taken_whatever_the_precision(policy):
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(2, dtype=policy)
    model = keras.Model(inputs, dense(inputs))
    model.dtype_policy = policy
    model.compile(optimizer=optimizers.get("sgd", 0.1, ema=0.5))
    assert hasattr(model.optimizer, "inner_optimizer") == (policy == "mixed_float16")
    model.optimizer.build(model.trainable_variables)
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    kernel = dense.kernel
    first = kernel.numpy()
    inner.apply([tf.ones_like(v) for v in model.trainable_variables])
    inner.apply([tf.ones_like(v) for v in model.trainable_variables])
    last = kernel.numpy()
    optimizers.take_average(model)
    assert abs(kernel.numpy() - last).max() > 1e-3
    assert (kernel.numpy() >= last - 1e-6).all() and (kernel.numpy() <= first + 1e-6).all()


def test_skipped_files_of_any_name_are_listed(tmp_path, capsys):
    skipped = [("photos/\udcff.png", "not a readable image"), ("ä", "no such file")]
    pipeline.report_skipped(tmp_path, types.SimpleNamespace(skipped=skipped))
    expected = b"photos/\xff.png\tnot a readable image\n" + "ä\tno such file\n".encode()
    assert (tmp_path / "skipped.txt").read_bytes() == expected
    assert "2 unreadable files" in capsys.readouterr().out


def test_an_export_has_the_figures_of_its_own_weights_only(tmp_path):
    workspace.record_flags(tmp_path, {"epochs": 1.0}, FACTS, steps=2)
    assert export.scores(tmp_path, None) == {}
    lines = [json.dumps({"step": step, "time": 0.0, "seconds": 1.0}) + "\n" for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    result = {"map": 0.5, "run": {"step": 1}}
    (tmp_path / "evaluation.json").write_text(json.dumps(result))
    assert export.scores(tmp_path, 1) == result
    assert export.scores(tmp_path, 2) == export.scores(tmp_path, None) == {}
