"""The policy gradient against the gradient of the expected reward over all codes."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from method_parts import check_gradient, gradient

from dah_tf import losses

ROWS = np.arange(2000, dtype="int32").reshape(2, 1000)


def expected_reward(u, similar):
    """The mean reward of the images of a group, over all codes and their probabilities."""
    m, bits = u.shape
    weights = np.zeros((m, m))
    for i in range(m):
        for kind in (0, 1):
            row = [j for j in range(m) if j != i and similar[i, j] == kind]
            weights[i, row] = 1 / max(len(row), 1)
        weights[i] /= weights[i].sum()
    total = 0.0
    for flat in itertools.product([-1.0, 1.0], repeat=m * bits):
        b = np.reshape(flat, (m, bits))
        probability = tf.reduce_prod(tf.sigmoid(b * u))
        errors = (2 * similar - 1 - b @ b.T / bits) ** 2
        total += probability * -np.sum(weights * errors) / m
    return total


# With these logits, bits are 1 with probabilities 1/4, 1/2 and 3/4. Four numbers for each bit then
# stand for all random numbers exactly.
PARTS = (np.arange(4) + 0.5) / 4


@pytest.mark.parametrize(
    "u, similar",
    [
        # The pair of the images 0 and 3 has a weight of 1/2 for image 0, and of 1/3 for image 3.
        (
            [[np.log(3)], [0.0], [-np.log(3)], [np.log(3)]],
            [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]],
        ),
        ([[np.log(3), 0.0], [-np.log(3), np.log(3)]], [[1, 0], [0, 1]]),
        ([[0.0, np.log(3)], [-np.log(3), 0.0]], [[1, 1], [1, 1]]),
    ],
)
def test_the_mean_of_the_estimates_is_the_exact_gradient(u, similar):
    """Also with the baseline: every pair of samples is tried, each pair as a group of its own."""
    u, similar = np.array(u), np.array(similar, float)
    value, exact = gradient(lambda x: -expected_reward(x, similar), u)
    draws = np.array([*itertools.product(PARTS, repeat=u.size)]).reshape(-1, *u.shape)
    n = len(draws)
    noise = np.stack([np.repeat(draws, n, axis=0), np.tile(draws, (n, 1, 1))])
    groups = n * n

    def estimate(x):
        every = tf.tile(x[None], (groups, 1, 1))
        return losses.policy_gradient(every, np.tile(similar, (groups, 1, 1)), noise)[0]

    np.testing.assert_allclose(gradient(estimate, u)[1], exact, rtol=1e-6, atol=1e-9)
    assert np.abs(exact).max() > 0.05
    rewards = losses.policy_gradient(np.tile(u, (groups, 1, 1)), similar[None], noise)[1]
    np.testing.assert_allclose(rewards, -value, rtol=1e-6)


def test_samples_that_are_alike_teach_nothing():
    """The baseline of a sample is the mean credit of the others, so that equal ones cancel out."""
    rng = np.random.default_rng(0)
    u, similar = rng.normal(size=(2, 4, 3)), np.kron(np.eye(2), np.ones((2, 2)))[None]
    noise = np.tile(rng.random((1, 2, 4, 3)), (3, 1, 1, 1))
    _, slope = gradient(lambda x: losses.policy_gradient(x, similar, noise)[0], u)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    noise[0] = 1 - noise[0]
    _, slope = gradient(lambda x: losses.policy_gradient(x, similar, noise)[0], u)
    assert np.abs(slope).max() > 0.01


def test_reward_by_hand():
    # Codes (1, 1), (1, -1), (-1, -1); 0 and 1 are similar. Products over 2 bits: 0, -1, 0.
    # Errors: pair 0, 1: (1 - 0)^2 = 1; pair 0, 2: (-1 + 1)^2 = 0; pair 1, 2: (-1 - 0)^2 = 1.
    # Rewards: -(1 + 0) / 2, -(1 + 1) / 2, -(0 + 1) / 2, since image 2 has no partner: mean -2/3.
    u = 50.0 * np.array([[[1, 1], [1, -1], [-1, -1]]])
    similar = np.array([[[1, 1, 0], [1, 1, 0], [0, 0, 1]]])
    _, reward = losses.policy_gradient(u, similar, np.full((2, 1, 3, 2), 0.5))
    assert float(reward) == pytest.approx(-2 / 3)
    # Codes that agree within a class and are opposite otherwise have the best reward, 0.
    u[0, 1] = u[0, 0]
    _, reward = losses.policy_gradient(u, similar, np.full((2, 1, 3, 2), 0.5))
    assert float(reward) == 0


def test_entropy_by_hand_and_its_gradient():
    # p = 1/2: log 2. p = 3/4: -(3/4) log (3/4) - (1/4) log (1/4) = 0.562335. Without chance: 0.
    u = np.array([[[0.0, np.log(3)], [1e4, -1e4]]])
    assert float(losses.bit_entropy(u)) == pytest.approx((np.log(2) + 0.562335) / 2, abs=1e-6)
    check_gradient(losses.bit_entropy, np.random.default_rng(0).normal(size=(1, 3, 4)))


def test_numbers_are_uniform_and_independent():
    found = np.array(losses.uniform(3, 7, ROWS, samples=4, bits=24))
    assert found.shape == (4, 2, 1000, 24) and found.min() > 0 and found.max() < 1
    counts, _ = np.histogram(found, bins=16, range=(0, 1))
    expected = found.size / 16
    # The sum of squares follows a chi-square distribution with 15 degrees of freedom.
    assert np.sum((counts - expected) ** 2) / expected < 45
    flat = found.transpose(1, 2, 0, 3).reshape(2000, 96)
    assert np.abs(np.corrcoef(flat.T) - np.eye(96)).max() < 5 / np.sqrt(2000)
    for seed, step in ((3, 8), (4, 7)):
        other = np.array(losses.uniform(seed, step, ROWS, samples=4, bits=24))
        assert abs(np.corrcoef(found.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(found.size)


def test_numbers_follow_the_image_and_nothing_else():
    found = np.array(losses.uniform(3, 7, ROWS, samples=2, bits=5))
    compiled = tf.function(lambda step, rows: losses.uniform(3, step, rows, 2, 5))
    order = np.random.default_rng(0).permutation(1000)
    again = compiled(tf.constant(7, tf.int64), tf.constant(ROWS[1:, order]))
    np.testing.assert_array_equal(found[:, 1:, order], again)
