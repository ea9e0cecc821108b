"""Fitted methods in files."""

import json
import zipfile

import numpy as np
import pytest
from shallow_data import blobs
from sklearn.exceptions import NotFittedError

from dah_tf import baselines
from dah_tf.baselines.itq import ITQ
from dah_tf.baselines.pcah import PCAH
from dah_tf.errors import UserError


@pytest.fixture
def saved(tmp_path):
    x, _ = blobs()
    method = baselines.get("sh", 10).fit(x)
    method.save(tmp_path / "sh.npz")
    return tmp_path / "sh.npz"


@pytest.mark.parametrize("name", sorted(baselines.METHODS))
def test_a_saved_method_gives_the_same_bits(name, tmp_path):
    x, y = blobs()
    text = {"ksh": "ksh:anchors=40,tolerance=0.5", "sdh": "sdh:sigma=2.5"}.get(name, name)
    method = baselines.get(text, 11, None).fit(x, y)
    method.save(tmp_path / "method.npz")
    for again in (
        baselines.load(tmp_path / "method.npz"),
        type(method).load(tmp_path / "method.npz"),
    ):
        assert type(again) is type(method)
        assert again.get_params() == method.get_params()
        np.testing.assert_array_equal(again.decision_function(x), method.decision_function(x))
        np.testing.assert_array_equal(again.transform(x), method.transform(x))
        with pytest.raises(UserError, match="X has 11 features"):
            again.transform(x[:, 1:])


def test_numbers_of_numpy_are_saved_as_plain_ones(tmp_path):
    x, _ = blobs()
    method = baselines.get("pcah", np.int64(5), np.int64(3)).fit(x)
    method.save(tmp_path / "pcah.npz")
    assert baselines.load(tmp_path / "pcah.npz").get_params() == {"n_bits": 5, "random_state": 3}


def test_no_file_holds_pickled_objects(saved):
    with np.load(saved, allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "fiU" for name in file.files)


def test_another_methods_file_is_refused(saved):
    with pytest.raises(UserError, match="sh.npz contains the method SH, not PCAH"):
        PCAH.load(saved)


def test_only_a_fitted_method_is_saved(tmp_path):
    with pytest.raises(NotFittedError):
        baselines.get("sh").save(tmp_path / "sh.npz")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    x, _ = blobs()
    with pytest.raises(UserError, match="cannot write .*: No such file or directory"):
        baselines.get("sh", 4).fit(x).save(tmp_path / "none" / "sh.npz")
    with pytest.raises(UserError, match="cannot write .*: Is a directory"):
        baselines.get("sh", 4).fit(x).save(tmp_path)
    assert not list(tmp_path.iterdir())


def refused(path, match):
    with pytest.raises(UserError, match=match) as caught:
        baselines.load(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_a_damaged_file_is_refused(saved):
    content = saved.read_bytes()
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:size])
        refused(saved, "damaged|does not hold")
    for at in range(50, len(content), len(content) // 40):
        saved.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        try:
            again = baselines.load(saved)
        except UserError as error:
            assert "\n" not in str(error)
        else:  # a byte of the zip's own notes that nothing depends on, such as a file's time
            assert again.transform(blobs()[0]).any()


def test_files_of_other_kinds_are_refused(saved):
    refused(saved.with_name("none.npz"), "is not there")
    refused(saved.parent, "cannot read .*: Is a directory")
    saved.write_text("no archive")
    refused(saved, "does not contain a shallow method")
    np.savez(saved, x=np.zeros(3))
    refused(saved, "does not contain a shallow method")
    np.savez(saved, about=np.array([{"format": "dah_tf shallow method"}], object))
    refused(saved, "does not contain a shallow method")
    np.savez(saved, about=np.array('{"format": "another", "version": 1}'))
    refused(saved, "does not contain a shallow method")
    np.savez(saved, about=np.array("[1, 2]"))
    refused(saved, "does not contain a shallow method")
    with zipfile.ZipFile(saved, "w") as file:
        file.writestr("about.npy", b"")
    refused(saved, "does not contain a shallow method")
    np.save(saved.with_suffix(".npy"), np.zeros(3))
    refused(saved.with_suffix(".npy"), "does not contain a shallow method")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 2}, "has format 2, but this dah_tf reads format 1"),
        ({"class": "Nothing"}, "its arrays are not those"),
        ({"class": "PCAH"}, "its arrays are not those"),
        ({"class": ["SH"]}, "its arrays are not those"),
        ({"features": 11}, "its arrays are not those"),
        ({"features": "many"}, "its arrays are not those"),
        ({"parameters": {"n_bits": 9, "random_state": 0}}, "its arrays are not those"),
        ({"parameters": {"bits": 10}}, "its arrays are not those"),
    ],
)
def test_what_does_not_fit_is_refused(saved, change, match):
    with np.load(saved) as file:
        content = dict(file)
    about = {**json.loads(str(content.pop("about"))), **change}
    np.savez(saved, about=np.array(json.dumps(about)), **content)
    refused(saved, match)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("mean_", np.zeros(11)),
        ("mean_", np.zeros((12, 1))),
        ("phases_", np.full(10, np.nan)),
        ("phases_", np.array(["a"] * 10)),
        ("another_", np.zeros(3)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved, name, array):
    with np.load(saved) as file:
        content = dict(file)
    np.savez(saved, **{**content, name: array})
    refused(saved, "its arrays are not those")


def test_what_only_training_knows_is_not_kept(tmp_path):
    x, _ = blobs()
    method = ITQ(8).fit(x)
    method.save(tmp_path / "itq.npz")
    again = ITQ.load(tmp_path / "itq.npz")
    assert len(method.objectives_) == 50
    assert not hasattr(again, "objectives_")
    np.testing.assert_array_equal(again.rotation_, method.rotation_)
