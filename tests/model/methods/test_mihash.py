"""MIHash by hand, and the mistakes of other versions of it."""

import numpy as np
import pytest
from method_parts import gradient

from dah_tf.errors import UserError
from dah_tf.model import methods

LABELS = np.array([[0, 0, 0, 1, 1, 1]])


def terms(logits, labels=LABELS, spec="mihash"):
    return methods.get(spec).terms(np.asarray(labels), {"logits": logits}, {}, 0)


def test_by_hand():
    # Codes that are equal within a class and opposite otherwise: of the 5 others, 2 are similar,
    # at distance 0, and 3 are not, at distance 4. The distance says all: the entropy of 2/5 and
    # 3/5, -(0.4 log 0.4 + 0.6 log 0.6) = 0.673012 nats.
    u = 100.0 * np.where(LABELS == 0, 1, -1)[..., None] * np.ones(4)
    found = terms(u)
    assert [*found] == ["loss", "information"]
    assert float(found["information"]) == pytest.approx(0.673012, abs=1e-6)
    assert float(found["loss"]) == -float(found["information"])
    # Equal codes say nothing.
    assert float(terms(np.abs(u))["information"]) == pytest.approx(0, abs=1e-9)


def test_the_image_itself_is_no_dissimilar_one():
    """If it were counted, at distance 0 among the similar ones, the distance would say less."""
    u = 100.0 * np.where(LABELS == 0, 1, -1)[..., None] * np.ones(4)
    entropy = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    assert float(terms(u)["information"]) == pytest.approx(entropy)
    # In a group of one class nothing can be told, and nothing is learned.
    value, slope = gradient(lambda x: terms(x, 0 * LABELS)["loss"], u / 100)
    assert value == pytest.approx(0, abs=1e-9) and np.abs(slope).max() < 1e-9


def test_a_descent_raises_the_information():
    """The sign is right: other versions minimise the information."""
    u = np.random.default_rng(0).normal(size=(1, 6, 8))
    before, slope = gradient(lambda x: terms(x)["loss"], u)
    after = terms(u - 0.05 * slope)
    assert float(after["loss"]) < before
    assert float(after["information"]) > -before


def test_the_bins_cover_all_distances_at_every_length():
    """The width is bits / bins and not a whole number, and the farthest distance has a bin."""
    for bits, spec in ((7, "mihash"), (10, "mihash:bins=4"), (1, "mihash")):
        u = 100.0 * np.array([[[1.0] * bits, [1.0] * bits, [-1.0] * bits, [-1.0] * bits]])
        # 1 of 3 is similar, at distance 0, and 2 are not, at the farthest distance.
        found = terms(u, [[0, 0, 1, 1]], spec)
        entropy = -(np.log(1 / 3) + 2 * np.log(2 / 3)) / 3
        assert float(found["information"]) == pytest.approx(entropy)


def test_the_slope_is_that_of_the_sigmoid():
    u = np.random.default_rng(0).normal(size=(1, 6, 8))
    steep, plain = terms(u, spec="mihash:slope=30"), terms(30 * u)
    assert float(steep["loss"]) == pytest.approx(float(plain["loss"]), rel=1e-9)


@pytest.mark.parametrize("option", ["slope", "bins"])
def test_what_is_refused(option):
    with pytest.raises(UserError, match=f"method mihash: {option}=0(.0)? must be above 0"):
        methods.get(f"mihash:{option}=0")
