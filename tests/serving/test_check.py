"""The check of a model's folder: it passes what can be served, and names each fault."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import serving_models

from dah_tf.errors import UserError
from dah_tf.files import tfrecord
from dah_tf.serving import check, layout, messages, warmup
from dah_tf.serving.c_api import SavedModel


@pytest.fixture(scope="module")
def good():
    return check.check(serving_models.model_folder())


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A copy of a model's folder, and quick checks of it."""
    monkeypatch.setattr(check, "STEADY_RUNS", 1)
    shutil.copytree(serving_models.model_folder(), tmp_path / "dah")
    # One request of each signature is as good as seven.
    rewrite(tmp_path / "dah", lambda logs: logs[:2])
    return tmp_path / "dah"


def rewrite(model, change):
    """Changes the list of `PredictionLog`s in a model's warm-up file."""
    path = model / "1" / layout.WARMUP
    logs = [messages.PredictionLog.FromString(r) for r in tfrecord.decode(path.read_bytes())]
    path.write_bytes(tfrecord.encode([log.SerializeToString() for log in change(logs)]))


def describe(model, **entries):
    path = model / "1" / "dah.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_a_good_model(good):
    assert good["faults"] == []
    assert (good["versions"], good["served"]) == ([1], 1)
    assert good["load_seconds"] > 0
    default = good["signatures"]["serving_default"]
    assert default["inputs"] == {"image_bytes": {"dtype": "string", "shape": [-1]}}
    assert default["outputs"]["codes"] == {"dtype": "uint8", "shape": [-1, 2]}
    for name in ("serving_default", "pixels"):
        rows = [row for row in good["latency"] if row["signature"] == name]
        assert [row["batch"] for row in rows] == list(warmup.BATCH_SIZES)
        assert all(row["first_ms"] > 0 and row["steady_ms"] > 0 for row in rows)
    lines = check.table(good)
    assert lines[0].endswith("version 1 would be served") and lines[-1] == "the model is good"
    assert any("serving_default" in line and "image_bytes" in line for line in lines)


def test_the_highest_number_is_served(model, loaded, monkeypatch):
    monkeypatch.setattr(check, "SavedModel", lambda *_: loaded)
    for name in ("0", "2", "10", "abc", "-3", "1.5", ".11"):
        shutil.copytree(model / "1", model / name)
    report = check.check(model)
    assert (report["versions"], report["served"]) == ([0, 1, 2, 10], 10)
    assert report["faults"] == []
    assert "version 10 would be served (other versions: 0, 1, 2)" in check.table(report)[0]


def graph(model, change):
    path = model / "1" / "saved_model.pb"
    saved = messages.SavedModel.FromString(path.read_bytes())
    change(saved)
    path.write_bytes(saved.SerializeToString())


def retag(saved):
    saved.meta_graphs[0].meta_info_def.tags[:] = ["train"]


def without_pixels(saved):
    del saved.meta_graphs[0].signature_def["pixels"]


def renamed_output(saved):
    outputs = saved.meta_graphs[0].signature_def["pixels"].outputs
    outputs["bits"].CopyFrom(outputs["codes"])
    del outputs["codes"]


def other_signature(logs):
    logs[0].predict_log.request.model_spec.signature_name = "predict"
    return logs


def other_input(logs):
    tensor = logs[0].predict_log.request.inputs.pop("image_bytes")
    logs[0].predict_log.request.inputs["images"].CopyFrom(tensor)
    return logs


def broken_image(logs):
    logs[0].predict_log.request.inputs["image_bytes"].string_val[0] = b"no image"
    return logs


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


V1 = "1"
FAULTS = {
    "no version": (lambda m: (m / V1).rename(m / "one"), ["has no version folder, such as"]),
    "version is a file": (
        lambda m: (m / "2").touch(),
        ["2/saved_model.pb cannot be read", "2/dah.json", "2/assets.extra"],
    ),
    "no graph": (lambda m: (m / V1 / "saved_model.pb").unlink(), ["saved_model.pb cannot be read"]),
    "graph cut short": (
        lambda m: cut(m / V1 / "saved_model.pb"),
        ["saved_model.pb is not a SavedModel"],
    ),
    "no serve tag": (
        lambda m: graph(m, retag),
        ["no graph with the tag 'serve', only [['train']]"],
    ),
    "no variables": (
        lambda m: shutil.rmtree(m / V1 / "variables"),
        ["variables/variables.index is missing"],
    ),
    "no data of variables": (
        lambda m: (m / V1 / "variables" / "variables.data-00000-of-00001").unlink(),
        ["1 cannot be loaded: "],
    ),
    "data cut short": (
        lambda m: cut(m / V1 / "variables" / "variables.data-00000-of-00001"),
        ["1 cannot be loaded: "],
    ),
    "no signature": (
        lambda m: graph(m, without_pixels),
        ["1 has no signature pixels", "request 2 is for 'pixels', which the model does not have"],
    ),
    "another output": (
        lambda m: graph(m, renamed_output),
        ["pixels gives ['bits', 'hash', 'probabilities'], not ['codes', 'hash', 'probabilities']"],
    ),
    "no warm-up": (
        lambda m: (m / V1 / layout.WARMUP).unlink(),
        ["tf_serving_warmup_requests cannot be read, which makes the first answers slow"],
    ),
    "warm-up cut short": (
        lambda m: cut(m / V1 / layout.WARMUP),
        ["record 2 is cut short or damaged"],
    ),
    "warm-up is something else": (
        lambda m: (m / V1 / layout.WARMUP).write_bytes(tfrecord.encode([b"\xff\xff"])),
        ["record 1 is not a PredictionLog"],
    ),
    "warm-up without requests": (
        lambda m: (m / V1 / layout.WARMUP).write_bytes(tfrecord.encode([b""])),
        ["record 1 is not a request to predict"],
    ),
    "warm-up of one signature": (
        lambda m: rewrite(m, lambda logs: logs[:1]),
        ["has no request for the signature pixels"],
    ),
    "warm-up of a wrong signature": (
        lambda m: rewrite(m, other_signature),
        ["no request for the signature serving_default", "request 1 is for 'predict'"],
    ),
    "warm-up of a wrong input": (
        lambda m: rewrite(m, other_input),
        ["request 1, for serving_default, fails: serving_default takes ['image_bytes']"],
    ),
    "warm-up of too many": (
        lambda m: rewrite(m, lambda logs: logs[:2] * 501),
        ["more than 1000 requests"],
    ),
    "warm-up of a broken image": (
        lambda m: rewrite(m, broken_image),
        ["serving_default cannot decode the images of the warm-up"],
    ),
    "no dah.json": (lambda m: (m / V1 / "dah.json").unlink(), ["dah.json cannot be read"]),
    "dah.json is no JSON": (lambda m: cut(m / V1 / "dah.json"), ["dah.json is not valid JSON"]),
    "dah.json is a list": (
        lambda m: (m / V1 / "dah.json").write_text("[]"),
        ["dah.json lacks bits, bytes_per_code, classes, channels, class_names"],
    ),
    "dah.json of other bits": (
        lambda m: describe(m, bits=24, bytes_per_code=3),
        [
            "serving_default gives codes of uint8 and (2,), not of uint8 and (3,)",
            "pixels gives codes of",
            "pixels gives hash of",
        ],
    ),
    "dah.json of fewer bits": (
        lambda m: describe(m, bits=9),
        ["Padding bits of 9-bit codes must be 0", "pixels gives hash of float32 and (12,)"],
    ),
    "dah.json of wrong bytes": (
        lambda m: describe(m, bytes_per_code=3),
        [
            "dah.json has 3 bytes for each code of 12 bits",
            "serving_default gives codes",
            "pixels gives",
        ],
    ),
    "dah.json of other classes": (
        lambda m: describe(m, class_names=["cat"]),
        ["dah.json has 1 names for 5 classes"],
    ),
    "dah.json of other channels": (
        lambda m: describe(m, channels=1),
        ["dah.json does not fit the model: pixels takes images of 3 channels, not 1"],
    ),
}


# Faults of what the loader reads; for the others one loaded model does.
OF_THE_GRAPH = {
    "no data of variables",
    "data cut short",
    "no signature",
    "another output",
}


class Loaded(SavedModel):
    """A model that stays loaded."""

    def close(self):
        pass


@pytest.fixture(scope="module")
def loaded():
    model = Loaded(serving_models.model_folder() / "1")
    yield model
    SavedModel.close(model)


@pytest.mark.parametrize("name", FAULTS)
def test_faults(model, name, loaded, monkeypatch):
    change, expected = FAULTS[name]
    change(model)
    if name not in OF_THE_GRAPH:
        monkeypatch.setattr(check, "SavedModel", lambda *_: loaded)
    faults = check.check(model)["faults"]
    assert len(faults) == len(expected), faults
    for part in expected:
        assert any(part in fault for fault in faults), faults
    assert all(str(model) in fault and "\n" not in fault for fault in faults)


def test_a_version_folder_itself(model):
    (fault,) = check.check(model / "1")["faults"]
    assert "it is a SavedModel itself" in fault


def test_no_such_folder():
    with pytest.raises(UserError, match="cannot read the folder /nowhere: No such file"):
        check.check("/nowhere")


def command(*arguments):
    line = [sys.executable, "-m", "dah_tf.serving", *arguments]
    env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(line, check=False, capture_output=True, text=True, env=env)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_command(model):
    code, out, err = command("check", str(model), "--json")
    report = json.loads(out)
    assert (code, err, report["faults"]) == (0, "", [])
    assert np.isfinite([row["steady_ms"] for row in report["latency"]]).all()
    (model / "1" / layout.WARMUP).unlink()
    code, out, err = command("check", str(model))
    assert (
        (code, err) == (1, "") and "\nfault: " in out and out.endswith("the model has 1 fault(s)\n")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "/nowhere"], "error: cannot read the folder /nowhere"),
        (["check"], "error: name the model to check"),
        (["test", "a"], "error: name the model to check"),
        (["check", "a", "--jsom"], "error: Unknown command line flag 'jsom'"),
    ],
)
def test_a_wrong_command(arguments, message):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "") and err.startswith(message) and err.count("\n") == 1
