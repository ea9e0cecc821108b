"""The index against brute force over a dict of what it should hold."""

import inspect

import numpy as np
import pytest
from index_codes import make

from dah_tf import codes as packed
from dah_tf.errors import UserError
from dah_tf.index import BACKENDS, Index, approximate, scan, segments, spans, texts, writing

EXACT = ["numpy", "flat", "mih"]


class Model:
    """What the index should hold: a dict of id to code, searched one by one."""

    def __init__(self):
        self.items = {}

    def arrays(self):
        ids = np.array(sorted(self.items), np.int64)
        return ids, np.array([self.items[i] for i in ids.tolist()], np.uint8)

    def check_search(self, index, queries, k, max_distance=None):
        """Equal distances; every returned id has its distance; no id twice; all nearer ones."""
        distances, ids = index.search(queries, k, max_distance)
        assert distances.dtype == np.int32 and ids.dtype == np.int64
        own, codes = self.arrays()
        assert distances.shape == ids.shape == (len(queries), min(k, len(own)))
        for query, row, found in zip(queries, distances, ids, strict=True):
            apart = packed.hamming(query[None], codes)[0].astype(int)
            expected = np.sort(apart)[:k]
            if max_distance is not None:
                expected = expected[expected <= max_distance]
            there = found >= 0
            np.testing.assert_array_equal(row[there], expected)
            assert (row[~there] == -1).all() and (np.diff(there.astype(int)) <= 0).all()
            found = found[there]
            assert len(set(found.tolist())) == len(found)
            truth = dict(zip(own.tolist(), apart.tolist(), strict=True))
            assert [truth[i] for i in found.tolist()] == expected.tolist()
            assert sorted(zip(expected, found, strict=True)) == list(
                zip(expected, found, strict=True)
            )

    def check_radius(self, index, queries, r):
        starts, distances, ids = index.radius(queries, r)
        own, codes = self.arrays()
        assert starts.shape == (len(queries) + 1,) and starts[0] == 0 and starts[-1] == len(ids)
        for i, query in enumerate(queries):
            apart = packed.hamming(query[None], codes)[0].astype(int)
            expected = sorted((d, j) for d, j in zip(apart, own.tolist(), strict=True) if d <= r)
            part = slice(starts[i], starts[i + 1])
            assert (np.diff(distances[part]) >= 0).all()
            assert sorted(zip(distances[part], ids[part], strict=True)) == expected


def fill(index, model, codes, ids=None):
    ids = index.add(codes, ids)
    model.items |= dict(zip(ids.tolist(), codes, strict=True))
    return ids


@pytest.mark.parametrize("bits", [8, 12, 24, 33, 36, 48, 64, 65, 96, 128, 136, 160, 200, 256])
@pytest.mark.parametrize("distinct", [None, 40])
def test_any_code_length(tmp_path, bits, distinct):
    rng = np.random.default_rng(bits)
    codes = make(rng, bits, 500, distinct)
    queries = np.concatenate([codes[:3], make(rng, bits, 4)])
    for backend in EXACT:
        index, model = Index.create(tmp_path / backend, bits, backend=backend), Model()
        fill(index, model, codes[:300])
        fill(index, model, codes[300:], rng.permutation(10_000)[:200] + 2**40)
        for each in (index, Index.open(tmp_path / backend)):
            model.check_search(each, queries, 17)
            model.check_radius(each, queries, bits // 4)
        assert not index.verify()


@pytest.mark.parametrize("backend", EXACT)
@pytest.mark.parametrize("distinct", [None, pytest.param(60, marks=pytest.mark.slow), 1])
def test_a_life_of_changes(tmp_path, backend, distinct, monkeypatch):
    monkeypatch.setattr(segments, "TABLES_FROM", 20)
    rng = np.random.default_rng(7)
    index, model = Index.create(tmp_path / "index", 36, backend=backend), Model()
    for step in range(30):
        fill(index, model, make(rng, 36, int(rng.integers(1, 120)), distinct))
        if step % 3 == 2:
            gone = rng.choice(list(model.items), len(model.items) // 3, replace=False)
            index.remove(gone)
            for i in gone.tolist():
                del model.items[i]
        if step == 20:
            index.compact()
            assert index.stats()["removed"] == 0 and index.stats()["segments"] == 1
        if step % 5 == 4:
            queries = np.concatenate([make(rng, 36, 3), model.arrays()[1][:2]])
            for k in (1, 10, 10**6):
                model.check_search(index, queries, k)
            model.check_search(index, queries, 10, max_distance=9)
            for r in (0, 2, 9):
                model.check_radius(index, queries, r)
        assert len(index) == len(model.items)
    assert index.stats()["segments"] < 20, "small segments are merged"
    assert not index.verify()
    model.check_search(Index.open(tmp_path / "index"), queries, 10)
    # All of an item's code's group may go, and everything may.
    index.remove(list(model.items))
    assert len(index) == 0 and index.search(queries, 3).ids.shape == (len(queries), 0)
    assert index.radius(queries, 36).starts.tolist() == [0] * (len(queries) + 1)


def test_whole_groups_removed_near_the_query(tmp_path):
    # The nearest 1,000 items share a code and are removed: the next nearest must come at once.
    codes = packed.pack([[0] * 16] * 1000 + [[1] + [0] * 15] * 1000 + [[1] * 16] * 10)
    index = Index.create(tmp_path / "index", 16, codes=codes)
    assert index.stats()["distinct_codes"] == 3
    index.remove(np.arange(1000))
    distances, ids = index.search(codes[:1], 1005)
    assert distances[0].tolist() == [1] * 1000 + [16] * 5 and ids[0, :1000].min() == 1000
    index.remove([1000])
    assert index.search(codes[:1], 1).ids[0, 0] > 1000


@pytest.mark.parametrize("backend", ["hnsw", "ivf"])
def test_approximate_reaches_its_recall(tmp_path, backend):
    rng = np.random.default_rng(3)
    codes = make(rng, 48, 4000, 3000)
    flips = packed.pack(rng.random((100, 48)) < 0.05)
    queries = codes[rng.integers(0, 4000, 100)] ^ flips
    index = Index.create(tmp_path / "index", 48, backend=backend, recall=0.9, codes=codes)
    index.remove(np.arange(0, 4000, 4))
    truth = Index.open(tmp_path / "index", backend="numpy").search(queries, 10)
    found = Index.open(tmp_path / "index").search(queries, 10)
    right = (found.ids >= 0) & (found.distances <= truth.distances[:, -1:])
    assert right.mean() > 0.85
    assert not np.isin(found.ids, np.arange(0, 4000, 4)).any()
    assert index.stats()["backend"] == backend and not index.verify()
    np.testing.assert_array_equal(
        index.radius(queries, 8).starts, Index.open(index.path, "numpy").radius(queries, 8).starts
    )


@pytest.mark.parametrize("backend", ["hnsw", "ivf"])
def test_approximate_finds_what_lies_behind_a_whole_class(tmp_path, backend):
    """Codes lie by class: all that is near a query may be of other labels, or removed."""
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 256, (10, 6), np.uint8)
    classes = np.repeat(np.arange(10), 300)
    codes = centres[classes] ^ packed.pack(rng.random((3000, 48)) < 0.05)
    index = Index.create(
        tmp_path / "index", 48, backend=backend, codes=codes, labels=[str(c) for c in classes]
    )
    exact = Index.open(index.path, backend="numpy")
    for label in ("7", "2"):
        found = index.search(codes[:5], 20, label=label)
        assert (classes[found.ids] == int(label)).all()
        wanted = exact.search(codes[:5], 20, label=label)
        np.testing.assert_array_equal(found.distances, wanted.distances)
    index.remove(np.arange(300))
    found = index.search(codes[:5], 20)
    assert (found.ids >= 300).all() and (np.diff(found.distances, axis=1) >= 0).all()


def test_items_chosen_by_an_older_state_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    index = Index.create(tmp_path / "index", 16, codes=make(rng, 16, 5))
    seen = index.stats()["changes"]
    assert len(Index.open(index.path).add(make(rng, 16, 2), changes=seen)) == 2
    with pytest.raises(UserError, match="was changed in the meantime; repeat the command"):
        index.add(make(rng, 16, 2), changes=seen)
    assert len(Index.open(index.path)) == 7


def test_verify_goes_on_while_another_writes(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    index = Index.create(tmp_path / "index", 16, codes=make(rng, 16, 50))
    Index.open(index.path).remove([3])
    Index.open(index.path).compact()
    assert index.verify() == [] and len(index) == 49
    files_there = sorted((index.path / "segments").iterdir())

    def broken(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(writing.disk, "is_whole", broken)
        problems = index.verify()
    assert len(problems) == len(files_there)
    assert all(each.endswith("it cannot be read (Input/output error)") for each in problems)
    files_there[0].unlink()
    assert index.verify() == [f"{files_there[0]} is missing"]


def test_keys_and_labels(tmp_path):
    rng = np.random.default_rng(0)
    index = Index.create(tmp_path / "index", 16)
    names = ["a/ä.png", "a/\udcff.png", "b/\n.png", "", "a"]
    first = index.add(packed.pack(np.eye(5, 16, dtype=int)), keys=names, labels=list("xyxyx"))
    second = index.add(make(rng, 16, 50, 5))
    assert index.describe([first[1], second[0], first[2], -1, 999, first[1]]) == (
        ["a/\udcff.png", "", "b/\n.png", "", "", "a/\udcff.png"],
        ["y", "", "x", "", "", "y"],
    )
    query = packed.pack([[0] * 16])
    for _ in range(2):
        assert sorted(index.search(query, 55, label="x").ids[0].tolist())[-3:] == [0, 2, 4]
        assert (index.search(query, 55, label="x").ids >= 0).sum() == 3
        assert sorted(index.radius(query, 16, key_prefix="a/").ids) == [0, 1]
        assert index.radius(query, 16, key_prefix="a/", label="y").ids.tolist() == [1]
        assert len(index.radius(query, 16, label="").ids) == 50
        index.compact()
    index.remove([1])
    assert index.radius(query, 16, key_prefix="a/").ids.tolist() == [0]


def test_strings_in_arrays():
    text, starts = texts.encode(["ab", "", "abc", "b"])
    assert texts.decode(text, starts, [2, 0, 1]) == ["abc", "ab", ""]
    taken = texts.take(text, starts, np.array([3, 2]))
    assert texts.decode(*texts.join([taken, (text, starts)]), range(6)) == [
        *("b", "abc"),
        *("ab", "", "abc", "b"),
    ]
    assert texts.matches(text, starts, "ab").tolist() == [True, False, False, False]
    assert texts.matches(text, starts, "ab", prefix=True).tolist() == [True, False, True, False]
    assert spans.spans([5, 0, 7], [2, 0, 3]).tolist() == [5, 6, 7, 8, 9]


def test_refusals_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "index"
    index = Index.create(path, 36, fingerprint="model-a")
    index.add(make(rng, 36, 10), np.arange(10) * 2)
    before = {p.name: p.read_bytes() for p in path.rglob("*.*") if p.name != ".lock"}
    good = make(rng, 36, 2)
    bad = [
        (lambda: index.add(good, [4, 5]), "id 4 is already in the index"),
        (lambda: index.add(good, [4, 6]), "ids 4, 6 are already"),
        (lambda: index.add(good, [7, 7]), "id 7 is given twice"),
        (lambda: index.add(good, [7]), "2 codes and 1 ids"),
        (lambda: index.add(good, [-1, 7]), "from 0 to 2"),
        (lambda: index.add(good, np.array([1, 2**63], np.uint64)), "from 0 to 2"),
        (lambda: index.add(good, [0.5, 7]), "whole numbers"),
        (lambda: index.add(good, [21, 23], keys=["a"]), "2 codes and 1 keys"),
        (lambda: index.add(make(rng, 48, 2), [21, 23]), "36 bits"),
        (lambda: index.add(good | 1, [21, 23]), "Padding"),
        (lambda: index.add(good, [21, 23], fingerprint="model-b"), "model-b.*model-a"),
        (lambda: index.remove([2, 3]), "id 3 is not in the index"),
        (lambda: index.remove(np.arange(20)), "ids 1, 3, 5 and 7 more are not in the index"),
        (lambda: index.search(good, 0), "k must be at least 1"),
        (
            lambda: index.search(good, 1, fingerprint="model-b"),
            "distances between them mean nothing",
        ),
        (lambda: index.radius(good, -1), "radius"),
        (lambda: index.compact("none"), "no backend"),
        (lambda: index.compact(recall=2.0), "recall"),
        (lambda: index.replace(good, bits=300), "8 to 256"),
        (lambda: Index.create(path, 36), "exists already"),
        (lambda: Index.create(tmp_path / "b", 7), "8 to 256"),
        (lambda: Index.create(tmp_path / "b", 36, codes=good, ids=[1, 1]), "twice"),
        (lambda: Index.open(tmp_path / "b"), "is not an index"),
        (lambda: Index.open(path, "none"), "no backend"),
    ]
    for action, message in bad:
        with pytest.raises(UserError, match=message):
            action()
        after = {p.name: p.read_bytes() for p in path.rglob("*.*") if p.name != ".lock"}
        assert after == before and sorted(p.name for p in tmp_path.iterdir()) == ["index"]
    assert index.add(good[:0]).shape == (0,)
    index.remove([])
    assert index.add(good).tolist() == [19, 20], "numbers go on after the largest"
    index.remove([20])
    assert index.add(good[:1]).tolist() == [21], "and are not given again"
    index.add(good[:1], [20])


@pytest.mark.parametrize("backend", EXACT)
def test_no_queries(tmp_path, backend):
    codes = make(np.random.default_rng(0), 36, 10)
    index = Index.create(tmp_path / "index", 36, backend=backend, codes=codes)
    assert index.search(codes[:0], 3).ids.shape == (0, 3)
    found = index.radius(codes[:0], 3)
    assert found.starts.tolist() == [0] and len(found.ids) == 0


def test_auto_chooses_by_size_and_recall(tmp_path, monkeypatch):
    monkeypatch.setattr(approximate, "SMALL", 100)
    rng = np.random.default_rng(0)
    for n, recall, kind in ((50, 0.9, None), (200, 1, None), (200, 0.9, "hnsw")):
        assert approximate.choose("auto", recall, n, n) == kind
    assert approximate.choose("auto", 0.9, 10**7, 10**8) == "ivf"
    index = Index.create(tmp_path / "index", 36, backend="auto", codes=make(rng, 36, 300))
    index.add(make(rng, 36, 50))
    kinds = ["approximate" in segment.arrays for segment in index._segments]
    assert kinds == [True, False]
    codes = index._segments[1].codes[:5, :5]
    assert (index.search(codes, 1).distances == 0).all()
    index.compact(recall=1.0)
    assert "approximate" not in index._segments[0].arrays


def test_retrained_model_swaps_everything(tmp_path):
    rng = np.random.default_rng(0)
    index = Index.create(tmp_path / "index", 36, "model-a", codes=make(rng, 36, 100))
    reader = Index.open(tmp_path / "index")
    codes = make(rng, 48, 50)
    index.replace(codes, bits=48, fingerprint="model-b", ids=np.arange(50))
    assert (index.bits, index.fingerprint, len(index)) == (48, "model-b", 50)
    assert not index.search(codes, 1).distances.any() and not index.verify()
    # A reader goes on with what it opened, whose files are deleted by now.
    assert reader.search(make(rng, 36, 2), 3).ids.shape == (2, 3)
    reader.refresh()
    assert reader.bits == 48


def test_without_faiss(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    codes = make(np.random.default_rng(0), 36, 30)
    index = Index.create(tmp_path / "index", 36, codes=codes)
    with pytest.raises(UserError, match=r"dah_tf\[index\]"):
        index.search(codes, 1)
    assert not Index.open(tmp_path / "index", "numpy").search(codes, 1).distances.any()


def test_large_sets_are_split(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "ROWS", 100)
    rng = np.random.default_rng(0)
    model = Model()
    index = Index.create(tmp_path / "index", 48)
    fill(index, model, make(rng, 48, 450))
    assert index.stats()["segments"] == 5
    model.check_search(index, make(rng, 48, 5), 20)
    index.compact()
    model.check_search(index, make(rng, 48, 5), 200)


def test_adding_writes_little(tmp_path, monkeypatch):
    # Many additions of 1,000 codes: each writes its own and at most half a megabyte of merging.
    rng = np.random.default_rng(0)
    index = Index.create(tmp_path / "index", 48, codes=make(rng, 48, 200_000))
    for _ in range(40):
        before = {p: p.stat().st_size for p in (tmp_path / "index" / "segments").iterdir()}
        index.add(make(rng, 48, 1000))
        after = {p: p.stat().st_size for p in (tmp_path / "index" / "segments").iterdir()}
        assert sum(size for p, size in after.items() if p not in before) < 700_000
        assert (tmp_path / "index" / "manifest.json").stat().st_size < 100_000
    assert index.stats()["segments"] < 25


def test_arrays_are_mapped_and_widths_have_kernels(tmp_path):
    index = Index.create(tmp_path / "index", 48, codes=make(np.random.default_rng(0), 48, 100))
    codes = np.load(next((tmp_path / "index" / "segments").glob("*-codes.npy")))
    assert codes.shape == (100, 8) and not codes[:, 6:].any()
    base = index._segments[0].codes
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert [scan.padded_width(b) for b in (8, 33, 64, 65, 129, 161, 256)] == [
        *(4, 8, 8, 16, 20, 32, 32)
    ]


def test_every_backend_is_described():
    assert inspect.signature(Index.create).parameters["backend"].default == "flat"
    assert set(BACKENDS) == {"flat", "mih", "numpy", "hnsw", "ivf", "auto"}


def test_of_tied_items_not_the_first_are_taken(tmp_path):
    """Folders and data sets are sorted by class: the first ids would be of one class."""
    index = Index.create(tmp_path / "ix", 16, codes=np.zeros((10_000, 2), np.uint8))
    distances, ids = index.search(np.zeros((1, 2), np.uint8), 400)
    assert (distances == 0).all() and (np.diff(ids[0]) > 0).all()
    # 400 of 10,000 in ten classes of 1,000: 40 each, with a standard deviation of 6.
    assert np.abs(np.bincount(ids[0] // 1000, minlength=10) - 40).max() < 20
    again = Index.create(tmp_path / "again", 16, codes=np.zeros((10_000, 2), np.uint8))
    np.testing.assert_array_equal(again.search(np.zeros((1, 2), np.uint8), 400).ids, ids)
