"""A method that learns in one fit, from the recipe to a SavedModel."""

import json

import numpy as np
import pytest
from PIL import Image

import dah_tf
from dah_tf import baselines
from dah_tf.baselines import features
from dah_tf.errors import UserError
from dah_tf.model import HashModel, methods
from dah_tf.runs import workspace
from dah_tf.runs.recipe import Recipe
from dah_tf.training import described, fitted


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def data():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.tile(np.arange(4), 40))
    pictures = np.kron(rng.integers(0, 256, (4, 4, 4, 3)), np.ones((4, 4, 1)))[labels]
    noisy = np.clip(pictures + rng.normal(scale=30, size=pictures.shape), 0, 255)
    return noisy.astype(np.uint8), labels.astype(np.int32)


def slow(method):
    return pytest.param(method, marks=pytest.mark.slow)


def recipe(tmp_path, method, **changes):
    return Recipe(method=method, bits=12, workdir=str(tmp_path / "run"), export=False, **changes)


@pytest.mark.parametrize("method", ["itq", slow("ksh:anchors=50"), slow("sh")])
def test_a_run_has_the_estimators_codes(tmp_path, method):
    images, labels = data()
    dataset = dah_tf.load_data(images=images, labels=labels)
    said = []
    run = dah_tf.train(
        recipe(tmp_path, method, features="pixels:size=16", seed=5), dataset, say=said.append
    )
    assert run.recipe.recipe == "fitted" and run.recipe.backbone == "pixels:size=16"
    assert any(line.startswith("recipe    fitted: one fit to ") for line in said)
    protocol = protocol_of(run, dataset)
    rows = run.model.outputs(images)["features"]
    np.testing.assert_allclose(rows, features.extract("pixels", images), atol=1e-6)
    estimator = baselines.get(method, 12, 5).fit(rows[protocol.train], labels[protocol.train])
    clear = np.abs(estimator.decision_function(rows))
    clear = clear > 1e-3 * clear.mean(axis=0)
    ours = np.unpackbits(dah_tf.load_model(run).encode(images), axis=1)[:, :12]
    theirs = np.unpackbits(estimator.transform(rows), axis=1)[:, :12]
    assert clear.mean() > 0.98 and np.array_equal(ours[clear], theirs[clear])
    # The accuracy of guessing is 0.25. The probe on the codes names the class of most images.
    assert run.history["accuracy"][-1] > 0.8
    assert run.result["method"]["name"] == methods.get(method).name


def protocol_of(run, dataset):
    from dah_tf.training import build

    return build.make_protocol(run.recipe, dataset, run.recipe.protocol)


def test_a_fitted_run_is_not_fitted_again(tmp_path, monkeypatch):
    images, labels = data()
    dataset = dah_tf.load_data(images=images, labels=labels)
    asked = recipe(tmp_path, "pcah", features="pixels:size=16", evaluate=False)
    first = dah_tf.train(asked, dataset)
    monkeypatch.setattr(baselines.pcah.PCAH, "_learn", None)
    again = dah_tf.train(asked, dataset)
    assert first.model.fingerprint() == again.model.fingerprint()
    flags = json.loads((again.folder / "flags.json").read_text())["flags"]
    assert flags["validation"] == 0 and flags["precision"] == "float32"


def test_features_of_a_run(tmp_path):
    """The features come from the backbone of another run, whose training is recorded too."""
    images, labels = data()
    dataset = dah_tf.load_data(images=images, labels=labels)
    deep = Recipe(
        method="ce",
        backbone="compact:widths=8/8/8",
        epochs=1.0,
        bits=8,
        export=False,
        evaluate=False,
        workdir=str(tmp_path / "deep"),
        recipe="paper",
        precision="float32",
    )
    deep = dah_tf.train(deep, dataset)
    run = dah_tf.train(recipe(tmp_path, "lsh", features=f"run:{deep.folder}"), dataset)
    assert run.recipe.backbone == deep.recipe.backbone
    for ours, theirs in zip(
        run.model.backbone.get_weights(), deep.model.backbone.get_weights(), strict=True
    ):
        assert np.array_equal(ours, theirs)
    assert len(workspace.read_started_from(run.folder)) == 1
    wider = fitted.with_features(Recipe(method="lsh", features=f"run:{deep.folder}"))
    assert (wider.image_size, wider.channels) == (16, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "dah", "features": "gist"}, "features=gist is for methods that learn in one f"),
        ({"method": "itq", "epochs": 3.0}, "epochs=3.0 has no meaning for method=itq"),
        ({"method": "itq", "minutes": 3.0}, "minutes=3.0 has no meaning for method=itq"),
        ({"method": "dah", "recipe": "fitted"}, "recipe=fitted is for methods that learn in one"),
        ({"method": "itq", "recipe": "fast"}, "recipe=fast has no meaning for method=itq"),
        ({"method": "itq", "features": "sift"}, "there is no backbone 'sift'"),
        ({"method": "itq", "features": "compact"}, "there are gist, hog, pixels, run:DIR and"),
        ({"method": "itq", "features": "run:nowhere"}, "nowhere is not the folder of a run"),
        ({"method": "itqq"}, "there is no method 'itqq'; there are dah, .*itq_cca"),
        ({"method": "itq:turns=3"}, "itq has no option 'turns'"),
    ],
)
def test_what_has_no_meaning_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        given = Recipe(**changes)
        fitted.with_features(given)
        methods.get(given.method)


def tree_of_photos(folder):
    images, _ = data()
    for number, pixels in enumerate(images[:60]):
        path = folder / f"{number % 3}" / ("deep" if number % 2 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    Image.fromarray(images[60]).save(folder / "at the top.png")
    (folder / "notes.txt").write_text("no image")
    return images


def test_photos_without_labels(tmp_path):
    """A tree of images becomes codes, an index and neighbours."""
    images = tree_of_photos(tmp_path / "photos")
    said = []
    asked = Recipe(
        dataset=f"folder:{tmp_path / 'photos'}",
        unlabelled=True,
        bits=12,
        image_size=16,
        features="pixels:size=16",
        workdir=str(tmp_path / "run"),
    )
    run = dah_tf.train(asked, say=said.append)
    assert run.recipe.method == "itq:rounds=50" and run.recipe.protocol == "unlabelled"
    assert f"The data set folder:{tmp_path / 'photos'} has 61 images without labels." in said
    assert any(line.startswith("1 file is not an image") for line in said)
    assert run.result == {} and "accuracy" not in run.history
    # The data set has the order of the paths, on which the fit depends only by rounding.
    rows = features.extract("pixels", images[:61])
    estimator = baselines.get("itq", 12, 0)
    paths = sorted(map(str, (tmp_path / "photos").rglob("*.png")))
    numbers = [60 if "top" in path else int(path.split("/")[-1][:-4]) for path in paths]
    estimator.fit(rows[numbers])
    assert (dah_tf.load_model(run).encode(images[:61]) == estimator.transform(rows)).mean() > 0.97
    dah_tf.encode_folder(run.folder, tmp_path / "photos", tmp_path / "codes")
    index = dah_tf.Index.create(tmp_path / "index", bits=12, codes=run.model.encode(images[:61]))
    distances, ids = index.search(run.model.encode(images[:1]), k=61)
    assert distances[0, 0] == 0 and set(ids[0].tolist()) == set(range(61))
    with pytest.raises(UserError, match="protocol=unlabelled has no queries"):
        dah_tf.evaluate(run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ksh"}, "method=ksh learns from labels; .* are lsh, sh, pcah, itq"),
        ({"method": "dah"}, "method=dah learns from labels; .* are lsh, sh, pcah, itq"),
    ],
)
def test_unlabelled_data_needs_a_method_without_labels(changes, message):
    with pytest.raises(UserError, match=message):
        fitted.with_features(Recipe(unlabelled=True, **changes))


def test_features_are_computed_once(tmp_path, monkeypatch):
    images, labels = data()
    dataset = dah_tf.load_data(images=images, labels=labels)
    first = dah_tf.train(recipe(tmp_path, "itq", features="pixels:size=16"), dataset)
    (file,) = (tmp_path / "cache" / "dah_tf" / "features").iterdir()
    kept = np.load(file)
    np.testing.assert_allclose(kept, features.extract("pixels", images), atol=1e-6)
    monkeypatch.setattr(HashModel, "outputs", None)
    again = recipe(tmp_path, "itq", features="pixels:size=16").replace(
        workdir=str(tmp_path / "again")
    )
    second = dah_tf.train(again, dataset)
    assert second.result["map"] == first.result["map"]
    assert second.model.fingerprint() == first.model.fingerprint()
    monkeypatch.undo()
    # A damaged file is written again. Other pixels and another backbone have files of their own.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file.write_bytes(file.read_bytes()[:100])
    model = first.model
    np.testing.assert_array_equal(described.features(model, dataset), kept)
    other = dah_tf.load_data(images=images[::-1].copy(), labels=labels)
    np.testing.assert_array_equal(described.features(model, other), kept[::-1])
    assert len(list(file.parent.iterdir())) == 2
    monkeypatch.setattr(described, "MOST", 100)
    assert described.features(model, dataset) is None
    file.parent.joinpath("x").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file.parent / "x"))
    monkeypatch.setattr(described, "MOST", 10**9)
    with pytest.raises(UserError, match="cannot write .*: Not a directory; free space, or name"):
        described.features(model, dataset)


def test_gist_is_what_they_see_by_default():
    assert fitted.with_features(Recipe(method="itq")).backbone == "gist"
    assert fitted.with_features(Recipe(method="itq", backbone="hog")).backbone == "hog"
    named = fitted.with_features(Recipe(method="itq", features="application:ResNet50"))
    assert named.backbone == "ResNet50" and named.backbone_weights == "imagenet"
