"""OrthoHash by hand, and what its margin and its normalisation do."""

import numpy as np
import pytest
from method_parts import Loss, labels_of, logits_of, once_trained

from dah_tf import codes, metrics
from dah_tf.errors import UserError
from dah_tf.model import methods


def test_by_hand():
    # Centres (1, 1), (1, -1); logits (3, 4) have cosines 7 / (5 sqrt 2) = 0.989949 and -0.141421.
    # Scale 2, margin 0.5, class 0: 2 * 0.489949 = 0.979899 against -0.282843: log(1 + exp(-1.262742))
    # = 0.249134.
    state = {"centres": np.array([[1.0, 1.0], [1.0, -1.0]])}
    method = methods.get("orthohash:scale=2,margin=0.5")
    outputs = {"logits": np.array([[[3.0, 4.0]]])}
    terms = method.terms(np.array([[0]]), outputs, state, 0)
    assert [*terms] == ["loss"]
    assert float(terms["loss"]) == pytest.approx(np.log1p(np.exp(-1.262742)), abs=1e-5)
    # Of both classes, both have the margin, so that it cancels: 1.979899 against -0.282843, of which
    # the mean logarithm is (log(1 + exp(-2.262742)) + log(1 + exp(2.262742))) / 2 = 1.230364.
    terms = method.terms(np.array([[[1, 1]]]), outputs, state, 0)
    assert float(terms["loss"]) == pytest.approx(1.230364, abs=1e-5)


def test_the_length_of_a_code_does_not_matter_and_a_margin_costs():
    logits, labels = logits_of("orthohash"), labels_of("orthohash")
    loss = Loss("orthohash")
    lengths = np.random.default_rng(1).uniform(0.1, 10, size=(*logits.shape[:2], 1))
    one, other = (float(loss(each, labels)["loss"]) for each in (logits, lengths * logits))
    assert one == pytest.approx(other, rel=1e-12)
    costs = [float(Loss(f"orthohash:margin={m}")(logits, labels)["loss"]) for m in (0, 0.2, 0.3)]
    assert costs == sorted(costs) and costs[1] == one and costs[0] < costs[2]


def test_the_least_loss_is_at_the_centres():
    loss, labels = Loss("orthohash"), labels_of("orthohash")
    at = float(loss(loss.first["centres"][labels], labels)["loss"])
    near = loss.first["centres"][labels] + 0.3 * logits_of("orthohash")
    assert at < float(loss(near, labels)["loss"])


def test_the_mean_of_a_bit_is_0_in_training():
    model, _ = once_trained("orthohash")
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    logits = np.array(model(images, training=True)["logits"])
    np.testing.assert_allclose(logits.mean(axis=0), 0.0, atol=1e-4)
    # The normalisation has no weights that could move it away from there.
    assert len(model.hash_head.trainable_weights) == 1


def test_the_order_of_the_database_moves_no_score():
    """The authors' score depends on it, because images at one distance are in the given order."""
    rng = np.random.default_rng(0)
    bits, labels = rng.integers(0, 2, (90, 5)), np.repeat(np.arange(3), 30)
    packed, order = codes.pack(bits), rng.permutation(90)
    scores = [
        metrics.mean_average_precision(
            *metrics.histograms(packed[:9], labels[::10], packed[rows], labels[rows], 5)
        )
        for rows in (np.arange(90), order)
    ]
    assert scores[0] == scores[1]


def test_what_is_refused():
    with pytest.raises(UserError, match=r"method orthohash: scale=0.0 must be above 0"):
        methods.get("orthohash:scale=0")
    with pytest.raises(UserError, match=r"method orthohash: margin=3.0 must lie from 0 to 2"):
        methods.get("orthohash:margin=3")
