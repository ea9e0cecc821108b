"""The index in Milvus against brute force and against `Index`, by Milvus Lite in a file."""

import inspect
import itertools
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from index_codes import make
from test_index import Model, fill

from dah_tf import codes as packed
from dah_tf.errors import UserError
from dah_tf.index import Index
from dah_tf.index.milvus import MilvusIndex, answering, connection, is_milvus, names, storing

REASON = "needs pymilvus and milvus-lite: pip install 'dah_tf[milvus]'"
pymilvus = pytest.importorskip("pymilvus", reason=REASON)
pytest.importorskip("milvus_lite", reason=REASON)

HOSTILE = [
    *('a"b', "a'b", "a\\b", 'a\\"', '" or id >= 0 or label == "', "a%b", "a_b", "a%", "aXb"),
    *("%22", "a%22b", "a\nb", "a\tb", "a\0b", "ä", "日本", "😀x", "a/\udcff.png", "a/\udcfe", ""),
    *("a", "ab", "b", "\x7f", "\u2028", "{x}", "a!", "a[", "a~b", "\ud7ffx", "\U0010ffff", "A"),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    # One file for all: each is a server of its own, which takes half a second to start.
    return tmp_path_factory.mktemp("milvus") / "made" / "codes.db"


@pytest.fixture
def path(file, counter=itertools.count()):  # noqa: B008
    return f"milvus:{file}/c{next(counter)}"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def collections(index):
    """The index's collections, sorted."""
    there = index._server.client.list_collections()
    return sorted(n for n in there if n.split("__")[0] == index._name)


def rows(index):
    """Everything that an index has stored."""
    found = [row["facts"] for row in index._server.some(index._name, "id >= 0", ["facts"], 9)]
    assert len(found) == 1
    for page in index._server.every(
        index._facts["collection"], ["id", "code", "key", "label", "change"]
    ):
        found += [str(row) for row in page]
    return collections(index), found


def broken_after(monkeypatch, batches):
    """Lets Milvus fail after so many batches of items."""
    send = connection.Server._upsert
    count = itertools.count()

    def fail(server, name, batch):
        if "key" in batch[0] and next(count) >= batches:
            raise UserError("Milvus failed")
        send(server, name, batch)

    monkeypatch.setattr(connection, "BATCH", 10)
    monkeypatch.setattr(connection.Server, "_upsert", fail)


def killed_after(monkeypatch, batches):
    """As `broken_after`, but nobody tidies up."""
    broken_after(monkeypatch, batches)
    monkeypatch.setattr(storing, "settle", lambda *_: (_ for _ in ()).throw(UserError("killed")))


def test_interface_is_that_of_index():
    def public(kind):
        public = [n for n in vars(kind) if not n.startswith("_") or n in ("__len__",)]
        return {n: inspect.getattr_static(kind, n) for n in public}

    ours, theirs = public(MilvusIndex), public(Index)
    assert set(ours) - {"close"} == set(theirs)
    for name in theirs:
        assert type(ours[name]) is type(theirs[name]), name
        if not isinstance(theirs[name], property):
            mine = inspect.signature(getattr(MilvusIndex, name))
            assert mine == inspect.signature(getattr(Index, name)), name
    assert set(storing.BACKENDS) < set(inspect.getmodule(Index).engines.BACKENDS)


@pytest.mark.parametrize("bits", [8, 12, 36, 48, 64, 256])
@pytest.mark.parametrize("distinct", [None, 20])
def test_any_code_length(path, rng, bits, distinct):
    codes = make(rng, bits, 300, distinct)
    queries = np.concatenate([codes[:3], make(rng, bits, 3)])
    index, model = MilvusIndex.create(path, bits), Model()
    fill(index, model, codes[:200])
    fill(index, model, codes[200:], rng.permutation(10_000)[:100] + 2**40)
    for each in (index, MilvusIndex.open(path)):
        assert each.bits == bits and len(each) == 300
        model.check_search(each, queries, 17)
        model.check_search(each, queries, 400)
        model.check_radius(each, queries, bits // 4)
        model.check_radius(each, queries, 10**6)
    assert not index.verify()


def test_same_as_index(path, tmp_path, rng):
    # Among equals it is open which are returned: k where none of them is cut off, and the rest.
    codes, queries = make(rng, 48, 500, 60), make(rng, 48, 8, 8)
    keys, labels = [f"{i % 3}/{i}" for i in range(500)], [str(i % 4) for i in range(500)]
    given = {"codes": codes, "keys": keys, "labels": labels}
    one = Index.create(tmp_path / "index", 48, "model-a", "numpy", **given)
    other = MilvusIndex.create(path, 48, "model-a", **given)
    for index in (one, other):
        index.remove(np.arange(0, 500, 7))
    for filters in ({}, {"label": "2"}, {"key_prefix": "1/"}, {"label": "2", "key_prefix": "1/"}):
        for k, farthest in ((500, None), (500, 20), (7, None)):
            ours = other.search(queries, k, farthest, **filters)
            theirs = one.search(queries, k, farthest, **filters)
            np.testing.assert_array_equal(ours.distances, theirs.distances)
            if k == 500:
                np.testing.assert_array_equal(ours.ids, theirs.ids)
            assert [each.dtype for each in ours] == [each.dtype for each in theirs]
        ours, theirs = (index.radius(queries, 18, **filters) for index in (other, one))
        for mine, its in zip(ours, theirs, strict=True):
            assert mine.dtype == its.dtype
            if mine is not ours.ids:
                np.testing.assert_array_equal(mine, its)
        for begin, end in itertools.pairwise(ours.starts):
            assert set(ours.ids[begin:end]) == set(theirs.ids[begin:end])
    ids = [3, 0, 499, -1, 10**12, 3]
    assert other.describe(ids) == one.describe(ids)
    some = [5, 499, 5, 1]
    np.testing.assert_array_equal(other.codes(some), codes[some])
    assert other.codes([]).shape == (0, 6)
    for index in (one, other):
        with pytest.raises(UserError, match="ids 0, 600 are not in the index"):
            index.codes([0, 5, 600])
    listed = [
        [each for part in index.items() for each in zip(*part, strict=True)]
        for index in (one, other)
    ]
    assert sorted(listed[0]) == sorted(listed[1]) and len(listed[0]) == len(one)
    assert other.add(codes[:2]).tolist() == one.add(codes[:2]).tolist() == [500, 501]
    common = set(one.stats()) & set(other.stats()) - {"path", "backend"}
    assert {n: one.stats()[n] for n in common} == {n: other.stats()[n] for n in common}
    assert {"items", "bits", "fingerprint", "recall", "changes"} <= common


def test_a_life_of_changes(path, rng, monkeypatch):
    monkeypatch.setattr(connection, "BATCH", 50)
    index, model = MilvusIndex.create(path, 36), Model()
    for step in range(12):
        fill(index, model, make(rng, 36, int(rng.integers(1, 120)), 40))
        if step % 3 == 2:
            gone = rng.choice(list(model.items), len(model.items) // 3, replace=False)
            index.remove(gone)
            for i in gone.tolist():
                del model.items[i]
            back = gone[:5]
            fill(index, model, make(rng, 36, len(back)), back)
        if step == 5:
            index.compact()
        if step == 8:
            model.items = {}
            codes = make(rng, 36, 120)
            index.replace(codes, np.arange(120) * 3)
            model.items = dict(zip((np.arange(120) * 3).tolist(), codes, strict=True))
        if step % 4 == 3:
            queries = np.concatenate([make(rng, 36, 3), model.arrays()[1][:2]])
            model.check_search(index, queries, 10)
            model.check_search(index, queries, 10**6, max_distance=9)
            model.check_radius(MilvusIndex.open(path), queries, 9)
        assert len(index) == len(model.items) == len(MilvusIndex.open(path))
        assert not index.verify()
    index.remove(list(model.items))
    assert len(index) == 0 and index.search(queries, 3).ids.shape == (len(queries), 0)
    assert index.radius(queries, 36).starts.tolist() == [0] * (len(queries) + 1)
    assert index.search(queries[:0], 3).ids.shape == (0, 0)
    assert index.radius(queries[:0], 3).starts.tolist() == [0]
    assert not index.verify()


def test_more_than_milvus_returns_at_once(path, rng):
    # 20,000 equal codes within the radius, and others nearer and farther.
    codes = np.concatenate([make(rng, 12, 50, 50), np.zeros((20_000, 2), np.uint8)])
    ids = rng.permutation(len(codes))
    index = MilvusIndex.create(path, 12, codes=codes, ids=ids)
    query = packed.pack([[1] + [0] * 11])
    apart = packed.hamming(query, codes)[0]
    found = index.radius(query, 2)
    assert len(found.ids) == (apart <= 2).sum() > answering.LIMIT
    assert set(found.ids) == set(ids[apart <= 2]) and (np.diff(found.distances) >= 0).all()
    distances, nearest = index.search(query, 20_020)
    np.testing.assert_array_equal(distances[0], np.sort(apart)[:20_020])
    assert len(set(nearest[0].tolist())) == 20_020
    index.remove(ids)
    assert len(index) == 0 and not index.verify()


@pytest.mark.parametrize("distinct", [None, 30, 2])
def test_small_answers(path, rng, monkeypatch, distinct):
    # The same with a limit of 7: every way through the bands of distances and the halves of ids.
    index, model = MilvusIndex.create(path, 12), Model()
    fill(index, model, make(rng, 12, 150, distinct), rng.permutation(400)[:150])
    fill(index, model, make(rng, 12, 2), [2**63 - 2, 500])
    queries = np.concatenate([make(rng, 12, 3), model.arrays()[1][:2]])
    for name, value in (("LIMIT", 7), ("FIRST", 3), ("QUERIES", 2), ("ANSWERS", 10)):
        monkeypatch.setattr(answering, name, value)
    for r in (0, 3, 12):
        model.check_radius(index, queries, r)
    for k in (1, 7, 8, 40, 1000):
        model.check_search(index, queries, k)


def test_hostile_strings(path, tmp_path):
    codes = np.zeros((len(HOSTILE), 1), np.uint8)
    index = MilvusIndex.create(path, 8, codes=codes, keys=HOSTILE, labels=HOSTILE[::-1])
    other = Index.create(
        tmp_path / "index", 8, backend="numpy", codes=codes, keys=HOSTILE, labels=HOSTILE[::-1]
    )
    every = np.arange(len(HOSTILE))
    assert index.describe(every) == other.describe(every) == (HOSTILE, HOSTILE[::-1])
    for text in [*HOSTILE, "none", "a%2", "%", '"', "\\", "a\\"]:
        for name in ("label", "key_prefix"):
            ours = index.radius(codes[:1], 0, **{name: text}).ids
            expected = other.radius(codes[:1], 0, **{name: text}).ids
            assert sorted(ours) == sorted(expected), (name, text)


def test_escapes_are_reversible_and_keep_prefixes():
    letters = ["%", '"', "2", "a", "\udcff", "\x80", "\\", "\ud7ff", "\ue000"]
    words = ["".join(each) for n in range(4) for each in itertools.product(letters, repeat=n)]
    words = [
        w for w in words if w == w.encode(errors="surrogateescape").decode(errors="surrogateescape")
    ]
    assert len(words) > 700
    for word in words:
        text = names.escaped(word)
        assert names.unescaped(text) == word
        assert not set(text) & set('"\\\n\udcff')
        text.encode()
    assert len({names.escaped(word) for word in words}) == len(words)
    for word, start in itertools.product(words[:100], words[:100]):
        kept = names.escaped(word).startswith(names.escaped(start))
        assert kept == word.startswith(start)
    assert names.escaped("O'Brien/50_ä 日") == "O'Brien/50_ä 日"


def test_refusals_change_nothing(path, file, rng):
    index = MilvusIndex.create(path, 36, fingerprint="model-a")
    index.add(make(rng, 36, 10), np.arange(10) * 2)
    before = rows(index)
    there = index._server.client.list_collections()
    good, other = make(rng, 36, 2), f"milvus:{file}/refused"
    bad = [
        (lambda: index.add(good, [4, 5]), "id 4 is already in the index"),
        (lambda: index.add(good, [4, 6]), "ids 4, 6 are already"),
        (lambda: index.add(good, [7, 7]), "id 7 is given twice"),
        (lambda: index.add(good, [7]), "2 codes and 1 ids"),
        (lambda: index.add(good, [-1, 7]), "from 0 to 2"),
        (lambda: index.add(good, [21, 23], keys=["a"]), "2 codes and 1 keys"),
        (lambda: index.add(good, [21, 23], keys=["a", "ä" * 2049]), "key of id 23 .* 4,098 bytes"),
        (lambda: index.add(good, [21, 23], labels=["%" * 400, ""]), "label of id 21 .* 1,200 byt"),
        (lambda: index.add(make(rng, 48, 2), [21, 23]), "36 bits"),
        (lambda: index.add(np.zeros((2, 4), np.uint8), [21, 23]), "36 bits"),
        (lambda: index.add(good | 1, [21, 23]), "Padding"),
        (lambda: index.add(good, [21, 23], fingerprint="model-b"), "model-b.*model-a"),
        (lambda: index.remove([2, 3]), "id 3 is not in the index"),
        (lambda: index.remove(np.arange(20)), "ids 1, 3, 5 and 7 more are not in the index"),
        (lambda: index.search(good, 0), "k is at least 1"),
        (lambda: index.search(make(rng, 48, 2), 1), "36 bits"),
        (lambda: index.search(good, 1, fingerprint="model-b"), "distances mean nothing"),
        (lambda: index.radius(good, -1), "radius"),
        (lambda: index.compact("none"), "no backend"),
        (lambda: index.compact("ivf"), "Milvus Lite has no backend 'ivf'"),
        (lambda: index.compact(recall=2.0), "recall"),
        (lambda: index.replace(good, bits=300), "8 to 256"),
        (lambda: index.replace(good, keys=["a" * 4097, ""]), "key of id 19"),
        (lambda: MilvusIndex.create(path, 36), "exists already"),
        (lambda: MilvusIndex.create(other, 7), "8 to 256"),
        (lambda: MilvusIndex.create(other, 36, backend="hnsw"), "Milvus has no backend 'hnsw'"),
        (lambda: MilvusIndex.create(other, 36, backend="ivf"), "choose flat, or a server"),
        (lambda: MilvusIndex.create(other, 36, codes=good, ids=[1, 1]), "twice"),
        (lambda: MilvusIndex.create(other, 36, "x" * 70_000), "65,535 bytes of facts"),
        (lambda: index.replace(good, fingerprint="x" * 70_000), "65,535 bytes of facts"),
        (lambda: MilvusIndex.open(other), "is no index"),
        (lambda: MilvusIndex.open(f"milvus:{file.parent}/none.db/x"), "is no index"),
        (lambda: MilvusIndex.open(path, "none"), "no backend"),
        (lambda: MilvusIndex.open(f"milvus:{file}/{index._facts['collection']}"), "another prog"),
    ]
    for action, message in bad:
        with pytest.raises(UserError, match=message):
            action()
        assert rows(index) == before, message
        assert index._server.client.list_collections() == there
    assert not (file.parent / "none.db").exists()
    assert index.add(good[:0]).shape == (0,)
    index.remove([])
    assert rows(index) == before
    assert index.add(good).tolist() == [19, 20], "numbers go on after the largest"
    index.remove([20])
    assert MilvusIndex.open(path).add(good[:1]).tolist() == [21], "and are not given again"
    index.add(good[:1], [20])
    assert len(index) == 13 and not index.verify()


def test_failed_add_is_taken_back(path, rng, monkeypatch):
    index = MilvusIndex.create(path, 36, codes=make(rng, 36, 20))
    before = rows(index)
    with monkeypatch.context() as patch:
        broken_after(patch, 2)
        with pytest.raises(UserError, match="Milvus failed"):
            index.add(make(rng, 36, 35))
    assert rows(index) == before and len(index) == 20 and not index.verify()
    assert index.add(make(rng, 36, 1)).tolist() == [20]


def test_killed_add_is_noticed_and_taken_away(path, rng, monkeypatch):
    index = MilvusIndex.create(path, 36, codes=make(rng, 36, 20))
    new = make(rng, 36, 35)
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(UserError, match="Milvus failed"):
            index.add(new)
    other = MilvusIndex.open(path)
    assert (len(other), index._server.count(other._facts["collection"])) == (20, 40)
    problems = "\n".join(other.verify())
    assert "was killed" in problems and "20 items are of a change" in problems
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


def test_killed_remove_is_counted_anew(path, rng, monkeypatch):
    codes = make(rng, 36, 40)
    index = MilvusIndex.create(path, 36, codes=codes)
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


def test_replace_swaps_everything(path, rng):
    index = MilvusIndex.create(path, 36, "model-a", codes=make(rng, 36, 30), keys=["old"] * 30)
    reader = MilvusIndex.open(path)
    codes = make(rng, 48, 50)
    index.replace(codes, bits=48, fingerprint="model-b", ids=np.arange(50), keys=["new"] * 50)
    assert (index.bits, index.fingerprint, len(index)) == (48, "model-b", 50)
    assert not index.search(codes, 1).distances.any() and not index.verify()
    assert collections(index) == [index._name, f"{index._name}__2"], "the old one is dropped"
    # A reader that has not heard of it hears of it when it asks: never a distance between models.
    assert reader.describe([1, 60]) == (["new", ""], ["", ""]) and reader.bits == 48
    reader = MilvusIndex.open(path)
    index.replace(make(rng, 36, 10), bits=36, fingerprint="model-c")
    with pytest.raises(UserError, match="36 bits"):
        reader.search(codes, 1)
    with pytest.raises(UserError, match="model-b.*model-c"):
        reader.search(make(rng, 36, 1), 1, fingerprint="model-b")
    assert reader.search(make(rng, 36, 1), 1).ids.min() >= 50, "numbers go on"


def test_failed_replace_leaves_the_old(path, rng, monkeypatch):
    index = MilvusIndex.create(path, 36, "model-a", codes=make(rng, 36, 30))
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
    assert (index.bits, len(MilvusIndex.open(path))) == (36, 30)
    index.compact()
    assert not index.verify() and len(collections(index)) == 2
    index.replace(make(rng, 48, 5), bits=48)
    assert len(index) == 5 and not index.verify()


def test_killed_create_is_out_of_the_way(path, rng, monkeypatch):
    codes = make(rng, 36, 30)
    with monkeypatch.context() as patch:
        patch.setattr(connection.Server, "drop", lambda *_: None)
        patch.setattr(storing, "write", lambda *_: (_ for _ in ()).throw(UserError("killed")))
        with pytest.raises(UserError, match="killed"):
            MilvusIndex.create(path, 36, codes=codes)
    with pytest.raises(UserError, match="is no index"):
        MilvusIndex.open(path)
    index = MilvusIndex.create(path, 48, codes=make(rng, 48, 7))
    assert len(index) == 7 and not index.verify() and len(collections(index)) == 2


def test_readers_see_a_replace_in_one_step(path, rng):
    # Every code of round i has its first byte i: an answer of two rounds would show.
    def round_of(i):
        codes = make(rng, 36, 60)
        codes[:, 0] = i
        return codes

    index = MilvusIndex.create(path, 36, codes=round_of(0), labels=["0"] * 60)
    reader, stop, seen, wrong = MilvusIndex.open(path), threading.Event(), set(), []

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
            except Exception as error:  # noqa: BLE001
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


def test_facts_are_there_at_every_moment(path, rng, monkeypatch):
    index = MilvusIndex.create(path, 36, codes=make(rng, 36, 30))
    seen = []

    def then_look(name):
        call = getattr(pymilvus.MilvusClient, name)

        def called(client, *args, **kwargs):
            found = call(client, *args, **kwargs)
            other = MilvusIndex.open(path)
            seen.append((other.bits, other.search(make(rng, other.bits, 1), 1).ids[0, 0] >= 0))
            return found

        monkeypatch.setattr(pymilvus.MilvusClient, name, called)

    for name in ("upsert", "delete", "create_collection", "drop_collection"):
        then_look(name)
    index.replace(make(rng, 48, 30), bits=48)
    assert sorted(set(seen)) == [(36, True), (48, True)] and seen == sorted(seen)


def test_verify_finds_what_is_wrong(path, rng):
    index = MilvusIndex.create(path, 36, codes=make(rng, 36, 30))
    name = index._facts["collection"]

    def put(i, code, change=0):
        row = {"id": i, "code": code, "key": "", "label": "", "change": change}
        index._server.client.upsert(name, [row])

    def problems():
        return MilvusIndex.open(path).verify()

    good = make(rng, 36, 1)[0].tobytes()
    assert not problems()
    put(3, good[:4] + b"\x01")
    assert problems() == ["1 codes have padding that is not 0"]
    put(3, good)
    put(4, good, change=1)
    assert problems() == ["1 items are of a change that did not end"]
    put(4, good)
    index._server.client.insert(
        name, [{"id": 4, "code": good, "key": "", "label": "", "change": 0}]
    )
    assert problems() == ["an id stands there twice"]
    put(4, good)
    put(99, good)
    assert problems() == ["31 items instead of 30", "id 99 is not below next_id 30"]
    index._server.delete(name, np.array([99, 1, 2]))
    assert problems() == ["28 items instead of 30"]
    storing.write(index._server, index._name, index._facts | {"items": 28, "bits": 48})
    assert problems() == ["its codes have 40 dimensions instead of 48"]
    storing.write(index._server, index._name, index._facts | {"items": 28, "lists": 64})
    assert problems() == ["its index is BIN_FLAT instead of BIN_IVF_FLAT"]


def test_other_versions_and_programs(path, rng):
    index = MilvusIndex.create(path, 36)
    storing.write(index._server, index._name, index._facts | {"version": 2})
    with pytest.raises(UserError, match="index format 2, this dah_tf reads format 1"):
        MilvusIndex.open(path)
    index._server.create(f"{index._name}x", "mine", 1, {})
    for action in (MilvusIndex.open, lambda place: MilvusIndex.create(place, 36)):
        with pytest.raises(UserError, match="another program's|exists already"):
            action(f"{path}x")
    assert index._server.description(f"{index._name}x") == "mine"
    index._server.create(f"{index._name}y__1", "mine", 1, {})
    with pytest.raises(UserError, match="y__1 is in the way"):
        MilvusIndex.create(f"{path}y", 36)
    assert index._server.description(f"{index._name}y__1") == "mine"


def test_paths():
    parse = names.parse
    assert parse("milvus:http://a:19530/photos")[1:] == ("http://a:19530", "", "photos", False)
    assert parse("milvus:https://a.b/shop/photos")[1:] == ("https://a.b", "shop", "photos", False)
    assert parse("milvus:c/d/x.db/photos")[1:] == ("c/d/x.db", "", "photos", True)
    assert parse("milvus:/x.db/photos").uri == "/x.db"
    assert is_milvus("milvus:x.db/photos") and not is_milvus("photos.index")
    for wrong in (
        *("milvus:", "milvus:photos", "milvus:x/photos", "milvus:x.db", "milvus:x.db/a-b"),
        *("milvus:http://a:19530", "milvus:http://a/b/c/d", "milvus:http:///c", "x.db/photos"),
        *("milvus:http://a/b?c=d", "milvus:x.db/1a", "milvus:x y.db/a", f"milvus:x.db/{'a' * 201}"),
        f"milvus:{'x' * 40}.db/a",
    ):
        with pytest.raises(UserError, match="a Milvus index is milvus:http"):
            parse(wrong)
    with pytest.raises(UserError, match="MILVUS_TOKEN") as caught:
        parse("milvus:http://me:secret@a:19530/photos")
    assert "secret" not in str(caught.value)


def test_paths_need_no_pymilvus(monkeypatch):
    code = (
        "import sys; from dah_tf.index.milvus import is_milvus, MilvusIndex\n"
        "from dah_tf.index.milvus.names import parse\n"
        "assert is_milvus('milvus:x.db/a') and parse('milvus:x.db/a')\n"
        "sys.exit(bool({'pymilvus', 'grpc', 'tensorflow'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(UserError, match=r"dah_tf\[milvus\]"):
        MilvusIndex.open("milvus:http://localhost:1/photos")


@pytest.mark.parametrize("silent", [False, True])
def test_unreachable(monkeypatch, silent):
    # A port where nobody listens, and one where somebody does and never answers.
    assert connection.CONNECT <= 5
    monkeypatch.setattr(connection, "CONNECT", 1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        if silent:
            listener.listen()
        begin = time.monotonic()
        with pytest.raises(UserError, match=f"cannot reach Milvus at http://127.0.0.1:{port};"):
            MilvusIndex.open(f"milvus:http://127.0.0.1:{port}/photos")
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    "code, message, told",
    [
        (100, "collection not found", "collection not found"),
        (800, "database not found[database=shop]", "has no database"),
        (1400, "auth check failure, please check username and password", "MILVUS_TOKEN"),
        ("StatusCode.UNAUTHENTICATED", "UNAUTHENTICATED: no", "MILVUS_TOKEN"),
        (2, "Fail connecting to server on a:1", "cannot reach Milvus"),
        ("x", "DEADLINE_EXCEEDED: late", "did not answer in time"),
        (65535, "two\nlines " + "x" * 1000, "says: two lines x"),
    ],
)
def test_errors_are_one_line(path, code, message, told):
    error = MilvusIndex.create(path, 8)._server._told(code, message)
    assert isinstance(error, UserError) and told in str(error)
    assert "\n" not in str(error) and len(str(error)) < 600
    assert isinstance(error, connection.Gone) == (code == 100)


def test_a_file_is_of_one_process(path, file):
    MilvusIndex.create(path, 8)
    code = (
        "import sys; from dah_tf.index.milvus import MilvusIndex\n"
        "try: MilvusIndex.open(sys.argv[1])\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], check=True, capture_output=True, text=True, timeout=60
    )
    assert "another process has it open" in done.stdout


def test_another_process_reads_what_a_killed_one_wrote(tmp_path):
    place = f"milvus:{tmp_path}/own.db/photos"
    code = """if True:
        import os, signal, sys
        import numpy as np
        from dah_tf.index.milvus import connection
        from dah_tf.index.milvus import MilvusIndex

        codes = np.arange(40, dtype=np.uint8)[:, None]
        index = MilvusIndex.create(sys.argv[1], 8, "model-a", codes=codes, keys=["a\\udcff"] * 40)
        index.remove([39])
        try:
            MilvusIndex.open(sys.argv[1] + "x")
        except ValueError:
            pass
        connection.BATCH = 10
        send = connection.Server._upsert

        def kill(server, name, batch):
            if batch[0]["id"] == 60:
                os.kill(os.getpid(), signal.SIGKILL)
            send(server, name, batch)

        connection.Server._upsert = kill
        index.add(codes)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, place], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL and not done.stderr, "pymilvus logs every error"
    index = MilvusIndex.open(place)
    assert (len(index), index.bits, index.fingerprint) == (39, 8, "model-a")
    assert index.describe([0])[0] == ["a\udcff"]
    assert "20 items are of a change that did not end" in index.verify()
    index.compact()
    assert not index.search(np.arange(39, dtype=np.uint8)[:, None], 1).distances.any()
    assert not index.verify() and len(index) == 39
    assert index.add(np.zeros((1, 1), np.uint8)).tolist() == [40]
    index.close()


def test_clusters_are_asked_for_as_milvus_recommends(path, rng, monkeypatch):
    # Milvus Lite has no BIN_IVF_FLAT: it gets BIN_FLAT, and what a server would be told is kept.
    asked, built, kept, levels = [], [], {}, []
    search, create = pymilvus.MilvusClient.search, pymilvus.MilvusClient.create_index
    create_collection = pymilvus.MilvusClient.create_collection

    def keep_level(client, name, **kwargs):
        levels.append(kwargs.get("consistency_level"))
        return create_collection(client, name, **kwargs)

    def keep_search(client, *args, **kwargs):
        asked.append(kwargs["search_params"])
        return search(client, *args, **kwargs)

    def keep_index(client, name, params, **kwargs):
        [each] = params
        kept[name] = each.to_dict()["index_type"]
        built.append(each.to_dict())
        flat = client.prepare_index_params()
        flat.add_index("code", index_type="BIN_FLAT", metric_type="HAMMING")
        return create(client, name, flat, **kwargs)

    monkeypatch.setattr(pymilvus.MilvusClient, "search", keep_search)
    monkeypatch.setattr(pymilvus.MilvusClient, "create_index", keep_index)
    monkeypatch.setattr(pymilvus.MilvusClient, "create_collection", keep_level)
    monkeypatch.setattr(connection.Server, "index_type", lambda _, name: kept[name])
    monkeypatch.setattr(storing, "check_backend", lambda *_: None)
    codes, queries = make(rng, 36, 400), make(rng, 36, 2)
    index = MilvusIndex.create(path, 36, backend="ivf", recall=0.9, codes=codes)
    # 4 * sqrt(400) clusters. The least effort is enough of what is exact at any.
    ivf, facts = built
    assert (ivf["index_type"], ivf["metric_type"], ivf["nlist"]) == ("BIN_IVF_FLAT", "HAMMING", 80)
    assert facts["index_type"] == "BIN_FLAT" and "nlist" not in facts
    # Milvus' default would show a write to readers seconds later.
    assert levels == ["Strong", "Strong"]
    assert [each["params"] for each in asked] == [{"nprobe": 80}, {"nprobe": 1}]
    assert index.stats()["backend"] == "ivf" and not index.verify()

    def params(read):
        asked.clear()
        read()
        assert {each["metric_type"] for each in asked} == {"HAMMING"}
        return asked[-1]["params"]

    everywhere = {"nprobe": 80, "max_empty_result_buckets": 65535}
    assert params(lambda: index.search(queries, 3)) == {"nprobe": 1}
    assert params(lambda: index.radius(queries, 3)) == everywhere | {"range_filter": 0, "radius": 4}
    exact = MilvusIndex.open(path, "flat")
    assert params(lambda: exact.search(queries, 3)) == {"nprobe": 80}
    index.replace(codes[:300])
    assert built[-1]["nlist"] == 69
    index.compact("flat")
    assert built[-1]["index_type"] == "BIN_FLAT" and len(built) == 4 and not index.verify()
    assert params(lambda: index.search(queries, 3)) == {}
    index.compact("ivf")
    assert built[-1]["nlist"] == 69 and len(built) == 5
    # Nothing is known of what an empty index will hold: lists for a full segment, an eighth read.
    index = MilvusIndex.create(f"{path}b", 36, backend="ivf")
    assert built[-2]["nlist"] == 12_649
    index.add(codes[:1])
    assert params(lambda: index.search(queries, 3)) == {"nprobe": 1581}


def test_least_effort_reaches_the_recall():
    # Of two queries' nearest two, effort 1 finds 1 of 4, 2 finds 3 of 4, 4 an equal of the last.
    found = {
        1: [[3, 9], [-1, -1]],
        2: [[3, 5], [7, 9]],
        4: [[3, 5], [7, 8]],
        8: [[3, 5], [8, 7]],
    }
    efforts = sorted(found)

    def least(recall):
        return answering.least_effort(lambda n: np.array(found[n]), efforts, recall)

    assert [least(recall) for recall in (0.25, 0.3, 0.75, 0.8, 1)] == [1, 2, 2, 4, 4]
    found[4] = found[2]
    assert least(1) == 8
