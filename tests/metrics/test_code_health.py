"""Code health against NumPy on the unpacked bits and double loops."""

import collections

import numpy as np
import pytest

from dah_tf import codes, metrics


@pytest.fixture(name="sample")
def make_sample():
    rng = np.random.default_rng(0)
    bits = (rng.random((150, 12)) < rng.uniform(0.2, 0.8, 12)).astype(np.uint8)
    bits[100:] = bits[:50]
    return bits, codes.pack(bits), rng.integers(0, 3, 150)


def test_balance_by_hand():
    # Bit by bit: two ones of three, none, all.
    balance = metrics.bit_balance(codes.pack([[1, 0, 1], [1, 0, 1], [0, 0, 1]]), 3)
    np.testing.assert_allclose(balance.ones, [2 / 3, 0, 1])
    np.testing.assert_allclose(balance.ratio, [2, 0, np.inf])
    assert balance.dead == 2


def test_entropy_by_hand():
    # Codes 00 00 01 11: the first bit is one in 1/4, the second in 2/4. Shares 1/2 1/4 1/4.
    each, whole = metrics.bit_entropy(codes.pack([[0, 0], [0, 0], [0, 1], [1, 1]]), 2)
    quarter = 0.25 * 2 + 0.75 * np.log2(4 / 3)
    np.testing.assert_allclose(each, [quarter, 1])
    assert whole == pytest.approx(1.5)


def test_correlation_is_pearsons(sample):
    bits, packed, _ = sample
    np.testing.assert_allclose(
        metrics.bit_correlation(packed, 12), np.corrcoef(bits.T.astype(float)), atol=1e-12
    )
    constant = metrics.bit_correlation(codes.pack([[1, 0], [1, 1]]), 2)
    np.testing.assert_array_equal(np.isnan(constant), [[True, True], [True, False]])


def test_collisions_against_a_dict(sample):
    _, packed, labels = sample
    held = collections.defaultdict(list)
    for code, label in zip(packed, labels, strict=True):
        held[code.tobytes()].append(label)
    shared = [found for found in held.values() if len(set(found)) > 1]
    assert shared
    got = metrics.collisions(packed, labels, 12)
    assert got == (len(held), len(shared), sum(len(found) for found in shared))


def test_class_distances_against_a_loop(sample):
    _, packed, labels = sample
    apart = codes.hamming(packed, packed).astype(float)
    np.fill_diagonal(apart, np.nan)
    expected = [
        [np.nanmean(apart[np.ix_(labels == a, labels == b)]) for b in range(3)] for a in range(3)
    ]
    np.testing.assert_allclose(metrics.class_distances(packed, labels, 12), expected)
    alike = metrics.class_distances(packed, np.eye(3, dtype=np.uint8)[labels], 12)
    np.testing.assert_allclose(alike, expected)


def test_a_class_of_one_has_no_inner_distance():
    got = metrics.class_distances(codes.pack([[0, 0], [1, 1]]), np.array([0, 1]), 2)
    np.testing.assert_array_equal(got, [[np.nan, 2], [2, np.nan]])


def test_distance_to_centre(sample):
    bits, packed, labels = sample
    expected = []
    for label in range(3):
        members = bits[labels == label]
        majority = members.mean(axis=0) > 0.5
        expected.append((members != majority).sum(axis=1).mean())
    np.testing.assert_allclose(metrics.distance_to_centre(packed, labels, 12), expected)


def test_multi_label_items_count_in_each_of_their_classes():
    # Class 0 holds 00 and 11: one bit from any majority; class 1 holds 11 alone.
    labels = np.array([[1, 0], [1, 1]])
    got = metrics.distance_to_centre(codes.pack([[0, 0], [1, 1]]), labels, 2)
    np.testing.assert_array_equal(got, [1, 0])


def test_codes_and_labels_must_fit():
    with pytest.raises(ValueError, match="number"):
        metrics.class_distances(codes.pack([[0, 1]]), np.array([0, 1]), 2)
