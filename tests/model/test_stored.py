"""Stored models and weights that cannot be opened. Bugs keep their own error."""

import pathlib
import re
import zipfile

import keras
import numpy as np
import pytest

from dah_tf.errors import UserError
from dah_tf.model import HashModel, backbones, hash_model, stored


def backbone(last=8):
    return backbones.get(f"compact:widths=8/8/{last}", channels=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Writes a `.keras` file, of which tests make changed copies."""
    path = tmp_path_factory.mktemp("whole") / "model.keras"
    HashModel(backbone(), bits=12, num_classes=3, image_size=16).save(path)
    return path


def changed(whole, folder, name, change):
    """Copies a file and applies `change` to one part of it. None leaves the part out."""
    path = pathlib.Path(folder) / "model.keras"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as copy:
        for each in source.namelist():
            content = source.read(each)
            content = change(content) if each == name else content
            if content is not None:
                copy.writestr(each, content)
    return path


def message(path, **options):
    with pytest.raises(UserError) as caught:
        stored.load(path, **options)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    return text


def test_a_whole_file_is_the_same_model(whole):
    one, two = keras.saving.load_model(whole), stored.load(whole)
    assert isinstance(two, HashModel)
    assert one.fingerprint() == two.fingerprint()


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    text = message(tmp_path / "none.keras")
    assert "is not there" in text and "damaged" not in text


def test_a_folder_in_the_files_place(tmp_path):
    assert "cannot be read: Is a directory" in message(tmp_path)


def half(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [half, flipped, lambda _: b"", lambda _: b"no archive"])
def test_damaged_files(whole, tmp_path, damage):
    path = tmp_path / "model.keras"
    path.write_bytes(damage(whole.read_bytes()))
    assert "is damaged" in message(path) and "restore it" in message(path)
    assert message(path, remedy="ask for another").endswith("; ask for another")


@pytest.mark.parametrize(
    "name, change, reason",
    [
        (stored.WEIGHTS, lambda _: None, "it has no model.weights.h5"),
        (stored.CONFIG, lambda _: None, "it has no config.json"),
        (stored.CONFIG, half, "Unterminated|Expecting"),
        (stored.WEIGHTS, half, "truncated file"),
    ],
)
def test_archives_with_a_damaged_part(whole, tmp_path, name, change, reason):
    text = message(changed(whole, tmp_path, name, change))
    assert re.search(rf"is damaged \(.*({reason})", text)


def renamed(old, new):
    def change(content):
        assert old in content
        return content.replace(old, new)

    return change


@pytest.mark.parametrize(
    "old, new",
    [
        (b"BatchNorm", b"GroupNorm9"),  # this class and its registered name belong to dah_tf
        (b'"MaxPooling2D"', b'"MaxPooling9D"'),  # this class belongs to Keras
        (b'"dah_tf.layers.cpu.convolution"', b'"others.layers"'),
    ],
)
def test_classes_that_are_not_here(whole, tmp_path, old, new):
    change = renamed(old, new)
    if b"others" in new:
        change = renamed(b'"dah_tf>Conv3x3"', b'"others>Conv3x3"')
        whole = changed(whole, tmp_path, stored.CONFIG, renamed(old, new)).rename(tmp_path / "1")
    text = message(changed(whole, tmp_path, stored.CONFIG, change))
    assert re.search("holds (GroupNorm9|MaxPooling9D|Conv3x3), which dah_tf .* and Keras", text)
    assert "a newer version may have written it" in text and "damaged" not in text


def test_a_method_that_is_not_here(whole, tmp_path):
    change = renamed(b'"method": "dah:', b'"method": "newest:')
    text = message(changed(whole, tmp_path, stored.CONFIG, change))
    assert "there is no method 'newest'" in text and "a newer version" in text


def test_what_a_newer_version_wrote(whole, tmp_path):
    """An unknown argument is explained if a newer version wrote the file, or else it is a bug."""
    argument = renamed(b'"num_classes"', b'"new": 1, "num_classes"')
    path = changed(whole, tmp_path, stored.CONFIG, argument)
    assert "was written by dah_tf 9.1 and" in message(path, versions={"dah_tf": "9.1"})
    with pytest.raises(ValueError, match="Unrecognized keyword") as caught:
        stored.load(path, versions={"dah_tf": "0.2.0"})
    assert not isinstance(caught.value, UserError)
    newer = renamed(keras.__version__.encode(), b"99.0.0")
    path = changed(path.rename(tmp_path / "1"), tmp_path, stored.METADATA, newer)
    assert "was written by Keras 99.0.0 and".lower() in message(path).lower()


@pytest.mark.parametrize("kind", [TypeError, ValueError, KeyError, AttributeError, RuntimeError])
def test_a_bug_keeps_its_traceback(whole, monkeypatch, kind):
    def broken(*_):
        raise kind("a bug")

    monkeypatch.setattr(hash_model.methods, "get", broken)
    with pytest.raises(kind, match="a bug") as caught:
        stored.load(whole)
    assert not isinstance(caught.value, UserError)


def test_weights(tmp_path, recwarn):
    path = tmp_path / "own.weights.h5"
    network = backbone()
    network.save_weights(path)
    content = path.read_bytes()
    other = backbone()
    stored.load_weights(other, path, "weights")
    assert all(map(np.array_equal, other.get_weights(), network.get_weights()))
    (tmp_path / "half.weights.h5").write_bytes(half(content))
    (tmp_path / "text.weights.h5").write_bytes(b"no weights")
    (tmp_path / "own.txt").write_bytes(content)
    for name, into, reason in (
        ("none.weights.h5", network, "weights is not there"),
        ("half.weights.h5", network, "weights cannot be read: .*truncated"),
        ("text.weights.h5", network, "weights cannot be read: .*signature"),
        ("own.txt", network, "weights is not a .h5 or .keras file"),
        ("own.weights.h5", backbone(16), "weights does not fit compact: .*could not be loaded"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            stored.load_weights(into, tmp_path / name, "weights")
        assert "\n" not in str(caught.value)
    assert not [each for each in recwarn if "Skipping" in str(each.message)]


def test_weights_of_a_keras_application(tmp_path):
    """The weights are loaded into the application inside the backbone."""
    network = backbones.get("mobilenetv3small").layers[-1]
    network.save_weights(tmp_path / "own.weights.h5")
    again = backbones.get("mobilenetv3small", weights=str(tmp_path / "own.weights.h5"))
    assert all(map(np.array_equal, again.layers[-1].get_weights(), network.get_weights()))
    backbone().save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(UserError, match="other.weights.h5 does not fit"):
        backbones.get("mobilenetv3small", weights=str(tmp_path / "other.weights.h5"))


def test_numbered_arrays(tmp_path):
    path = tmp_path / "weights.npz"
    network, other = backbone(), backbone()
    np.savez(path, **{str(n): each for n, each in enumerate(network.get_weights())})
    stored.load_arrays(other, path)
    assert all(map(np.array_equal, other.get_weights(), network.get_weights()))
    path.write_bytes(half(path.read_bytes()))
    with pytest.raises(UserError, match="is damaged .*; make it anew"):
        stored.load_arrays(other, path, "make it anew")
    path.unlink()
    with pytest.raises(UserError, match="is not there"):
        stored.load_arrays(other, path)
