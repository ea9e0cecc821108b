"""The recall that approximate search states is the one that queries meet."""

import concurrent.futures
import warnings

import numpy as np
import pytest
from index_codes import make

from dah_tf import codes as packed
from dah_tf.errors import UserError
from dah_tf.index import Index, RecallWarning, approximate, calibration, disk, engines


def uniform(rng, n):
    return packed.pack(rng.integers(0, 2, (n, 48)))


def clustered(rng, n):
    centres = np.random.default_rng(99).integers(0, 2, (50, 48))
    return packed.pack(centres[rng.integers(0, 50, n)] ^ (rng.random((n, 48)) < 0.08))


@pytest.mark.parametrize("codes_of", [uniform, clustered])
@pytest.mark.parametrize("backend", ["hnsw", "ivf"])
def test_stated_recall_is_that_of_new_queries(tmp_path, codes_of, backend):
    # By stored codes with two bits flipped, HNSW found 0.84 of uniform codes where it stated 0.95.
    rng = np.random.default_rng(0)
    index = Index.create(
        tmp_path / "ix", 48, backend=f"{backend}:recall=0.9", codes=codes_of(rng, 20_000)
    )
    queries = codes_of(rng, 500)
    found = index.search(queries, 10).distances
    truth = Index.open(tmp_path / "ix", "flat").search(queries, 10).distances
    real = calibration.found_share(found, truth)
    stats = index.stats()
    assert stats["recall"] == 0.9 and 0.9 <= stats["recall_reached"] <= 1
    # 256 sampled queries: their mean is off by up to 0.03.
    assert real > 0.9 - 0.03
    if codes_of is uniform:
        assert abs(real - stats["recall_reached"]) < 0.04


def test_queries_are_as_far_from_stored_codes_as_these_are():
    rng = np.random.default_rng(0)
    codes = packed.pack(rng.integers(0, 2, (3, 20)))
    apart = np.array([[0, 0, 7, 9], [0, 1, 2, 3], [0, 0, 0, 0]])
    queries = calibration.queries(codes, apart, 20, rng)
    flipped = np.diagonal(packed.hamming(queries, codes))
    assert flipped.tolist() == [7, 1, 1]
    assert not (queries[:, -1] & 0x0F).any(), "the padding stays 0"


def test_least_effort_reaches_the_recall():
    # Of two queries' nearest two, effort 1 finds 1 of 4, 2 finds 3 of 4, 4 an equal of the last.
    found = {
        1: [[3, 9], [-1, -1]],
        2: [[3, 5], [7, 9]],
        4: [[3, 5], [7, 8]],
        8: [[3, 5], [8, 7]],
    }
    truth = np.array(found[8])

    def least(recall):
        search = {effort: np.array(each) for effort, each in found.items()}.get
        return calibration.least_effort(search, truth, sorted(found), recall)

    assert [least(recall) for recall in (0.25, 0.3, 0.75, 0.8, 1)] == [
        *((1, 0.25), (2, 0.75), (2, 0.75), (4, 1.0), (4, 1.0)),
    ]
    found[8] = found[4] = found[2]
    assert least(1) == (8, 0.75)


def test_a_recall_that_is_missed_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(approximate, "EFFORTS", [8])
    codes = uniform(np.random.default_rng(0), 5000)
    with pytest.warns(
        RecallWarning, match=r"^hnsw finds a share of 0\.\d+ of .* but 0.99 was asked"
    ):
        index = Index.create(tmp_path / "ix", 48, backend="hnsw:recall=0.99", codes=codes)
    assert index.stats()["recall_reached"] < 0.99
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Clusters always reach it, at the least by looking into all of them.
        index.compact("ivf")
        assert index.stats()["recall"] == 0.99 and index.stats()["recall_reached"] >= 0.99
        index.compact("flat")
    assert index.stats()["recall_reached"] is None


def test_an_index_of_0_2_0_does_not_know_what_it_reached(tmp_path):
    codes = uniform(np.random.default_rng(0), 500)
    index = Index.create(tmp_path / "ix", 48, backend="ivf", codes=codes)
    content = {k: v for k, v in disk.read_manifest(index.path).items() if k != "checksum"}
    for entry in content["segments"]:
        del entry["reached"]
    disk.write_manifest(index.path, content)
    index = Index.open(index.path)
    assert index.stats()["recall_reached"] is None and not index.verify()


@pytest.mark.parametrize("backend", ["hnsw", "ivf"])
@pytest.mark.parametrize("scan_costs", ["little", "much"])
def test_a_search_leaves_no_effort_behind(tmp_path, monkeypatch, backend, scan_costs):
    if scan_costs == "much":  # so that every search goes by the structure
        for name in ("HNSW_EFFORT", "IVF_CODE", "IVF_NEIGHBOUR"):
            monkeypatch.setattr(approximate, name, 0)
    rng = np.random.default_rng(0)
    codes = uniform(rng, 6000)
    labels = [str(int(i % 100 == 0)) for i in range(len(codes))]
    index = Index.create(
        tmp_path / "ix", 48, backend=f"{backend}:recall=0.8", codes=codes, labels=labels
    )
    exact = Index.open(tmp_path / "ix", "numpy")
    queries = uniform(rng, 20)
    [segment] = index._segments
    effort, before = approximate.effort_of(segment.approximate), index.search(queries, 10)

    def plain(_):
        found = index.search(queries, 10)
        np.testing.assert_array_equal(found.distances, before.distances)
        np.testing.assert_array_equal(found.ids, before.ids)
        assert approximate.effort_of(segment.approximate) == effort

    def other(number):
        if number % 2:
            found = index.search(queries, 1000)
            assert calibration.found_share(found.distances, many) > 0.8
        else:
            found = index.search(queries, 10, label="1")
            assert (found.ids % 100 == 0).all()
            assert calibration.found_share(found.distances, few) > 0.8

    many = exact.search(queries, 1000).distances
    few = exact.search(queries, 10, label="1").distances
    for number in range(2):
        other(number)
        plain(number)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = [pool.submit(plain if i % 2 else other, i // 2) for i in range(40)]
    for each in done:
        each.result()


def test_the_scan_answers_where_it_is_as_fast(tmp_path):
    codes = uniform(np.random.default_rng(0), 3000)
    structures = {
        kind: approximate.load(approximate.build(codes, kind, 0.8, 48)[0])
        for kind in ("hnsw", "ivf")
    }
    for index in structures.values():
        plain = approximate.effort_of(index)
        assert approximate.plan(index, 1, 10) == (plain, 10), "never instead of a plain search"
        assert approximate.plan(index, 0.001, 10) is None
        assert approximate.plan(index, 1, 2000) is None

    class Graph:
        ntotal, hnsw = 10_000_000, type("", (), {"efSearch": 64})

    # A tenth takes part: ten times the effort, some 640,000 scanned codes of ten million.
    assert approximate.plan(Graph, 0.1, 10) == (640, 150)
    assert approximate.plan(Graph, 1, 1000) == (2000, 1000)
    assert approximate.plan(Graph, 0.001, 10) is None
    assert approximate.plan(Graph, 1, 10_000) is None


def test_threads_with_filters_of_their_own(tmp_path):
    codes = make(np.random.default_rng(0), 48, 300)
    index = Index.create(tmp_path / "ix", 48, codes=codes, labels=[str(i % 9) for i in range(300)])

    def ask(i):
        return (index.radius(codes[:1], 48, label=str(i % 9)).ids % 9 == i % 9).all()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(300)))


def test_specs_of_backends(tmp_path):
    codes = uniform(np.random.default_rng(0), 400)
    assert engines.read("hnsw:recall=0.9") == ("hnsw", 0.9)
    assert engines.read("auto") == ("auto", None)
    assert engines.read("ivf", 0.8) == ("ivf", 0.8) == engines.read("ivf:recall=0.8", 0.8)
    for backend in ("flat", "mih", "numpy"):
        with pytest.raises(UserError, match=f"{backend} has no option 'recall'; it has no options"):
            Index.create(tmp_path / "no", 48, backend=f"{backend}:recall=0.9")
    for wrong, message in (
        ("hnsw:recall=2", "recall must be a share above 0"),
        ("hnsw:recall=x", "recall=x is not a number"),
        ("hnsw:effort=2", "hnsw has no option 'effort'; its options are recall"),
        ("none", "no backend 'none'; there are flat, mih"),
        ("hnsw:", "not of the form"),
    ):
        with pytest.raises(UserError, match=message):
            Index.create(tmp_path / "no", 48, backend=wrong)
    with pytest.raises(UserError, match="contradict each other"):
        Index.create(tmp_path / "no", 48, backend="hnsw:recall=0.9", recall=0.8)
    index = Index.create(tmp_path / "ix", 48, backend="ivf", recall=0.9, codes=codes)
    assert (index.stats()["backend"], index.stats()["recall"]) == ("ivf", 0.9)
    assert Index.open(index.path, "ivf:recall=0.9").backend == "ivf"
    with pytest.raises(UserError, match="built for a recall of 0.9; for 0.95 build it again"):
        Index.open(index.path, "hnsw:recall=0.95")
    index.compact("hnsw")
    assert (index.backend, index.stats()["recall"]) == ("hnsw", 0.9), "what is not given stays"
    index.compact("hnsw:recall=0.7")
    assert index.stats()["recall"] == 0.7
    index.compact(recall=0.8)
    assert (index.backend, index.stats()["recall"]) == ("hnsw", 0.8)
    index.compact("flat", recall=0.9)
    assert index.backend == "flat", "the older argument is kept for later"
