"""Scanning and the tables of multi-index hashing against brute force."""

import numpy as np
import pytest
from index_codes import make

from dah_tf import codes as packed
from dah_tf.index import scan, tables


@pytest.mark.parametrize("bits", [8, 20, 36, 48, 64, 100])
@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 5, 8])
def test_tables_find_what_a_scan_finds(bits, radius):
    rng = np.random.default_rng(bits * 10 + radius)
    codes = scan.pad(make(rng, bits, 3000), scan.padded_width(bits))
    queries = np.concatenate([codes[:20], scan.pad(make(rng, bits, 10), codes.shape[1])])
    for query in queries[:20]:  # 0 to 8 bits away from a stored code
        for bit in rng.integers(0, bits, rng.integers(0, 9)):
            query[bit // 8] ^= 128 >> bit % 8
    selector = np.packbits(rng.random(3000) < 0.7, bitorder="little")
    arrays = tables.build(codes, bits)
    for chosen in (None, selector):
        expected = sorted(zip(*scan.numpy_within(codes, queries, radius, chosen), strict=True))
        for instead in (None, scan.numpy_within):
            got = tables.within(arrays, codes, queries, radius, chosen, bits, instead)
            assert sorted(zip(*got, strict=True)) == expected
        assert sorted(zip(*scan.faiss_within(codes, queries, radius, chosen), strict=True)) == (
            expected
        )


@pytest.mark.parametrize("share", [1.0, 0.7, 0.002])
def test_one_query_by_several_threads(monkeypatch, share):
    monkeypatch.setattr(scan, "DIVIDED", 100)
    rng = np.random.default_rng(0)
    codes, query = scan.pad(make(rng, 48, 4001, 900), 8), scan.pad(make(rng, 48, 1), 8)
    selector = None if share == 1 else np.packbits(rng.random(4001) < share, bitorder="little")
    k = min(50, int(scan.chosen(selector, np.arange(4001)).sum()))
    distances, rows = scan.faiss_knn(codes, query, k, selector)
    np.testing.assert_array_equal(distances, scan.numpy_knn(codes, query, k, selector)[0])
    np.testing.assert_array_equal(
        distances, np.take_along_axis(packed.hamming(query, codes), rows, axis=1)
    )
    assert len(set(rows[0])) == k and scan.chosen(selector, rows).all()


def test_tables_in_small_batches(monkeypatch):
    rng = np.random.default_rng(0)
    codes = scan.pad(make(rng, 48, 2000, 200), 8)
    expected = sorted(zip(*scan.numpy_within(codes, codes[:50], 3), strict=True))
    monkeypatch.setattr(tables, "CANDIDATES", 100)
    got = tables.within(tables.build(codes, 48), codes, codes[:50], 3, None, 48)
    assert sorted(zip(*got, strict=True)) == expected


def test_radius_chooses_by_candidates(monkeypatch):
    # Half of the codes are in the bucket of the first query: a scan. The other's is nearly empty.
    rng = np.random.default_rng(0)
    codes = packed.pack(rng.integers(0, 2, (4000, 48)))
    codes[::2, :2] = 0
    codes = scan.pad(codes, 8)
    queries = np.concatenate([codes[:1], codes[1:2]])
    scanned = []

    def instead(codes, queries, radius, selector):
        scanned.append(queries)
        return scan.numpy_within(codes, queries, radius, selector)

    got = tables.within(tables.build(codes, 48), codes, queries, 2, None, 48, instead)
    assert len(scanned) == 1 and (scanned[0] == queries[:1]).all()
    assert sorted(zip(*got, strict=True)) == sorted(
        zip(*scan.numpy_within(codes, queries, 2), strict=True)
    )


def test_pigeonhole_by_hand():
    # 48 bits, three parts. Radius 2 = 3 * 0 + 2: each exactly. 4 = 3 * 1 + 1: two within 1, one
    # exactly. 1 = 3 * 0 + 1: only two tables.
    lengths = [[len(flipped) for *_, flipped in tables._probes(48, r)] for r in (2, 4, 1)]
    assert lengths == [[1, 1, 1], [17, 17, 1], [1, 1]]
    assert tables.cuts(36) == [0, 12, 24, 36] and tables.cuts(256) == [0, 16, 32, 48, 64]
    np.testing.assert_array_equal(
        tables.part(np.array([[0xAB, 0xCD, 0xE0]], np.uint8), 4, 18), [0b10111100110111]
    )


def test_reference_blocks(monkeypatch):
    monkeypatch.setattr(scan, "CODES", 64)
    monkeypatch.setattr(scan, "QUERIES", 3)
    rng = np.random.default_rng(0)
    codes, queries = scan.pad(make(rng, 24, 300), 4), scan.pad(make(rng, 24, 7), 4)
    apart = packed.hamming(queries, codes)
    distances, rows = scan.numpy_knn(codes, queries, 20)
    order = np.argsort(apart, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(apart, order, axis=1))
    near, at, between = scan.numpy_within(codes, queries, 7)
    expected = np.nonzero(apart <= 7)
    assert sorted(zip(near, at, strict=True)) == list(zip(*expected, strict=True))
    assert sorted(between) == sorted(apart[expected])
