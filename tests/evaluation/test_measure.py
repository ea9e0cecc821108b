"""A real, small model under a protocol: what stands beside its figures."""

import types

import numpy as np
import pytest

from dah_tf import codes, data
from dah_tf.evaluation import measure
from dah_tf.model import HashModel, backbones


@pytest.fixture(scope="module")
def setting():
    dataset = data.load("digits")
    protocol = data.make_protocol("full", dataset, validation=0, seed=0)
    model = HashModel(backbones.get("compact:widths=8/16/16", channels=1), 12, 10, image_size=16)
    return model, dataset, protocol


def test_accuracy_only_over_classes_that_were_trained(setting):
    model, dataset, _ = setting
    protocol = data.make_protocol("unseen", dataset, validation=0, seed=0)
    assert "accuracy" not in measure.evaluate(model, dataset, protocol)[0]
    every = measure.evaluate(model, dataset, protocol, trained=range(10))[0]
    assert 0 <= every["accuracy"] <= 1
    full = data.make_protocol("full", dataset, validation=0, seed=0)
    seen = np.unique(dataset.labels[protocol.train])
    assert "accuracy" not in measure.evaluate(model, dataset, full, trained=seen)[0]


def test_result_and_pictures(setting):
    model, dataset, protocol = setting
    result, pictures = measure.evaluate(model, dataset, protocol)
    pixels = dataset.images.read(protocol.query)
    outputs = model.outputs(pixels)
    labels = dataset.labels[protocol.query]
    assert result["accuracy"] == pytest.approx((outputs["classes"].argmax(axis=1) == labels).mean())
    values = model.outputs(dataset.images.read(protocol.database))["hash"]
    assert result["margin"]["mean"] == pytest.approx(np.abs(values - 0.5).mean(), rel=1e-5)
    assert sum(result["margin"]["share"]) == pytest.approx(1.0)
    assert set(result["references"]) == {"one_hot", "random", "features_cosine"}
    assert result["data"]["name"] == "digits"
    assert result["margin"]["edges"][-1] == 0.25
    assert result["method"]["name"] == "dah" and result["method"]["source"] == "paper"

    q = len(pictures["query_labels"])
    assert pictures["neighbour_images"].shape == (q, 10, *dataset.images.read([0]).shape[1:])
    np.testing.assert_array_equal(
        pictures["relevant"], pictures["query_labels"][:, None] == pictures["neighbour_labels"]
    )
    assert (np.diff(pictures["distances"], axis=1) >= 0).all()
    # Each shown neighbour lies at the distance beside it, which is the row's tenth smallest.
    theirs = model.encode(dataset.images.read(protocol.database))
    for row in range(q):
        ours = model.encode(pictures["query_images"][row : row + 1])
        near = np.sort(codes.hamming(ours, theirs)[0])[:10]
        np.testing.assert_array_equal(pictures["distances"][row], near)


def test_features_are_left_out_where_they_would_fill_the_memory(setting, monkeypatch):
    monkeypatch.setattr("dah_tf.evaluation.reference_points.FLOATS", 1000)
    result, _ = measure.evaluate(*setting)
    assert set(result["references"]) == {"one_hot", "random"}


def test_labels_of_several_classes_are_named():
    dataset = types.SimpleNamespace(
        labels=np.array([[1, 0, 1], [0, 1, 0]]), class_names=["sea", "sky", "sun"]
    )
    names = measure._names(dataset, np.array([[1, 0], [0, 0]]))
    assert names.tolist() == [["sky", "sea, sun"], ["sea, sun", "sea, sun"]]


def test_examples_are_written_whole(tmp_path):
    path = tmp_path / "examples.npz"
    measure.write_examples(path, {"distances": np.arange(3)})
    assert np.load(path)["distances"].tolist() == [0, 1, 2]
    assert [each.name for each in tmp_path.iterdir()] == ["examples.npz"]


def test_encoding_time_counts_every_image(setting, monkeypatch):
    model, dataset, protocol = setting
    encoded = []
    monkeypatch.setattr(model, "encode", lambda pixels, batch, mirror: encoded.append(len(pixels)))
    found = measure.encoding_time(model, dataset, protocol.database, batches=(32, 64))
    assert found["images"] == len(protocol.database) and found["best_batch"] in (32, 64)
    assert encoded[-1] == len(protocol.database)
    assert encoded[:3] == [1, 32, 64]  # each shape is compiled before it is timed
    assert found["batch_1_ms"] > 0 and found["best_ms"] > 0


def test_margins_reach_as_far_as_the_hash_head(setting):
    _, dataset, protocol = setting
    backbone = backbones.get("compact:widths=8/16/16", channels=1)
    model = HashModel(backbone, 12, 10, image_size=16, method="dpsh")
    dense = model.hash_head.dense
    dense.set_weights([1e3 * np.array(dense.kernel), 1e3 * np.ones(12)])  # values near 0 and 1
    margin = measure.outputs(model, dataset, protocol.query, mirror=False)[1]
    assert margin["edges"][-1] == 0.5 and margin["mean"] > 0.49 and margin["share"][-1] > 0.9
