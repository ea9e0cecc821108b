"""The likelihood of pairs and the quantisation error, by hand and against loops."""

import numpy as np
import pytest
import tensorflow as tf

from dah_tf import losses


def test_by_hand():
    # u = (1, 0), (0, 2), (-1, 1); theta = u.u / 2: theta_01 = 0, theta_02 = -1/2, theta_12 = 1.
    # Similar: 0 and 1. Each pair counts twice of 6 ordered ones, so the mean is over 3 values:
    # log 2 - 0 = 0.693147; log(1 + exp(-1/2)) = 0.474077; log(1 + e) = 1.313262; mean 0.826829.
    u = np.array([[[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]]])
    similar = np.array([[[1, 1, 0], [1, 1, 0], [0, 0, 1]]], "float32")
    np.testing.assert_allclose(losses.pair_likelihood(u, similar), 0.826829, rtol=1e-5)
    # The same with pair 1, 2 similar: log(1 + e) - 1 = 0.313262; mean 0.493495.
    similar[0, 1, 2] = similar[0, 2, 1] = 1
    np.testing.assert_allclose(losses.pair_likelihood(u, similar), 0.493495, rtol=1e-5)
    # Signs (1, -1), (-1, 1), (-1, 1), that of 0 being -1: squares 0 + 1, 1 + 1, 0 + 0; mean 1.
    np.testing.assert_allclose(losses.quantisation(u), 1.0)


def test_against_a_double_loop():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(3, 5, 7))
    similar = rng.integers(0, 2, (3, 5, 5)).astype("float32")
    expected = [
        np.log1p(np.exp(u[g, i] @ u[g, j] / 2)) - similar[g, i, j] * (u[g, i] @ u[g, j] / 2)
        for g in range(3)
        for i in range(5)
        for j in range(5)
        if i != j
    ]
    np.testing.assert_allclose(losses.pair_likelihood(u, similar), np.mean(expected), rtol=1e-9)


def test_gradient_by_hand():
    """d/du_i is the mean over ordered pairs of (sigmoid(theta) - s) u_j, from both of its places."""
    rng = np.random.default_rng(1)
    u = rng.normal(size=(1, 4, 3))
    similar = np.array([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]], "float64")
    theta = u[0] @ u[0].T / 2
    slope = (1 / (1 + np.exp(-theta)) - similar[0]) * (1 - np.eye(4))
    x = tf.constant(u)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = losses.pair_likelihood(x, similar)
    np.testing.assert_allclose(tape.gradient(value, x)[0], slope @ u[0] / 12, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e3, 1e4])
def test_large_products_stay_finite(scale):
    u = scale * np.array([[[1, 1], [1, 1], [-1, -1]]], "float32")
    for similar in (np.ones((1, 3, 3)), np.zeros((1, 3, 3))):
        x = tf.constant(u)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = losses.pair_likelihood(x, similar) + losses.quantisation(x)
        assert np.isfinite(value) and np.isfinite(tape.gradient(value, x)).all()


def test_a_group_of_one_image_has_no_pairs():
    assert float(losses.pair_likelihood(np.ones((2, 1, 3)), np.ones((2, 1, 1)))) == 0


def test_quantisation_draws_a_logit_of_zero_to_its_bit():
    # The gradient is 2 (u - sgn u) over the number of images, 2: at 0, whose bit is 0, 2 (0 + 1) / 2.
    x = tf.constant([[[0.0, 3.0], [-0.5, 1.0]]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = losses.quantisation(x)
    np.testing.assert_allclose(tape.gradient(value, x), [[[1.0, 2.0], [0.5, 0.0]]])
