"""Data that is used without its labels."""

import numpy as np
import pytest
from PIL import Image

from dah_tf import data
from dah_tf.errors import UserError


def pixels(count=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), np.uint8)


def test_arrays_need_no_labels():
    x = pixels()
    plain = data.load(images=x, unlabelled=True)
    assert not plain.labelled and plain.class_names == ["image"] and not plain.labels.any()
    assert plain.train.tolist() == list(range(8)) and not len(plain.test)
    assert np.array_equal(plain.images.read(np.arange(8)), x)
    labelled = data.load(images=x, labels=np.arange(8) % 4, unlabelled=True)
    assert labelled.fingerprint == plain.fingerprint, "labels are passed over"
    assert data.load(images=pixels(seed=1), unlabelled=True).fingerprint != plain.fingerprint
    with pytest.raises(UserError, match="give images and labels together"):
        data.load(images=x)


def test_parts_are_passed_over():
    assert not len(data.load("digits", unlabelled=True).test)
    assert len(data.load("digits", unlabelled=True).train) == 1797


def test_a_tree_of_any_shape(tmp_path):
    x = pixels()
    places = ["a.png", "x/b.png", "x/y/c.png", "train/d.png", "test/only/e.png"]
    for place, image in zip(places, x, strict=False):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / place)
    (tmp_path / "notes.txt").write_text("no image")
    found = data.load(f"folder:{tmp_path}", unlabelled=True, image_size=16)
    assert sorted(found.ids) == sorted(str(tmp_path / place) for place in places)
    assert sum(found.ignored.values()) == 1 and not found.labelled
    facts, warnings = data.summary.describe(found)
    assert facts[0].endswith("has 5 images without labels.") and not warnings
    assert "classes" not in " ".join(facts)


def test_no_image_at_all(tmp_path):
    with pytest.raises(UserError, match="contains no images"):
        data.load(f"folder:{tmp_path}", unlabelled=True)
    with pytest.raises(UserError, match="is not a folder"):
        data.load(f"folder:{tmp_path / 'none'}", unlabelled=True)


def test_protocols():
    found = data.load(images=pixels(), unlabelled=True)
    assert data.choose_protocol(found) == "unlabelled"
    protocol = data.make_protocol("unlabelled", found, validation=None)
    assert len(protocol.train) == len(protocol.database) == 8
    assert not len(protocol.query) and not len(protocol.validation)
    for name in ("own", "full", "unseen"):
        with pytest.raises(UserError, match=f"protocol={name} needs labels; use protocol=unlabel"):
            data.make_protocol(name, found)
    with pytest.raises(UserError, match="validation=2 needs labels"):
        data.make_protocol("unlabelled", found, validation=2)
