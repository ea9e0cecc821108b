"""Queries are refused if the run, or a run that it started from, was trained on them."""

import json

import numpy as np
import pytest

import dah_tf
from dah_tf import UserError

SMALL = {"backbone": "compact:widths=8/8/8", "bits": 12, "epochs": 0.2, "validation": 0}

pytestmark = pytest.mark.slow


def write(path, seed):
    """Writes 80 training and 20 test images of four classes, which differ for every seed."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(4), 25))
    images = rng.integers(0, 256, (100, 16, 16, 1), np.uint8)
    parts = {"x_train": images[:80], "x_test": images[80:]}
    np.savez(path, **parts, y_train=labels[:80], y_test=labels[80:])


def train(name, dataset, protocol="full", start=None):
    more = {"backbone_weights": start} if start else {}
    recipe = dah_tf.Recipe(
        **SMALL, **more, dataset=f"npz:{dataset}", protocol=protocol, workdir=name, export=False
    )
    return dah_tf.train(recipe, say=lambda text: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Trains `a` on a data set, `b` from `a` on another, and `c` from `b` on the first one."""
    folder = tmp_path_factory.mktemp("chain")
    write(folder / "one.npz", 0)
    write(folder / "two.npz", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train("a", "one.npz")
        train("b", "two.npz", start="a")
        train("c", "one.npz", start="b")
    return folder


def test_the_chain_is_kept_with_each_run(folder):
    recorded = [json.loads((folder / each / "flags.json").read_text()) for each in "abc"]
    chains = [[link["name"] for link in each["started_from"]] for each in recorded]
    assert chains == [[], ["a"], ["b", "a"]]
    fingerprints = [link["fingerprint"] for link in recorded[2]["started_from"]]
    assert fingerprints == [recorded[1]["data"]["fingerprint"], recorded[0]["data"]["fingerprint"]]


def test_a_start_two_runs_before_counts(folder, monkeypatch):
    """Protocol `own` of the first data has queries on which `a` was trained, but `b` was not."""
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="a was trained on 5 of the 8 queries of protocol=own"):
        train("d", "one.npz", protocol="own", start="b")
    assert not (folder / "d" / "flags.json").exists()
    with pytest.raises(UserError, match="a was trained on 5 of the 8 queries of protocol=own"):
        dah_tf.evaluate("b", dataset="npz:one.npz", protocol="own")
    # No run was trained on its test images.
    assert dah_tf.evaluate("b", dataset="npz:one.npz", protocol="full")["map"]["expected"] > 0


def test_the_same_images_by_another_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "copy.npz").write_bytes((folder / "one.npz").read_bytes())
    with pytest.raises(UserError, match="a was trained on 5 of the 8"):
        dah_tf.evaluate("b", dataset="npz:copy.npz", protocol="own")
    content = np.load(folder / "one.npz")
    parts = {name: content[name] for name in content.files}
    loaded = dah_tf.load_data(
        images=parts["x_train"],
        labels=parts["y_train"],
        test_images=parts["x_test"],
        test_labels=parts["y_test"],
    )
    with pytest.raises(UserError, match="a was trained on 5 of the 8"):
        dah_tf.evaluate("b", loaded, protocol="own")


def test_a_chain_outlives_the_folders_of_its_runs(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("c", "one.npz", "two.npz"):
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(UserError, match="b was trained on 5 of the 8 queries"):
        dah_tf.evaluate("c", dataset="npz:two.npz", protocol="own")
