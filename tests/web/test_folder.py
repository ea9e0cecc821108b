"""From a folder of images to an index: once, again, after a kill, and with another model."""

import numpy as np
import pytest
from tiny_model import BITS, write_folder

from dah_tf.encoding import choice, job
from dah_tf.errors import UserError
from dah_tf.index import Index
from dah_tf.web import Settings, folder

pytestmark = pytest.mark.slow  # an exported model


@pytest.fixture
def bring_in(tmp_path, monkeypatch, encoder):
    """A function that brings `photos` in and returns the index; and what it has said."""
    monkeypatch.chdir(tmp_path)
    # Loading the model again for each job would take most of the time.
    monkeypatch.setattr(choice, "fastest", lambda *_, **__: encoder)
    write_folder(tmp_path / "photos", 20)
    said = []

    def bring(**settings):
        said.clear()
        made = Settings(**{"images": "photos", "model": str(encoder.path), **settings})
        folder.bring_in(made, said.append)
        return Index(made.index)

    bring.said = said
    return bring


def keys_of(index):
    return sorted(key for _, keys, _ in index.items() for key in keys)


def test_a_folder_becomes_an_index(bring_in, tmp_path, encoder):
    index = bring_in()
    found = encoder.files("photos")
    assert len(index) == 20 and index.bits == BITS and index.root == str(tmp_path / "photos")
    assert index.fingerprint == encoder.fingerprint
    ids, keys, labels = next(index.items())
    assert [f"photos/{key}" for key in keys] == found.keys and labels == found.labels
    assert np.array_equal(index.codes(ids), found.codes)


def test_a_second_start_encodes_only_what_is_new(bring_in, tmp_path, monkeypatch):
    bring_in()
    encoded = []
    original = job.Job.encode_missing

    def encode_missing(self, *arguments):
        encoded.append(self.source.items)
        return original(self, *arguments)

    monkeypatch.setattr(job.Job, "encode_missing", encode_missing)
    assert len(bring_in()) == 20 and encoded == []
    (tmp_path / "photos" / "new.png").write_bytes(
        next((tmp_path / "photos" / "cat").iterdir()).read_bytes()
    )
    index = bring_in()
    assert encoded == [1] and len(index) == 21 and "new.png" in keys_of(index)
    # What was removed through the service is not added again.
    index.remove([3])
    assert len(bring_in()) == 20 and encoded == [1]


def test_from_another_working_directory(bring_in, tmp_path, monkeypatch):
    before = keys_of(bring_in())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert keys_of(bring_in(images="../photos")) == before
    assert len(bring_in.said) == 1  # Nothing was new.


def test_it_continues_wherever_it_was_killed(bring_in, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    for target, name in (
        (job.Job, "encode_missing"),
        (job.Job, "finish"),
        (folder, "_add"),
        (folder.durable, "sync"),
    ):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(target, name, killed)
            bring_in(index="made.index")
        index = bring_in(index="made.index")
        assert len(index) == len(set(keys_of(index))) == 20, name
        number = len(list((tmp_path / "photos" / "cat").iterdir()))
        new = tmp_path / "photos" / "cat" / f"new{number}.png"
        new.write_bytes((tmp_path / "photos" / "cat" / "0000.png").read_bytes())
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(target, name, killed)
            bring_in(index="made.index")
        assert len(bring_in(index="made.index")) == 21
        new.unlink()
        for each in (tmp_path / "made.index", tmp_path / ".made.index.codes"):
            folder.shutil.rmtree(each)


def test_a_deleted_index_is_made_again_from_the_codes(bring_in, tmp_path, monkeypatch):
    bring_in()
    folder.shutil.rmtree(tmp_path / "photos.index")
    monkeypatch.setattr(job.Job, "encode_missing", None)
    # What was deleted too does not come back.
    next((tmp_path / "photos" / "cat").iterdir()).unlink()
    assert len(bring_in()) == 19


def test_unreadable_images_are_told_once(bring_in, tmp_path):
    bad = tmp_path / "photos" / "cat" / "bad.png"
    bad.write_bytes(b"no image")
    assert len(bring_in()) == 20
    assert any("could not be read" in line for line in bring_in.said)
    assert len(bring_in()) == 20 and len(bring_in.said) == 1
    bad.write_bytes((tmp_path / "photos" / "cat" / "0000.png").read_bytes())
    later = (tmp_path / ".photos.index.codes" / "000000" / "manifest.json").stat().st_mtime + 5
    folder.os.utime(bad, (later, later))
    assert "cat/bad.png" in keys_of(bring_in())


def test_what_is_refused(bring_in, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images"):
        bring_in(images="empty")
    with pytest.raises(UserError, match="no file or folder"):
        bring_in(images="nothing")
    assert not list(tmp_path.glob("*.index"))
    Index.create(tmp_path / "other.index", BITS, fingerprint="other")
    with pytest.raises(UserError, match="search rebuild"):
        bring_in(index="other.index")
