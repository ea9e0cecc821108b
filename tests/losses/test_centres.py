"""Losses of class centres by hand, against loops, and where they are easily wrong."""

import numpy as np
import pytest
import tensorflow as tf
from method_parts import check_gradient, gradient

from dah_tf.losses import centres

RNG = np.random.default_rng(0)
CENTRES = np.array([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])
LABELS = np.array([[0, 2, 1, 1], [2, 2, 0, 1]])
LOGITS = RNG.normal(size=(2, 4, 3))


def rows(labels):
    return np.eye(3, dtype="uint8")[labels]


def test_marks():
    expected = [[[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0]]]
    np.testing.assert_array_equal(centres.marks(LABELS[:1], 3, "float32"), expected)
    np.testing.assert_array_equal(centres.marks(rows(LABELS[:1]), 3, "float32"), expected)


def test_majority_by_hand():
    ties = np.array([-1.0, 1.0, 1.0])
    # Classes 0 and 1 agree on bits 0 and 2, and tie on bit 1. All three vote 2:1, 1:2 and 1:2.
    # Nobody votes for an image without a label.
    labels = np.array([[[1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]]])
    expected = [[[1, 1, -1], [1, -1, -1], [-1, -1, 1], [-1, 1, 1]]]
    np.testing.assert_array_equal(centres.majority(labels, CENTRES, ties), expected)
    np.testing.assert_array_equal(centres.majority(LABELS, CENTRES, ties), CENTRES[LABELS])


def test_bit_cross_entropy_by_hand():
    # tanh(0.5 ln 3) = (3 - 1) / (3 + 1) = 1/2, so that the probability of a 1 is 3/4.
    # Targets 1, -1: -ln 3/4 = 0.287682, -ln 1/4 = 1.386294; mean 0.836988.
    u = np.full((1, 1, 2), 0.5 * np.log(3.0))
    found = centres.bit_cross_entropy(u, np.array([[[1.0, -1.0]]]))
    assert float(found) == pytest.approx(0.836988, abs=1e-6)


def test_bit_cross_entropy_vanishes_at_the_centre_and_is_finite_far_from_it():
    targets = CENTRES[LABELS]
    found = [float(centres.bit_cross_entropy(size * targets, targets)) for size in (0, 1, 5, 50)]
    assert found[0] == pytest.approx(np.log(2.0)) and found[3] < 1e-20
    assert found == sorted(found, reverse=True)
    # Through the hash value, it would be the logarithm of 0.
    far = centres.bit_cross_entropy((-1e4 * targets).astype("float32"), targets)
    assert float(far) == pytest.approx(2e4)


def test_cosines_against_loops():
    found = np.array(centres.cosines(LOGITS, CENTRES))
    for g, i, c in np.ndindex(2, 4, 3):
        u, v = LOGITS[g, i], CENTRES[c]
        expected = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        assert found[g, i, c] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(centres.cosines(0.0 * LOGITS, CENTRES), np.zeros((2, 4, 3)))
    np.testing.assert_allclose(centres.cosines(1e4 * LOGITS, CENTRES), found, rtol=1e-12)


def test_relative_positions():
    found = np.array(centres.relative_positions(LOGITS))
    for ours, z in zip(found, LOGITS, strict=True):
        moved = z - z.mean(axis=0)
        expected = moved / np.linalg.norm(moved) * np.sqrt(4 / 16)
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
    other = centres.relative_positions(7.0 * LOGITS + [1.0, -2.0, 3.0])
    np.testing.assert_allclose(other, found, rtol=1e-10)
    np.testing.assert_array_equal(centres.relative_positions(np.ones((1, 3, 2))), 0)


def test_relative_positions_do_not_shrink_in_larger_groups():
    """The mean squared length is 1/16 for groups of every size, as in the authors' batches."""
    for m in (2, 16, 200):
        found = np.array(centres.relative_positions(RNG.normal(size=(1, m, 5))))
        assert np.square(found).sum(axis=-1).mean() == pytest.approx(1 / 16)


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_class_scores_are_the_log_densities_up_to_a_constant():
    distances = np.square(LOGITS[:, :, None] - CENTRES).sum(axis=-1)
    found = softmax(np.array(centres.class_scores(LOGITS, CENTRES, 0.7)))
    np.testing.assert_allclose(found, softmax(-0.35 * distances), rtol=1e-12)
    shift = np.array([3.0, -1.0, 0.5])
    again = softmax(np.array(centres.class_scores(LOGITS + shift, CENTRES + shift, 0.7)))
    np.testing.assert_allclose(again, found, rtol=1e-10)


def test_margin_cross_entropy_by_hand():
    # Scores ln 2 and 0 twice, of which the first image has class 0. Softmax (2, 1) / 3: -ln 2/3 =
    # 0.405465. The second has class 1: -ln 1/3 = 1.098612; mean 0.752039.
    scores = np.array([[[np.log(2.0), 0.0], [np.log(2.0), 0.0]]])
    labels = np.array([[0, 1]])
    found = centres.margin_cross_entropy(labels, scores)
    assert float(found) == pytest.approx(0.752039, abs=1e-6)
    # With scale 2 and margin (ln 2) / 2: 2 (ln 2 - (ln 2)/2) = ln 2 against 0: 0.405465 again. The
    # second: 2 ln 2 against -ln 2, so 4 against 1/2: -ln 1/9 = 2.197225; mean 1.301345.
    found = centres.margin_cross_entropy(labels, scores, 2.0, np.log(2.0) / 2)
    assert float(found) == pytest.approx(1.301345, abs=1e-6)
    # Both labels: each has half: (0.405465 + 1.098612) / 2. No label: 0. Mean 0.376019.
    found = centres.margin_cross_entropy(np.array([[[1, 1], [0, 0]]]), scores)
    assert float(found) == pytest.approx(0.376019, abs=1e-6)


def test_each_class_cross_entropy_by_hand():
    # p = (2, 1, 1) / 4, of class 0: -(ln 1/2 + ln 3/4 + ln 3/4) / 3 = 0.422837.
    z = np.log(np.array([[[2.0, 1.0, 1.0]]]))
    found = centres.each_class_cross_entropy(np.array([[0]]), z)
    assert float(found) == pytest.approx(0.422837, abs=1e-6)
    # Of classes 0 and 2: -(ln 1/2 + ln 3/4 + ln 1/4) / 3 = 0.789041.
    found = centres.each_class_cross_entropy(np.array([[[1, 0, 1]]]), z)
    assert float(found) == pytest.approx(0.789041, abs=1e-6)
    assert np.isfinite(centres.each_class_cross_entropy(np.zeros((1, 1)), np.ones((1, 1, 1))))


def test_each_class_cross_entropy_is_exact_where_a_class_is_certain():
    """1 - p rounds to 0 in float32, of which the logarithm would be infinite."""
    z = np.array([[[40.0, 0.0, 0.0]]], "float32")
    assert softmax(z)[0, 0, 0] == 1.0
    # Class 1 is right: -log p_1 = 40, -log(1 - p_0) = 40 - log 2, -log(1 - p_2) = 0; over 3.
    value, found = gradient(lambda x: centres.each_class_cross_entropy(np.array([[1]]), x), z)
    assert value == pytest.approx((80 - np.log(2)) / 3, rel=1e-6)
    np.testing.assert_allclose(found, [[[2 / 3, -0.5, -1 / 6]]], atol=1e-6)
    value, found = gradient(lambda x: centres.each_class_cross_entropy(np.array([[0]]), x), z)
    assert value == pytest.approx(0.0, abs=1e-6) and np.isfinite(found).all()


def test_attraction_against_loops():
    similar = np.array(LABELS[:, :, None] == LABELS[:, None, :], "float64")
    groups = []
    for u, same in zip(LOGITS, similar, strict=True):
        found = []
        for i, j in np.ndindex(4, 4):
            if i != j and same[i, j]:
                cosine = u[i] @ u[j] / np.linalg.norm(u[i]) / np.linalg.norm(u[j])
                found.append(np.log1p(np.exp((1 - cosine) / 2)))
        groups.append(np.mean(found))
    value = centres.attraction(LOGITS, similar)
    assert float(value) == pytest.approx(np.mean(groups), rel=1e-12)
    # Equal codes: log(1 + 1). A group without similar pairs: 0.
    assert float(centres.attraction(np.ones((1, 2, 3)), np.ones((1, 2, 2)))) == pytest.approx(
        np.log(2.0)
    )
    assert float(centres.attraction(LOGITS, np.zeros((2, 4, 4)))) == 0.0


def test_distillation_by_hand():
    # Cosines 1, -1 and 0: the mean of 1 - cos is (0 + 2 + 1) / 3.
    student = np.array([[[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]]])
    teacher = np.array([[[5.0, 0.0], [-1.0, -1.0], [1.0, 0.0]]])
    assert float(centres.distillation(student, teacher)) == pytest.approx(1.0)
    assert float(centres.distillation(student, 9 * student)) == pytest.approx(0.0, abs=1e-12)


def test_no_gradient_reaches_the_teacher():
    teacher = tf.constant(LOGITS[:, ::-1])
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        value = centres.distillation(tf.constant(LOGITS), teacher)
    assert tape.gradient(value, teacher) is None
    check_gradient(lambda x: centres.distillation(x, LOGITS[:, ::-1]), LOGITS)
