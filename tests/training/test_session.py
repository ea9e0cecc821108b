"""Errors at the end of a run: only those of the disk are explained by the disk."""

import keras
import pytest

import dah_tf
from dah_tf import UserError
from dah_tf.evaluation import measure
from dah_tf.training import build, session

SMALL = {"backbone": "compact:widths=8/8/8", "bits": 12, "epochs": 0.1, "dataset": "digits"}


def test_an_error_of_the_evaluation_is_not_called_a_full_disk(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError("a bug")

    recipe = dah_tf.Recipe(**SMALL, workdir=tmp_path / "run", export=False, validation=0)
    monkeypatch.setattr(measure, "evaluate", broken)
    with pytest.raises(OSError, match="a bug"):
        dah_tf.train(recipe, say=lambda text: None)
    monkeypatch.undo()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(measure, "write_examples", full)
    with pytest.raises(UserError, match="No space left on device.*kept in its checkpoint"):
        dah_tf.train(recipe, say=lambda text: None)
    monkeypatch.undo()
    assert dah_tf.train(recipe, say=lambda text: None).result["map"]["expected"] > 0

    path = tmp_path / "run" / "model.keras"
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    with pytest.raises(UserError, match="is damaged .*; restore it, or move it away and run"):
        dah_tf.load_model(tmp_path / "run")
    path.unlink()
    # The advice is right, because the same training writes the same model.
    again = dah_tf.train(recipe, say=lambda text: None).model
    path.write_bytes(content)
    assert again.fingerprint() == dah_tf.load_model(tmp_path / "run").fingerprint()


def test_another_back_end_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    monkeypatch.setattr(build, "load_data", lambda *_: pytest.fail("reads data"))
    recipe = dah_tf.Recipe(**SMALL, workdir=tmp_path / "run")
    with pytest.raises(UserError, match="Keras runs on numpy, which is not supported"):
        session.train(recipe)
    assert not (tmp_path / "run").exists()
