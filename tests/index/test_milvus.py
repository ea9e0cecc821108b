"""The index in Milvus against brute force and against `Index`, by Milvus Lite in a file."""

import inspect
import itertools

import numpy as np
import pytest
from index_codes import make
from milvus_indexes import rows
from test_index import Model, fill

from dah_tf import codes as packed
from dah_tf.errors import UserError
from dah_tf.index import BACKENDS, Index, Store, at, create_index, hits, open_index
from dah_tf.index.milvus import MilvusIndex, answering, connection, names, storing

pytestmark = pytest.mark.slow

REASON = "needs pymilvus and milvus-lite: pip install 'dah_tf[milvus]'"
pymilvus = pytest.importorskip("pymilvus", reason=REASON)
pytest.importorskip("milvus_lite", reason=REASON)

HOSTILE = [
    *('a"b', "a'b", "a\\b", 'a\\"', '" or id >= 0 or label == "', "a%b", "a_b", "a%", "aXb"),
    *("%22", "a%22b", "a\nb", "a\tb", "a\0b", "ä", "日本", "😀x", "a/\udcff.png", "a/\udcfe", ""),
    *("a", "ab", "b", "\x7f", "\u2028", "{x}", "a!", "a[", "a~b", "\ud7ffx", "\U0010ffff", "A"),
]


def test_both_fill_in_one_contract():
    public = {name for name in vars(Store) if not name.startswith("_")}
    for kind in (Index, MilvusIndex):
        assert issubclass(kind, Store) and not kind.__abstractmethods__
        assert {name for name in vars(kind) if not name.startswith("_")} <= public
        for name in public - {"KIND", "BACKENDS"}:
            ours, theirs = (inspect.getattr_static(each, name) for each in (kind, Store))
            assert type(ours) is type(theirs) and inspect.getdoc(getattr(kind, name)), name
            if callable(getattr(Store, name)):
                ours, theirs = (inspect.signature(getattr(each, name)) for each in (kind, Store))
                assert list(ours.parameters) == list(theirs.parameters), name
    assert set(storing.BACKENDS) < set(BACKENDS)


def test_address_chooses_the_kind(milvus_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, kind in (
        *((milvus_path, MilvusIndex), ("ix", Index), (tmp_path / "iy", Index), ("a:b", Index)),
    ):
        with create_index(path, 16, codes=np.zeros((3, 2), np.uint8)) as index:
            assert type(index) is kind and at(path) is kind
        with open_index(path, "flat") as index:
            assert type(index) is kind and len(index) == 3
    assert open_index("ix").beside == tmp_path / ".ix"
    place = "milvus:http://a:1/b"
    monkeypatch.setattr(MilvusIndex, "__init__", lambda self, path: setattr(self, "path", path))
    assert MilvusIndex(place).beside == tmp_path / ".milvus_http___a_1_b"


@pytest.mark.parametrize("kind", [Index, MilvusIndex])
def test_count_at_is_that_of_brute_force(kind, milvus_path, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name, value in (("LIMIT", 7), ("FIRST", 3), ("QUERIES", 2), ("ANSWERS", 10)):
        monkeypatch.setattr(answering, name, value)
    monkeypatch.setattr(hits, "COUNTED", 100)
    codes, labels = make(rng, 24, 300, 30), [str(i % 3) for i in range(300)]
    path = milvus_path if kind is MilvusIndex else tmp_path / "ix"
    index = kind.create(path, 24, codes=codes[:200], labels=labels[:200])
    index.add(codes[200:], labels=labels[200:])
    index.remove(np.arange(0, 300, 7))
    queries = np.concatenate([codes[:3], make(rng, 24, 5)])
    apart = packed.hamming(queries, codes)
    there = np.arange(300) % 7 > 0
    distances = np.array([0, 1, 2, 5, 9, 24, -1, 99])
    for label in (None, "1", "none"):
        wanted = there & np.isin(labels, label or ["0", "1", "2"])
        expected = ((apart == distances[:, None]) & wanted).sum(axis=1)
        np.testing.assert_array_equal(index.count_at(queries, distances, label=label), expected)
        last = index.search(queries, 10, label=label).distances.max(axis=1)
        expected = ((apart == last[:, None]) & wanted).sum(axis=1)
        np.testing.assert_array_equal(index.count_at(queries, last, label=label), expected)
    assert index.count_at(queries[:0], distances[:0]).shape == (0,)
    with pytest.raises(UserError, match="8 queries need one distance each"):
        index.count_at(queries, distances[:3])


@pytest.mark.parametrize("bits", [8, 12, 36, 48, 64, 256])
@pytest.mark.parametrize("distinct", [None, 20])
def test_any_code_length(milvus_path, bits, distinct):
    rng = np.random.default_rng(0)
    codes = make(rng, bits, 300, distinct)
    queries = np.concatenate([codes[:3], make(rng, bits, 3)])
    index, model = MilvusIndex.create(milvus_path, bits), Model()
    fill(index, model, codes[:200])
    fill(index, model, codes[200:], rng.permutation(10_000)[:100] + 2**40)
    for each in (index, MilvusIndex.open(milvus_path)):
        assert each.bits == bits and len(each) == 300
        model.check_search(each, queries, 17)
        model.check_search(each, queries, 400)
        model.check_radius(each, queries, bits // 4)
        model.check_radius(each, queries, 10**6)
    assert not index.verify()


def test_same_as_index(milvus_path, tmp_path):
    rng = np.random.default_rng(0)
    # Among equals it is open which are returned: k where none of them is cut off, and the rest.
    codes, queries = make(rng, 48, 500, 60), make(rng, 48, 8, 8)
    keys, labels = [f"{i % 3}/{i}" for i in range(500)], [str(i % 4) for i in range(500)]
    given = {"codes": codes, "keys": keys, "labels": labels}
    one = Index.create(tmp_path / "index", 48, "model-a", "numpy", **given)
    other = MilvusIndex.create(milvus_path, 48, "model-a", **given)
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


def test_a_life_of_changes(milvus_path, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(connection, "BATCH", 50)
    index, model = MilvusIndex.create(milvus_path, 36), Model()
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
            model.check_radius(MilvusIndex.open(milvus_path), queries, 9)
        assert len(index) == len(model.items) == len(MilvusIndex.open(milvus_path))
        assert not index.verify()
    index.remove(list(model.items))
    assert len(index) == 0 and index.search(queries, 3).ids.shape == (len(queries), 0)
    assert index.radius(queries, 36).starts.tolist() == [0] * (len(queries) + 1)
    assert index.search(queries[:0], 3).ids.shape == (0, 0)
    assert index.radius(queries[:0], 3).starts.tolist() == [0]
    assert not index.verify()


def test_more_than_milvus_returns_at_once(milvus_path):
    rng = np.random.default_rng(0)
    # 20,000 equal codes within the radius, and others nearer and farther.
    codes = np.concatenate([make(rng, 12, 50, 50), np.zeros((20_000, 2), np.uint8)])
    ids = rng.permutation(len(codes))
    index = MilvusIndex.create(milvus_path, 12, codes=codes, ids=ids)
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
def test_small_answers(milvus_path, monkeypatch, distinct):
    rng = np.random.default_rng(0)
    # The same with a limit of 7: every way through the bands of distances and the halves of ids.
    index, model = MilvusIndex.create(milvus_path, 12), Model()
    fill(index, model, make(rng, 12, 150, distinct), rng.permutation(400)[:150])
    fill(index, model, make(rng, 12, 2), [2**63 - 2, 500])
    queries = np.concatenate([make(rng, 12, 3), model.arrays()[1][:2]])
    for name, value in (("LIMIT", 7), ("FIRST", 3), ("QUERIES", 2), ("ANSWERS", 10)):
        monkeypatch.setattr(answering, name, value)
    for r in (0, 3, 12):
        model.check_radius(index, queries, r)
    for k in (1, 7, 8, 40, 1000):
        model.check_search(index, queries, k)


def test_hostile_strings(milvus_path, tmp_path):
    codes = np.zeros((len(HOSTILE), 1), np.uint8)
    index = MilvusIndex.create(milvus_path, 8, codes=codes, keys=HOSTILE, labels=HOSTILE[::-1])
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


def test_refusals_change_nothing(milvus_path, milvus_file):
    rng = np.random.default_rng(0)
    index = MilvusIndex.create(milvus_path, 36, fingerprint="model-a")
    index.add(make(rng, 36, 10), np.arange(10) * 2)
    before = rows(index)
    there = index._server.client.list_collections()
    good, other = make(rng, 36, 2), f"milvus:{milvus_file}/refused"
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
        (lambda: index.search(good, 0), "k must be at least 1"),
        (lambda: index.search(make(rng, 48, 2), 1), "36 bits"),
        (
            lambda: index.search(good, 1, fingerprint="model-b"),
            "distances between them mean nothing",
        ),
        (lambda: index.radius(good, -1), "radius"),
        (lambda: index.compact("none"), "no Milvus backend"),
        (lambda: index.compact("flat:recall=0.9"), "flat has no option 'recall'"),
        (lambda: index.compact("ivf"), "Milvus Lite has no backend 'ivf'"),
        (lambda: index.compact(recall=2.0), "recall"),
        (lambda: index.replace(good, bits=300), "8 to 256"),
        (lambda: index.replace(good, keys=["a" * 4097, ""]), "key of id 19"),
        (lambda: MilvusIndex.create(milvus_path, 36), "exists already"),
        (lambda: MilvusIndex.create(other, 7), "8 to 256"),
        (lambda: MilvusIndex.create(other, 36, backend="hnsw"), "no Milvus backend 'hnsw'"),
        (lambda: MilvusIndex.create(other, 36, backend="ivf"), "choose flat, or a server"),
        (lambda: MilvusIndex.create(other, 36, codes=good, ids=[1, 1]), "twice"),
        (lambda: MilvusIndex.create(other, 36, "x" * 70_000), "Milvus stores at most 65,535"),
        (lambda: index.replace(good, fingerprint="x" * 70_000), "Milvus stores at most 65,535"),
        (lambda: MilvusIndex.open(other), "is not an index"),
        (lambda: MilvusIndex.open(f"milvus:{milvus_file.parent}/none.db/x"), "is not an index"),
        (lambda: MilvusIndex.open(milvus_path, "none"), "no Milvus backend"),
        (
            lambda: MilvusIndex.open(f"milvus:{milvus_file}/{index._facts['collection']}"),
            "another prog",
        ),
    ]
    for action, message in bad:
        with pytest.raises(UserError, match=message):
            action()
        assert rows(index) == before, message
        assert index._server.client.list_collections() == there
    assert not (milvus_file.parent / "none.db").exists()
    assert index.add(good[:0]).shape == (0,)
    index.remove([])
    assert rows(index) == before
    assert index.add(good).tolist() == [19, 20], "numbers go on after the largest"
    index.remove([20])
    assert MilvusIndex.open(milvus_path).add(good[:1]).tolist() == [21], "and are not given again"
    index.add(good[:1], [20])
    assert len(index) == 13 and not index.verify()
