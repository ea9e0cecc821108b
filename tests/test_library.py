"""The names of `import dah_tf`: as they are used in a script, a notebook and a thread."""

import dataclasses
import doctest
import importlib
import inspect
import pathlib
import random
import runpy
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from PIL import Image

import dah_tf
from dah_tf import UserError

ROOT = pathlib.Path(__file__).parents[1]
SMALL = {"backbone": "compact:widths=8/16/16", "bits": 16, "epochs": 1.0, "dataset": "digits"}

SPECIAL = {"__call__", "__init__", "__len__"}


def quiet(text):
    """In place of `print`."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = dah_tf.Recipe(**SMALL, workdir=tmp_path_factory.mktemp("library") / "run")
    return dah_tf.train(recipe, say=quiet)


# These arguments are tensors of any back end, whose type has no name, or belong to Keras.
UNTYPED = {
    "HashModel.__init__": {"self", "kwargs"},
    "HashModel.build": {"self", "input_shape", "return"},
    "HashModel.call": {"self", "inputs"},
    "HashModel.terms": {"self", "labels", "step"},
    "HashModel.train_step": {"self", "state", "data", "return"},
    "HashModel.view": {"self", "images", "plan", "return"},
    "HashModel.minimised": {"self", "return"},
    "HashModel.fit": {"self", "_", "__", "return"},
    "HashModel.evaluate": {"self", "_", "__", "return"},
}


def public_functions(found):
    """The functions that a public name offers: itself, its methods, or those of its `__all__`."""
    if inspect.ismodule(found):
        return [each for name in found.__all__ for each in public_functions(getattr(found, name))]
    if inspect.isfunction(found):
        return [found]
    ours = [vars(each) for each in found.__mro__ if each.__module__.startswith("dah_tf")]
    names = {name for each in ours for name in each if name[0] != "_" or name in SPECIAL}
    members = [inspect.getattr_static(found, name) for name in sorted(names)]
    members = [each.fget if isinstance(each, property) else each for each in members]
    members = [getattr(each, "__func__", each) for each in members]
    return [each for each in members if inspect.isfunction(each)]


def test_public_names_are_listed_typed_and_documented():
    assert sorted(dah_tf.__all__) == sorted([*dah_tf._PUBLIC, "__version__"])
    assert set(dah_tf.__all__) <= set(dir(dah_tf))
    for name in dah_tf._PUBLIC:
        found = getattr(dah_tf, name)
        assert inspect.getdoc(found), name
        for function in public_functions(found):
            signature = inspect.signature(function)
            given = {each.name: each.annotation for each in signature.parameters.values()}
            if function.__name__ != "__init__":
                given["return"] = signature.return_annotation
            bare = {each for each, hint in given.items() if hint is signature.empty}
            assert bare <= UNTYPED.get(function.__qualname__, {"self", "cls"}), function
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        dah_tf.nonsense  # noqa: B018


def test_importing_loads_nothing():
    code = "import sys, dah_tf; print(sorted(m for m in sys.modules if m.startswith('dah_tf')))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['dah_tf']", done.stderr


def test_a_command_of_the_same_name_does_not_hide_the_function():
    module = importlib.import_module("dah_tf.train")
    assert inspect.ismodule(module) and inspect.isfunction(dah_tf.train)
    assert inspect.isfunction(dah_tf.evaluate)


def test_a_run_is_what_it_says(run):
    assert run.folder.joinpath("model.keras").is_file()
    assert run.recipe.recipe == "fast" and run.recipe.epochs == 1.0
    assert run.result["map"]["expected"] > 0.3
    steps = run.history["step"]
    assert np.array_equal(steps, np.arange(1, len(steps) + 1))
    assert np.isfinite(run.history["loss"]).all()
    assert run.model.encode(np.zeros((3, 16, 16, 1), np.uint8)).shape == (3, 2)


def test_the_model_of_a_run_and_of_a_folder_are_the_same(run):
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1), np.uint8)
    one, two = dah_tf.load_model(run), dah_tf.load_model(str(run.folder))
    assert np.array_equal(one.encode(images), two.encode(images))
    assert isinstance(one, dah_tf.HashModel)


def test_evaluate_gives_the_runs_figures_and_writes_nothing(run):
    before = (run.folder / "evaluation.json").stat().st_mtime_ns
    result = dah_tf.evaluate(run)
    assert result["map"] == run.result["map"]
    assert (run.folder / "evaluation.json").stat().st_mtime_ns == before


def test_arrays_to_neighbours(tmp_path):
    rng = np.random.default_rng(0)
    kinds = np.repeat(["dark", "light"], 40)
    images = rng.integers(0, 60, (80, 16, 16), np.uint8) + (kinds == "light")[:, None, None] * 150
    data = dah_tf.load_data(images=images.astype(np.uint8), labels=kinds)
    assert data.class_names == ["dark", "light"] and data.images.channels == 1
    seen = []
    recipe = dah_tf.Recipe(**SMALL | {"epochs": 3.0}, workdir=tmp_path / "run")
    made = dah_tf.train(recipe, data, watch=[lambda step, values: seen.append(step)], say=quiet)
    assert seen == list(range(1, len(made.history["step"]) + 1))
    assert made.recipe.dataset == "arrays" and made.recipe.protocol == "own"
    codes = made.model.encode(data.images.read(np.arange(80)))
    pytest.importorskip("faiss")
    index = dah_tf.Index.create(tmp_path / "index", bits=16, codes=codes, labels=list(kinds))
    again = dah_tf.open_index(tmp_path / "index")
    distances, ids = again.search(codes[:1], k=5)
    assert len(index) == 80 and distances[0, 0] == 0
    assert set(again.describe(ids[0])[1]) == {"dark"}


class Stopper(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, logs["loss"]))
        if batch == 4:
            self.model.stop_training = True


def test_a_keras_callback_watches_and_stops(tmp_path):
    stopper = Stopper()
    recipe = dah_tf.Recipe(**SMALL | {"epochs": 4.0}, workdir=tmp_path / "run", validate_epochs=0)
    made = dah_tf.train(recipe, watch=[stopper], say=quiet)
    assert made.model is None and made.result == {}
    assert [batch for batch, _ in stopper.seen[:5]] == [0, 1, 2, 3, 4]
    assert 5 <= len(stopper.seen) < 52
    with pytest.raises(TypeError, match="functions and Keras callbacks"):
        dah_tf.train(recipe, watch=["no function"], say=quiet)


def test_a_thread_trains_and_leaves_everything_as_it_was(tmp_path):
    recipe = dah_tf.Recipe(
        **SMALL | {"epochs": 0.2}, precision="mixed_bfloat16", workdir=tmp_path / "run", seed=3
    )
    before = dataclasses.replace(recipe)
    random.seed(7)
    np.random.seed(7)
    state, numpys = random.getstate(), np.random.get_state()[1].copy()
    found = []

    def work():
        found.append(dah_tf.train(recipe, say=quiet))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found and found[0].result
    assert recipe == before
    assert random.getstate() == state and np.array_equal(np.random.get_state()[1], numpys)
    assert keras.config.dtype_policy().name == "float32"


def test_signals_are_the_main_threads(tmp_path):
    recipe = dah_tf.Recipe(**SMALL, workdir=tmp_path / "run")
    raised = []

    def work():
        try:
            dah_tf.train(recipe, stop_on_sigterm=True, say=quiet)
        except UserError as error:
            raised.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(raised) == 1 and "stop_on_sigterm=True needs the main thread" in raised[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_runs_of_one_seed_in_one_process_are_equal(tmp_path):
    made = [
        dah_tf.train(
            dah_tf.Recipe(**SMALL | {"epochs": 0.2}, export=False, workdir=tmp_path / name),
            say=quiet,
        )
        for name in ("one", "two")
    ]
    assert made[0].model.fingerprint() == made[1].model.fingerprint()
    assert np.array_equal(made[0].history["loss"], made[1].history["loss"])


@pytest.mark.parametrize(
    "call, reason",
    [
        (lambda: dah_tf.Recipe(bits=0), "bits=0 must be at least 1"),
        (lambda: dah_tf.load_data("nonsense"), "dataset=nonsense is unknown"),
        (lambda: dah_tf.load_data(images=np.zeros((2, 8, 8))), "give images and labels together"),
        (
            lambda: dah_tf.load_data(images=np.zeros((2, 8, 8)), labels=[0, 1]),
            "images must be uint8 of shape",
        ),
        (
            lambda: dah_tf.load_data(images=np.zeros((2, 8, 8), np.uint8), labels=[0, -1]),
            "labels must number the classes from 0",
        ),
        (lambda: dah_tf.load_data("digits", images=np.zeros(3)), "not both"),
        (lambda: dah_tf.load_model("pretrained:nonsense"), "no ready-made model 'nonsense'"),
        (lambda: dah_tf.load_model("/nowhere"), "/nowhere is not the folder of a run"),
        (lambda: dah_tf.evaluate("/nowhere"), "/nowhere"),
        (lambda: dah_tf.train(dah_tf.Recipe(workdir="pretrained:x")), "workdir=pretrained:x"),
        (lambda: dah_tf.train(dah_tf.Recipe(backbone="vgg99")), "no backbone 'vgg99'"),
        (
            lambda: dah_tf.train(dah_tf.Recipe(dataset="digits", train_sizes="16")),
            "train_sizes=16: give",
        ),
    ],
)
def test_errors_name_the_argument(call, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        call()
    assert reason in str(caught.value) and "--" not in str(caught.value)


@pytest.mark.slow
def test_the_quick_start_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "configs" / "examples" / "quickstart.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "nearest" in said


@pytest.mark.parametrize("name", sorted(dah_tf._PUBLIC))
def test_the_example_of_every_public_name(name, run, tmp_path, monkeypatch):
    """The examples find the folder of a small run in `runs/digits`, and two images in `photos`."""
    if name in ("Index", "open_index"):
        pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    pathlib.Path("runs").mkdir()
    pathlib.Path("runs", "digits").symlink_to(run.folder)
    pathlib.Path("photos").mkdir()
    for kind, level in (("cat", 40), ("owl", 200)):
        Image.new("L", (16, 16), level).save(f"photos/{kind}.png")
    found = getattr(dah_tf, name)
    names = dict(vars(found if inspect.ismodule(found) else sys.modules[found.__module__]))
    example = doctest.DocTestParser().get_doctest(found.__doc__, names, name, None, 0)
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert example.examples and not runner.failures


@pytest.mark.parametrize("name", ["dah_tf.runs.recipe", "dah_tf.parts", "dah_tf.data.datasets"])
def test_examples_of_docstrings(name):
    module = importlib.import_module(name)
    tests = doctest.DocTestFinder(exclude_empty=True).find(module)
    runner = doctest.DocTestRunner()
    tried = sum(runner.run(test).attempted for test in tests if test.examples)
    assert tried and not runner.failures
