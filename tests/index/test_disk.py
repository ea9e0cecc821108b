"""Damage on the disk is found, and named; other versions are refused; leftovers are cleared."""

import json
import os
import shutil

import numpy as np
import pytest

from dah_tf import codes as packed
from dah_tf.errors import UserError
from dah_tf.index import Index, disk, segments


@pytest.fixture(name="folder")
def make_folder(tmp_path, monkeypatch):
    """An index with every kind of file: grouped and plain codes, keys, tables, removed items."""
    monkeypatch.setattr(segments, "TABLES_FROM", 50)
    rng = np.random.default_rng(0)
    index = Index.create(tmp_path / "index", 48)
    some = packed.pack(rng.integers(0, 2, (60, 48)))
    index.add(some[rng.integers(0, 60, 600)], keys=[f"{i}.png" for i in range(600)])
    index.add(some, labels=["cat"] * 60)
    index.remove([1, 601])
    assert not index.verify()
    return tmp_path / "index"


def stored(folder):
    return sorted((folder / disk.SEGMENTS).iterdir())


def test_arrays_are_as_documented(folder):
    names = {path.name.split("-", 1)[1] for path in stored(folder)}
    assert names == {
        *("codes.npy", "ids.npy", "starts.npy", "keys.npy", "keys_starts.npy"),
        *("labels.npy", "labels_starts.npy", "alive-3.npy"),
        *(f"{kind}{i}.npy" for kind in ("table", "buckets") for i in range(3)),
    }
    arrays = {path.name[9:-4]: np.load(path) for path in stored(folder) if path.name[7] == "1"}
    row = int(np.flatnonzero(arrays["ids"] == 17)[0])
    entry = np.searchsorted(arrays["starts"], row, side="right") - 1
    index = Index.open(folder)
    query = arrays["codes"][entry : entry + 1, :6]
    assert 17 in index.radius(query, 0).ids
    begin, end = arrays["keys_starts"][row : row + 2]
    assert bytes(arrays["keys"][begin:end]) == b"17.png"
    alive = np.unpackbits(arrays["alive-3"], count=600, bitorder="little")
    assert arrays["ids"][alive == 0].tolist() == [1]


def test_a_flipped_bit_anywhere_is_found(folder, tmp_path):
    rng = np.random.default_rng(0)
    for path in stored(folder):
        content = path.read_bytes()
        places = {0, len(content) - 1, *rng.integers(0, len(content), 4).tolist()}
        for place in places:
            damaged = bytearray(content)
            damaged[place] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            try:
                problems = Index.open(folder).verify()
            except UserError as error:
                problems = [str(error)]
            assert any(path.name in problem for problem in problems), (path.name, place)
        path.write_bytes(content)
    assert not Index.open(folder).verify()


def test_a_flipped_bit_in_the_manifest_is_found_at_once(folder):
    path = folder / disk.MANIFEST
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(UserError):
            Index.open(folder)


def test_a_short_or_missing_file_is_found_at_once(folder):
    for path in stored(folder):
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with pytest.raises(UserError, match=f"{path.name} is damaged"):
            Index.open(folder)
        path.unlink()
        with pytest.raises(UserError, match=f"{path.name} is missing"):
            Index.open(folder)
        path.write_bytes(content)


def test_faults_within_whole_files(folder):
    def rewritten(name, change):
        copy = folder.with_name(f"copy-{name}")
        shutil.copytree(folder, copy)
        body = disk.read_manifest(copy)
        entry = body["segments"][0]
        file = entry["files"][name][0]
        array = np.load(copy / disk.SEGMENTS / file)
        change(array)
        (copy / disk.SEGMENTS / file).unlink()
        entry["files"][name] = disk.write_array(copy, file, array)
        disk.write_manifest(copy, body)
        return " ".join(Index.open(copy).verify())

    def put(value, *place):
        return lambda array: array.__setitem__(place or 0, value)

    assert "two items have the same id" in rewritten("ids", put(605, 3))
    assert "starts do not divide" in rewritten("starts", put(1))
    assert "its keys_starts do not divide its keys" in rewritten("keys_starts", put(1))
    assert "another number of items" in rewritten("alive", put(0))
    assert "padding that is not 0" in rewritten("codes", put(1, 0, 7))


def test_other_versions_are_refused_with_instructions(folder):
    path = folder / disk.MANIFEST
    body = json.loads(path.read_bytes())
    for change, message in (
        ({"version": 2}, "has version 2 of the index format.*reads version 1.*build it again"),
        ({"format": "other"}, "belongs to another program"),
        ({"bits": 47}, "checksum does not match"),
    ):
        path.write_text(json.dumps(body | change))
        with pytest.raises(UserError, match=message):
            Index.open(folder)
    for text in ("", "[]", "3", "{}", "{"):
        path.write_text(text)
        with pytest.raises(UserError, match="is not a valid manifest"):
            Index.open(folder)
    path.unlink()
    with pytest.raises(UserError, match="is not an index"):
        Index.open(folder)


def test_leftovers_of_killed_writers_are_cleared(folder):
    index = Index.open(folder)
    (folder / disk.SEGMENTS / "00000003-codes.npy").write_bytes(b"half")
    (folder / f".{disk.MANIFEST}.tmp").write_bytes(b"half")
    abandoned = folder.with_name(".new.12345.tmp")
    (abandoned / disk.SEGMENTS).mkdir(parents=True)
    assert len(Index.open(folder)) == len(index)
    index.add(np.zeros((5, 6), np.uint8))
    named = {file[0] for part in index._facts["segments"] for file in part["files"].values()}
    assert {path.name for path in stored(folder)} == named
    Index.create(folder.with_name("new"), 48)
    assert not abandoned.exists()


def test_a_building_neighbour_is_left_alone(tmp_path):
    building = tmp_path / ".new.12345.tmp"
    building.mkdir()
    with disk.lock(building):
        Index.create(tmp_path / "new", 48)
        assert building.exists()


def test_lock_says_who_and_leaves_readers_alone(folder):
    index = Index.open(folder)
    with disk.lock(folder):
        for change in (lambda: index.add(np.zeros((1, 6), np.uint8)), index.compact):
            with pytest.raises(UserError, match=f"by another process .pid {os.getpid()}"):
                change()
        assert index.search(np.zeros((1, 6), np.uint8), 3).ids.shape == (1, 3)
        assert len(Index.open(folder)) == len(index)
    index.compact()


def test_a_reader_keeps_what_it_opened(folder):
    reader, writer = Index.open(folder), Index.open(folder)
    query = np.zeros((1, 6), np.uint8)
    before = reader.search(query, 1000)
    writer.remove(before.ids[0, :100])
    writer.compact()
    after = reader.search(query, 1000)
    np.testing.assert_array_equal(before.ids, after.ids)
    assert reader.describe(before.ids[0]) and len(reader) == 658
    reader.refresh()
    assert len(reader) == 558
