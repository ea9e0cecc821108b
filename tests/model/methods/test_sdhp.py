"""SDHP, a reconstruction, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from dah_tf.errors import UserError
from dah_tf.model import methods


def terms(values, labels, spec="sdhp"):
    """The terms for hash values h in [-1, 1]."""
    outputs = {"hash": (1.0 + tf.convert_to_tensor(values)) / 2.0}
    return methods.get(spec).terms(np.asarray(labels), outputs, {}, 0)


def test_by_hand():
    # h = (1, 0.5), (0, 0.5), (-1, 0.5), (-1, -0.5) of classes 0, 0, 1, 2, and the margin 0.8.
    # D = |h - h'|^2 / 4: 01: 1/4; 02: 1; 03: 5/4; 12: 1/4; 13: 1/2; 23: 1/4.
    # Similar: 1/4. Dissimilar: 0.8 - D where above 0: 12: 0.55; 13: 0.3; 23: 0.55; sum 1.4.
    # Each pair counts twice of 12: 1/24 and 1.4 / 6.
    # (|h| - 1)^2: 0 + 0.25, 1 + 0.25, 0 + 0.25, 0 + 0.25: sum 2, over 8 values 1/4.
    # The loss with alpha = 0.4 is 1/24 + 1.4/6 + 0.1 = 0.375.
    values = np.array([[[1, 0.5], [0, 0.5], [-1, 0.5], [-1, -0.5]]])
    found = terms(values, [[0, 0, 1, 2]], "sdhp:alpha=0.4,margin=0.8")
    assert [*found] == ["loss", "similar", "dissimilar", "quantisation"]
    np.testing.assert_allclose([*found.values()], [0.375, 1 / 24, 1.4 / 6, 0.25], rtol=1e-9)


@pytest.mark.parametrize("bits", [12, 36])
def test_the_distance_of_codes_is_the_hamming_distance(bits):
    codes = np.ones((1, 2, bits))
    for different in range(bits + 1):
        codes[0, 1, :different] = -1
        assert float(terms(codes, [[0, 0]])["similar"]) == pytest.approx(different)
        # Dissimilar codes are held apart by half of the bits.
        left = float(terms(codes, [[0, 1]])["dissimilar"])
        assert left == pytest.approx(max(0, bits / 2 - different))


def test_dissimilar_pairs_beyond_the_margin_are_left_alone():
    for different, moves in ((3, True), (5, False)):
        values = np.full((1, 2, 8), 0.9)
        values[0, 1, :different] = -0.9
        x = tf.constant(values)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = terms(x, [[0, 1]], "sdhp:alpha=0")["loss"]
        assert (np.abs(tape.gradient(loss, x)).max() > 0) == moves


def test_it_says_that_it_is_a_reconstruction():
    facts = methods.get("sdhp").facts
    assert facts["source"] == "reading" and "reconstruction" in facts["title"]


def test_what_is_refused():
    with pytest.raises(UserError, match="method sdhp: margin=0.0 must be above 0"):
        methods.get("sdhp:margin=0")
