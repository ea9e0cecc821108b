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
    """A step is Newton's, by finite differences of the explicit sum, and is made if it helps."""
    # The last start is one from which Newton's step overshoots: the slope and the curvature of the
    # first row are both small there.
    overshoots = np.array([[0.0], [0.75], [-0.7]]), 0, np.eye(3), np.array([1, 1, 1])
    rng, e, kinds = np.random.default_rng(0), 1e-4, {"inside": 0, "cut off": 0, "not made": 0}
    for before, row, similar, counts in [*(a_start(rng) for _ in range(60)), overshoots]:

        def moved(step, before=before, row=row, similar=similar, counts=counts):
            other = before.copy()
            other[row] += step
            return explicit(other, similar, counts, 1)

        slope = (moved(e) - moved(-e)) / (2 * e)
        curvature = (moved(e) - 2 * moved(0) + moved(-e)) / e**2
        step = -slope / curvature if curvature > 0 else -9 * np.sign(slope)
        cut = np.clip(step, -1 - before[row, 0], 1 - before[row, 0])
        helps = moved(cut) < moved(0)
        h = before.copy()
        factors._improve(h, row, 2 * similar[row] - 1, counts.astype(float))
        expected = before.copy()
        expected[row] += cut if helps else 0
        np.testing.assert_allclose(h, expected, rtol=1e-4, atol=1e-5)
        kinds["not made" if not helps else "inside" if cut == step else "cut off"] += 1
    assert all(kinds.values()), kinds


def a_start(rng):
    """Rows of one bit, the number of one of them, and similarities and counts of their sets."""
    sets = rng.integers(1, 4)
    labels = rng.integers(0, 2, (sets, 2))
    similar = (labels @ labels.T > 0).astype(float)
    return rng.uniform(-1, 1, (sets, 1)), rng.integers(sets), similar, rng.integers(1, 6, sets)


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
