"""Methods with more than a loss: state, rows, views, a feature map, and work between steps."""

import json
import os
import pathlib
import subprocess
import sys

import fake_methods
import keras
import numpy as np
import pytest
from fake_methods import Bank
from training_runs import train

from dah_tf import data
from dah_tf.errors import UserError
from dah_tf.model import HashModel, describe, methods
from dah_tf.training import build, checkpoint, loop

TESTS = pathlib.Path(__file__).parents[2]


def run_by(backend, tmp_path):
    """Returns the results of `fake_methods.main` under a back end."""
    output, folder = tmp_path / f"{backend}.npz", tmp_path / backend
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    script = [sys.executable, str(TESTS / "fake_methods.py"), str(output), str(folder)]
    done = subprocess.run(script, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(output)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_run_that_resumes_is_the_whole_run_bit_for_bit(backend, tmp_path):
    """The run is stopped once before a step after `between`, and once before another step."""
    pytest.importorskip(backend)
    found = run_by(backend, tmp_path)
    names = found["0.names"].tolist()
    assert names == ["loss", "pull", "views", "step", "count", "probe_loss", "accuracy"]
    log = found["0.log"]
    np.testing.assert_array_equal(log[:, names.index("step")], np.arange(8))
    np.testing.assert_array_equal(log[:, names.index("count")], np.arange(1, 9))
    for stop in (5, 6):
        for name in found.files:
            if name.startswith("0."):
                np.testing.assert_array_equal(found[name], found[f"{stop}{name[1:]}"], name)


def test_the_state_is_in_checkpoints_and_nowhere_else(tmp_path):
    model, labels, images = fake_methods.model(Bank())
    before, variables = model.fingerprint(), len(model.variables)
    model, _ = train(model, labels, images, tmp_path, 4)
    first = Bank().variables(model.facts)["bank"]
    assert np.abs(np.array(model.state["bank"]) - first).max() > 0.1  # `between` was called
    assert int(model.state["count"]) == 4
    _, meta, arrays = checkpoint.read(tmp_path / "checkpoints")
    assert meta["names"][-2:] == ["method/bank", "method/count"]
    np.testing.assert_array_equal(arrays[-2], model.state["bank"])
    assert len(model.variables) == variables and before != model.fingerprint()
    fingerprint = model.fingerprint()
    model.state["bank"].assign(first)
    assert model.fingerprint() == fingerprint
    # The weights can be restored without the state, as `evaluate` does.
    other, *_ = fake_methods.model("dpsh")
    other.compile(optimizer=keras.optimizers.SGD(0.02, momentum=0.9, name="sgd"))
    other.optimizer.build(other.trainable_variables)
    weights = [*other.variables, *other.optimizer.variables]
    with pytest.raises(UserError, match="does not fit this model"):
        checkpoint.restore(tmp_path / "checkpoints", weights, {})
    assert checkpoint.restore(tmp_path / "checkpoints", weights, {}, without=methods.STATE) == 4
    assert other.fingerprint() == fingerprint


def test_a_saved_model_has_no_state(tmp_path, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "bank", Bank)
    model, labels, images = fake_methods.model("bank:pull=2")
    train(model, labels, images, tmp_path, 2)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    assert str(again.method) == "bank:pull=2.0" and again.state == {}
    assert again.fingerprint() == model.fingerprint()
    np.testing.assert_array_equal(again(images)["logits"], model(images)["logits"])


def batch(plan, images, step, views):
    found = plan.batch(step, views)
    x = {name: found[name] for name in ("augment", "second", "rows") if name in found}
    return {"images": images[found["indices"]], **x}


def test_views_rows_and_feature_map():
    model, labels, images = fake_methods.model(Bank())
    plan = data.GroupPlan(labels, groups=2, shift=3, image_size=16)
    x = batch(plan, images, 1, views=2)
    outputs = model(x)
    assert outputs["rows"].shape == (2, 6)
    for name, seen in (("augment", outputs), ("second", outputs["second"])):
        alone = model({"images": x["images"], "augment": x[name]})
        for key in ("features", "logits", "hash", "classes", "map"):
            np.testing.assert_allclose(seen[key], alone[key], atol=1e-5)
    assert np.abs(np.array(outputs["hash"]) - np.array(outputs["second"]["hash"])).max() > 1e-3
    # The backbone pools its features from the map.
    pooled = np.array(outputs["map"]).max(axis=(2, 3))
    assert outputs["map"].shape[:2] == (2, 6) and len(outputs["map"].shape) == 5
    assert pooled.shape[-1] == model.backbone.get_layer(index=-1).input.shape[-1]
    # The outputs for encoding have no map.
    assert set(model(images)) == {"features", "logits", "hash", "classes"}


def test_a_method_without_needs_is_fed_as_before():
    model, labels, images = fake_methods.model("dah")
    plan = data.GroupPlan(labels, groups=2, shift=3, image_size=16)
    x = batch(plan, images, 1, views=1)
    del x["rows"]
    assert set(x) == {"images", "augment"}
    assert set(model(x)) == {"features", "logits", "hash", "classes"}


def test_unmet_needs_are_one_line():
    model, labels, _ = fake_methods.model(Bank())
    plan = data.GroupPlan(labels, groups=2, images_per_class=1)
    with pytest.raises(UserError, match="needs groups of at least 4 images, but these have 3"):
        build.check_needs(model, plan, replicas=1)
    plan = data.GroupPlan(labels, groups=2)
    build.check_needs(model, plan, replicas=1)
    with pytest.raises(UserError, match="set strategy=one"):
        build.check_needs(model, plan, replicas=2)
    inputs = keras.Input((5,))
    with pytest.raises(UserError, match="needs a feature map"):
        HashModel(keras.Model(inputs, keras.layers.Dense(4)(inputs)), 6, 3, method=Bank())


@pytest.mark.parametrize("own", [fake_methods.Named, "fake_methods:Named"])
def test_a_loop_of_its_own(own, tmp_path, monkeypatch):
    monkeypatch.setattr(Bank, "loop", own)
    model, labels, images = fake_methods.model(Bank())
    train(model, labels, images, tmp_path, 1)
    assert model.fitted_by == "Named"
    monkeypatch.undo()
    assert loop.of(Bank()) is loop.Run


def test_describe_says_the_method():
    model, *_ = fake_methods.model("dpsh:eta=0.5")
    description = describe.describe(model)
    assert description["method"] == {
        "name": "dpsh",
        "title": "DPSH (2016)",
        "spec": "dpsh:eta=0.5,class_weight=0.0",
        "source": "code",
    }
    assert "DPSH (2016) (source: code), dpsh:eta=0.5,class_weight=0.0" in describe.table(
        json_copy(description)
    )


def json_copy(description):
    return json.loads(json.dumps(description))
