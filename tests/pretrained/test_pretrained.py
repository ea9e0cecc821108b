"""Models that ship with the package: what is unpacked is what was measured."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from tiny_model import write_folder

from dah_tf import codes, pretrained
from dah_tf.errors import UserError

NAMES = pretrained.names()


def run(module, *arguments, **environment):
    command = [sys.executable, "-m", f"dah_tf.{module}", *arguments]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module", params=NAMES)
def name(request, cache):
    return pretrained.PREFIX + request.param


def shipped(name, part):
    return json.loads((pretrained.SHIPPED / name.removeprefix("pretrained:") / part).read_text())


def test_some_ship():
    assert "cifar10-compact-36" in NAMES


@pytest.mark.slow
def test_weights_are_those_that_were_measured(name):
    from dah_tf.training import build

    model, step = build.load_run(pretrained.folder(name))
    assert step is None
    assert model.fingerprint() == shipped(name, pretrained.RESULT)["model"]["fingerprint"]


def test_small_and_from_no_machine(name):
    folder = pretrained.SHIPPED / name.removeprefix("pretrained:")
    parts = {"flags.json", "evaluation.json", "metrics.jsonl", "weights.npz"}
    assert {part.name for part in folder.iterdir()} == parts
    assert sum(part.stat().st_size for part in folder.iterdir()) < 8_000_000
    flags = shipped(name, pretrained.FLAGS)["flags"]
    known = shipped(name, pretrained.RESULT)["run"]["flags"]
    assert not [v for v in (*flags.values(), *known.values()) if str(v).startswith("/")]
    assert flags["workdir"] is None and flags["data_dir"] is None
    assert flags["bits"] == int(name.rpartition("-")[2])


@pytest.mark.slow
def test_encoder_gives_the_models_codes(name):
    from dah_tf.encoding import Encoder
    from dah_tf.training import build

    encoder = Encoder(name)
    model, _ = build.load_run(pretrained.folder(name))
    size = (64, encoder.image_size, encoder.image_size, encoder.channels)
    images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    mirror = shipped(name, pretrained.FLAGS)["flags"]["mirror"]
    right = codes.pack(codes.binarize(model.outputs(images, mirror=mirror)["logits"]))
    assert np.array_equal(encoder(images)["codes"], right)
    assert len(np.unique(right, axis=0)) > 1


@pytest.mark.slow
def test_a_newcomer_encodes_and_searches(name, tmp_path, cache):
    paths = write_folder(tmp_path / "photos", 9)
    done = run(
        "encode", f"--model={name}", f"--input={tmp_path}/photos", f"--output={tmp_path}/codes"
    )
    assert done.returncode == 0, done.stderr
    made = run("search", "build", f"--index={tmp_path}/index", f"--codes={tmp_path}/codes")
    assert made.returncode == 0, made.stderr
    found = run(
        "search", "query", f"--index={tmp_path}/index", f"--model={name}", str(paths[4]), "--json"
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)[0]["neighbours"][0]["distance"] == 0


@pytest.mark.slow
def test_the_client_and_the_check_take_it(name):
    from dah_tf import serving

    checked = run("serving", "check", name, "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["served"] == 1
    with serving.Client(f"saved-model:{name}") as client:
        black = np.zeros((32, 32, 3), np.uint8)
        bits = shipped(name, pretrained.FLAGS)["flags"]["bits"]
        assert client.encode([black]).codes.shape == (1, -(-bits // 8))


@pytest.mark.slow
def test_two_at_a_time_make_one_folder(name, tmp_path):
    code = f"from dah_tf import pretrained; print(pretrained.folder({name!r}))"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "KERAS_BACKEND": "jax"}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    made = {each.communicate()[0].decode().strip() for each in both}
    assert len(made) == 1 and list(map(str, (tmp_path / "dah_tf").iterdir())) == list(made)
    assert (pathlib.Path(made.pop()) / "export" / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_a_sample_scores_what_the_result_says(name):
    """MAP of 1,000 queries against a tenth of the database, where the images are at hand."""
    from dah_tf import metrics
    from dah_tf.runs import workspace
    from dah_tf.training import build

    if "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("TFDS_DATA_DIR names no data sets")
    recipe = workspace.read_recipe(pretrained.folder(name))
    recipe = recipe.replace(data_dir=os.environ["TFDS_DATA_DIR"])
    dataset, protocol = build.open_data(recipe)
    result = shipped(name, pretrained.RESULT)
    if dataset.fingerprint != result["data"]["fingerprint"]:
        pytest.skip(f"other images than the result's: {dataset.fingerprint}")
    assert protocol.checksum == result["protocol"]["checksum"]
    model, _ = build.load_run(pretrained.folder(name))
    queries, database = protocol.query[::10], protocol.database[::10]
    ours, theirs = (
        model.encode(dataset.images.read(part), mirror=recipe.mirror)
        for part in (queries, database)
    )
    labels = dataset.labels
    score = metrics.mean_average_precision(
        *metrics.histograms(ours, labels[queries], theirs, labels[database], model.bits)
    )
    assert abs(score.expected - result["map"]["expected"]) < 0.03


@pytest.mark.parametrize("path", ["runs/mine", pathlib.Path("models/dah")])
def test_other_paths_stay_as_they_are(path):
    assert pretrained.folder(path) is path and pretrained.exported(path) is path


def test_unknown_name_and_unwritable_cache(monkeypatch, tmp_path):
    with pytest.raises(
        UserError, match="no ready-made model 'cat'; the known ones are: pretrained:cifar10"
    ):
        pretrained.folder("pretrained:cat")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot write to .*; set XDG_CACHE_HOME"):
        pretrained.folder(f"pretrained:{NAMES[0]}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, reason",
    [
        (["train", "--dataset=digits"], "is a ready-made model; name the folder"),
        (["evaluate"], "; name another file: --output"),
    ],
)
def test_nothing_is_written_into_it(command, reason):
    done = run(*command, "--workdir=pretrained:cifar10-compact-36")
    assert done.returncode == 2
    # The first command of all also says that it unpacks the model.
    said = [line for line in done.stderr.splitlines() if not line.startswith("unpacking ")]
    assert len(said) == 1 and reason in said[0]
