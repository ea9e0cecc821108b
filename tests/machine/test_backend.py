"""Keras' back end is known, and refused, before anything is imported."""

import json
import os
import pathlib
import subprocess
import sys
import types

import pytest

from dah_tf.errors import UserError
from dah_tf.machine import backend

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def outside(monkeypatch, tmp_path):
    """A process that has not imported Keras, and a folder for Keras' own file."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


def test_the_environment_comes_before_the_file(outside, monkeypatch):
    assert backend.chosen()[0] == "tensorflow"
    path = outside / "keras.json"
    path.write_text(json.dumps({"backend": "torch"}))
    with pytest.raises(UserError, match=f"{path} names the back end torch, which is not support"):
        backend.check()
    monkeypatch.setenv("KERAS_BACKEND", "")  # as if it was not set
    assert backend.chosen()[0] == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    backend.check()
    with pytest.raises(UserError, match="KERAS_BACKEND=jax is not for exporting"):
        backend.check(backend.EXPORTING)


@pytest.mark.parametrize("content", ["no JSON", "[1]", "{}"])
def test_a_file_that_says_nothing_is_passed_over(outside, content):
    (outside / "keras.json").write_text(content)
    assert backend.chosen()[0] == "tensorflow"


def test_a_keras_that_is_there_says_itself(outside, monkeypatch):
    loaded = types.SimpleNamespace(backend=types.SimpleNamespace(backend=lambda: "numpy"))
    monkeypatch.setitem(sys.modules, "keras", loaded)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(UserError, match="Keras runs on numpy, which is not supported"):
        backend.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, written", [("", None), ("", "jax"), ("tensorflow", "jax"), ("jax", None)]
)
def test_it_is_what_keras_says(name, written, outside, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", name)
    if written:
        (outside / "keras.json").write_text(json.dumps({"backend": written}))
    command = [sys.executable, "-c", "import keras; print(keras.backend.backend())"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [backend.chosen()[0]], done.stderr


# Python runs a module of this name first of all.
SITE = """
import atexit, sys
heavy = {"tensorflow", "keras", "jax", "torch", "openvino"}
atexit.register(lambda: print("loaded", sorted(heavy & set(sys.modules))))
"""


@pytest.mark.parametrize(
    "name, arguments, backends",
    [
        ("train", ["--dataset=digits"], ["torch", "openvino", "typo"]),
        ("train", ["--describe"], ["torch"]),
        ("evaluate", ["--workdir=run"], ["torch"]),
        ("export", ["--workdir=run", "--output=1"], ["torch", "jax"]),
        ("encode", ["--model=1", "--input=a", "--output=b"], ["torch"]),
        ("sweep", ["--output=grid", "--grid=bits=12,24"], ["torch"]),
    ],
)
def test_every_command_refuses_it_in_one_line(name, arguments, backends, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SITE)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    for each in backends:
        done = subprocess.run(
            [sys.executable, "-m", f"dah_tf.{name}", *arguments],
            env={**os.environ, "KERAS_BACKEND": each, "PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith(f"error: KERAS_BACKEND={each} is not ")
        assert done.stdout == "loaded []\n"
        assert not list(tmp_path.glob("[!_s]*")), "nothing is written"
