"""Changes of an index in Milvus that fail, are killed, or are seen while they are made."""

import itertools
import threading

import numpy as np
import pytest
from index_codes import make
from milvus_indexes import broken_after, collections, killed_after, rows

from dah_tf.errors import UserError
from dah_tf.index.milvus import MilvusIndex, connection, storing

pytestmark = pytest.mark.slow

REASON = "needs pymilvus and milvus-lite: pip install 'dah_tf[milvus]'"
pymilvus = pytest.importorskip("pymilvus", reason=REASON)
pytest.importorskip("milvus_lite", reason=REASON)


def test_failed_add_is_taken_back(milvus_path, monkeypatch):
    rng = np.random.default_rng(0)
    index = MilvusIndex.create(milvus_path, 36, codes=make(rng, 36, 20))
    before = rows(index)
    with monkeypatch.context() as patch:
        broken_after(patch, 2)
        with pytest.raises(UserError, match="Milvus failed"):
            index.add(make(rng, 36, 35))
    assert rows(index) == before and len(index) == 20 and not index.verify()
    assert index.add(make(rng, 36, 1)).tolist() == [20]


def test_killed_add_is_noticed_and_taken_away(milvus_path, monkeypatch):
    rng = np.random.default_rng(0)
    index = MilvusIndex.create(milvus_path, 36, codes=make(rng, 36, 20))
    new = make(rng, 36, 35)
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(UserError, match="Milvus failed"):
            index.add(new)
    other = MilvusIndex.open(milvus_path)
    assert (len(other), index._server.count(other._facts["collection"])) == (20, 40)
    problems = "\n".join(other.verify())
    assert "was killed" in problems and "20 items belong to a change" in problems
    for change in (
        lambda: other.add(new),
        lambda: index.add(new),
        lambda: other.remove([1]),
        lambda: other.replace(new),
    ):
        with pytest.raises(UserError, match="being written by another process.*compact"):
            change()
    other.compact()
    assert not other.verify() and len(other) == 20
    assert index.add(new).tolist() == list(range(20, 55))


def test_killed_remove_is_counted_anew(milvus_path, monkeypatch):
    rng = np.random.default_rng(0)
    codes = make(rng, 36, 40)
    index = MilvusIndex.create(milvus_path, 36, codes=codes)
    with monkeypatch.context() as patch:
        killed_after(patch, 0)
        delete = pymilvus.MilvusClient.delete
        calls = itertools.count()

        def fail(client, name, **what):
            if "__" in name and next(calls) == 2:
                raise pymilvus.MilvusException(1, "out of order")
            return delete(client, name, **what)

        patch.setattr(pymilvus.MilvusClient, "delete", fail)
        with pytest.raises(UserError, match="Milvus at .* says: out of order"):
            index.remove(np.arange(35))
    index.compact()
    assert len(index) == 20 and not index.verify()
    assert set(index.radius(codes[:1], 36).ids) == set(range(20, 40))


def test_replace_swaps_everything(milvus_path):
    rng = np.random.default_rng(0)
    index = MilvusIndex.create(
        milvus_path, 36, "model-a", codes=make(rng, 36, 30), keys=["old"] * 30
    )
    reader = MilvusIndex.open(milvus_path)
    codes = make(rng, 48, 50)
    index.replace(codes, bits=48, fingerprint="model-b", ids=np.arange(50), keys=["new"] * 50)
    assert (index.bits, index.fingerprint, len(index)) == (48, "model-b", 50)
    assert not index.search(codes, 1).distances.any() and not index.verify()
    assert collections(index) == [index._name, f"{index._name}__2"], "the old one is dropped"
    # A reader that has not heard of it hears of it when it asks: never a distance between models.
    assert reader.describe([1, 60]) == (["new", ""], ["", ""]) and reader.bits == 48
    reader = MilvusIndex.open(milvus_path)
    index.replace(make(rng, 36, 10), bits=36, fingerprint="model-c")
    with pytest.raises(UserError, match="36 bits"):
        reader.search(codes, 1)
    with pytest.raises(UserError, match="model-b.*model-c"):
        reader.search(make(rng, 36, 1), 1, fingerprint="model-b")
    assert reader.search(make(rng, 36, 1), 1).ids.min() >= 50, "numbers go on"


def test_failed_replace_leaves_the_old(milvus_path, monkeypatch):
    rng = np.random.default_rng(0)
    index = MilvusIndex.create(milvus_path, 36, "model-a", codes=make(rng, 36, 30))
    before = rows(index)
    with monkeypatch.context() as patch:
        broken_after(patch, 2)
        with pytest.raises(UserError, match="Milvus failed"):
            index.replace(make(rng, 48, 50), bits=48)
    assert rows(index) == before and not index.verify()
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(UserError, match="Milvus failed"):
            index.replace(make(rng, 48, 50), bits=48)
    assert len(collections(index)) == 3
    assert (index.bits, len(MilvusIndex.open(milvus_path))) == (36, 30)
    index.compact()
    assert not index.verify() and len(collections(index)) == 2
    index.replace(make(rng, 48, 5), bits=48)
    assert len(index) == 5 and not index.verify()


def test_killed_create_is_out_of_the_way(milvus_path, monkeypatch):
    rng = np.random.default_rng(0)
    codes = make(rng, 36, 30)
    with monkeypatch.context() as patch:
        patch.setattr(connection.Server, "drop", lambda *_: None)
        patch.setattr(storing, "write", lambda *_: (_ for _ in ()).throw(UserError("killed")))
        with pytest.raises(UserError, match="killed"):
            MilvusIndex.create(milvus_path, 36, codes=codes)
    with pytest.raises(UserError, match="is not an index"):
        MilvusIndex.open(milvus_path)
    index = MilvusIndex.create(milvus_path, 48, codes=make(rng, 48, 7))
    assert len(index) == 7 and not index.verify() and len(collections(index)) == 2


def test_readers_see_a_replace_in_one_step(milvus_path):
    rng = np.random.default_rng(0)

    # Every code of round i has its first byte i: an answer of two rounds would show.
    def round_of(i):
        codes = make(rng, 36, 60)
        codes[:, 0] = i
        return codes

    index = MilvusIndex.create(milvus_path, 36, codes=round_of(0), labels=["0"] * 60)
    reader, stop, seen, wrong = MilvusIndex.open(milvus_path), threading.Event(), set(), []

    def read():
        query = np.zeros((3, 5), np.uint8)
        while not stop.is_set():
            try:
                found = reader.radius(query, 36)
                labels = set(reader.describe(found.ids)[1]) - {""}
                rounds = {tuple(np.diff(found.starts)), len(set(found.ids.tolist()))}
                if rounds != {(60, 60, 60), 60} or len(labels) > 1:
                    wrong.append((rounds, labels))
                seen.update(labels)
            except Exception as error:  # noqa: BLE001 - any error fails the test
                wrong.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for i in range(1, 9):
            index.replace(round_of(i), labels=[str(i)] * 60)
    finally:
        stop.set()
        thread.join()
    assert not wrong and len(seen) > 2


def test_facts_are_there_at_every_moment(milvus_path, monkeypatch):
    rng = np.random.default_rng(0)
    index = MilvusIndex.create(milvus_path, 36, codes=make(rng, 36, 30))
    seen = []

    def then_look(name):
        call = getattr(pymilvus.MilvusClient, name)

        def called(client, *args, **kwargs):
            found = call(client, *args, **kwargs)
            other = MilvusIndex.open(milvus_path)
            seen.append((other.bits, other.search(make(rng, other.bits, 1), 1).ids[0, 0] >= 0))
            return found

        monkeypatch.setattr(pymilvus.MilvusClient, name, called)

    for name in ("upsert", "delete", "create_collection", "drop_collection"):
        then_look(name)
    index.replace(make(rng, 48, 30), bits=48)
    assert sorted(set(seen)) == [(36, True), (48, True)] and seen == sorted(seen)


def test_verify_finds_what_is_wrong(milvus_path):
    rng = np.random.default_rng(0)
    index = MilvusIndex.create(milvus_path, 36, codes=make(rng, 36, 30))
    name = index._facts["collection"]

    def put(i, code, change=0):
        row = {"id": i, "code": code, "key": "", "label": "", "change": change}
        index._server.client.upsert(name, [row])

    def problems():
        return MilvusIndex.open(milvus_path).verify()

    good = make(rng, 36, 1)[0].tobytes()
    assert not problems()
    put(3, good[:4] + b"\x01")
    assert problems() == ["1 codes have padding that is not 0"]
    put(3, good)
    put(4, good, change=1)
    assert problems() == ["1 items belong to a change that did not end"]
    put(4, good)
    index._server.client.insert(
        name, [{"id": 4, "code": good, "key": "", "label": "", "change": 0}]
    )
    assert problems() == ["two items have the same id"]
    put(4, good)
    put(99, good)
    assert problems() == ["it has 31 items instead of 30", "id 99 is not below next_id 30"]
    index._server.delete(name, np.array([99, 1, 2]))
    assert problems() == ["it has 28 items instead of 30"]
    storing.write(index._server, index._name, index._facts | {"items": 28, "bits": 48})
    assert problems() == ["its codes have 40 dimensions instead of 48"]
    storing.write(index._server, index._name, index._facts | {"items": 28, "lists": 64})
    assert problems() == ["its index is BIN_FLAT instead of BIN_IVF_FLAT"]


def test_other_versions_and_programs(milvus_path):
    index = MilvusIndex.create(milvus_path, 36)
    storing.write(index._server, index._name, index._facts | {"version": 2})
    with pytest.raises(
        UserError, match="version 2 of the index format, but this dah_tf reads version 1"
    ):
        MilvusIndex.open(milvus_path)
    index._server.create(f"{index._name}x", "mine", 1, {})
    for action in (MilvusIndex.open, lambda place: MilvusIndex.create(place, 36)):
        with pytest.raises(UserError, match="belongs to another program|exists already"):
            action(f"{milvus_path}x")
    assert index._server.description(f"{index._name}x") == "mine"
    index._server.create(f"{index._name}y__1", "mine", 1, {})
    with pytest.raises(UserError, match="y__1 belongs to another program"):
        MilvusIndex.create(f"{milvus_path}y", 36)
    assert index._server.description(f"{index._name}y__1") == "mine"
