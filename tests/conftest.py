"""Fixtures that several test files share; each imports what it needs when it is used."""

import itertools

import pytest
from tiny_model import export_model, write_folder

NUMBERS = itertools.count()  # one for all tests: no two have the same collection


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A small exported model, loaded."""
    from dah_tf.encoding import Encoder

    return Encoder(export_model(tmp_path_factory.mktemp("models") / "dah" / "1"))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """50 pictures in `photos`, three more files that are none; the working directory."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos", 50)
    (tmp_path / "photos" / "cat" / "0000_.png").write_text("no image")
    (tmp_path / "photos" / "dog" / "\udcffempty\n.png").write_bytes(b"")
    good = (tmp_path / "photos" / "owl" / "0002.png").read_bytes()
    (tmp_path / "photos" / "owl" / "half.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "photos" / ".hidden").write_text("not looked at")
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("not an image, and not counted")
    return tmp_path


@pytest.fixture(scope="module")
def milvus_file(tmp_path_factory):
    # One file for all: each is a server of its own, which takes half a second to start.
    return tmp_path_factory.mktemp("milvus") / "made" / "codes.db"


@pytest.fixture
def milvus_path(milvus_file):
    """A collection that is not there yet."""
    return f"milvus:{milvus_file}/c{next(NUMBERS)}"
