"""Rows whose products approximate similarities, against explicit sums over images."""

import itertools

import numpy as np
import pytest

from dah_tf.codes import factors


def explicit(h, similar, counts, bits):
    """The sum over all pairs of images, each set repeated as often as it has images."""
    images = np.repeat(np.arange(len(counts)), counts)
    return sum(
        (2 * similar[a, b] - 1 - h[a] @ h[b] / bits) ** 2
        for a, b in itertools.product(images, repeat=2)
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_sum_never_rises_and_is_that_over_images(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (7, 4))
    similar, counts = (labels @ labels.T > 0).astype(float), rng.integers(1, 5, 7)
    h, sums = factors.factorised(similar, counts, 6, seed)
    assert len(sums) == 11 and (np.diff(sums) <= 1e-9).all() and sums[-1] < 0.8 * sums[0]
    assert np.abs(h).max() <= 1
    assert sums[-1] == pytest.approx(explicit(h, similar, counts, 6), rel=1e-9)
    start, _ = factors.factorised(similar, counts, 6, seed, sweeps=0)
    assert sums[0] == pytest.approx(explicit(start, similar, counts, 6), rel=1e-9)


def test_steps_use_the_first_two_derivatives():
    """A step from a given row is Newton's, by finite differences of the explicit sum."""
    similar, counts, bits = np.eye(3), np.array([2, 1, 3]), 2
    h = np.array([[0.2, -0.4], [0.5, 0.3], [-0.6, 0.1]])
    before = h.copy()

    def moved(step):
        other = before.copy()
        other[1, 0] += step
        return explicit(other, similar, counts, bits)

    e = 1e-4
    slope = (moved(e) - moved(-e)) / (2 * e)
    curvature = (moved(e) - 2 * moved(0) + moved(-e)) / e**2
    wanted = bits * (2 * similar[1] - 1)
    # Only the first value: with one column left, the others are constants of the errors.
    factors._improve(h, 1, wanted, counts.astype(float))
    expected = -slope / curvature if curvature > 0 else -np.sign(slope) * 9
    assert h[1, 0] - 0.5 == pytest.approx(np.clip(expected, -1.5, 0.5), rel=1e-4)
    np.testing.assert_array_equal(h[[0, 2]], before[[0, 2]])


def test_two_sets_become_opposite_codes():
    h, sums = factors.factorised(np.eye(2), [5, 9], 8, seed=0)
    np.testing.assert_array_equal(np.sign(h[0]), -np.sign(h[1]))
    assert sums[-1] == pytest.approx(0, abs=1e-6)


def test_ten_classes_get_ten_codes_far_apart():
    for bits in (12, 24, 48):
        h, _ = factors.factorised(np.eye(10), [100] * 10, bits, seed=0)
        apart = (np.sign(h)[:, None] != np.sign(h)).sum(axis=2)[~np.eye(10, dtype=bool)]
        assert apart.min() >= bits / 4 and apart.mean() > bits / 2


def test_it_depends_on_the_seed_only():
    one, other, third = (
        factors.factorised(np.eye(4), [1, 2, 3, 4], 8, seed)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, other)
    assert np.abs(one - third).max() > 0.1
