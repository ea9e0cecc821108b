"""DTSH by hand, and the mistakes of other versions of it."""

import numpy as np
import pytest
import tensorflow as tf
from method_parts import gradient

from dah_tf import losses
from dah_tf.errors import UserError
from dah_tf.model import methods


def terms(logits, labels, spec="dtsh"):
    return methods.get(spec).terms(
        np.asarray(labels), {"logits": tf.convert_to_tensor(logits)}, {}, 0
    )


def test_by_hand():
    # u = (2, 0), (1, 1), (0, -2) of classes 0, 0, 1. theta = u.u / 2: theta_01 = 1, theta_02 = 0,
    # theta_12 = -1. The margin is 1. Triplets: (0, 1, 2) with 1 - 0: log(1 + e^0) = 0.693147, and
    # (1, 0, 2) with 1 + 1: log(1 + e^-1) = 0.313262; image 2 has no partner. Mean 0.503204.
    # |u - sgn u|^2: 1 + 1, 0 + 0, 1 + 1: mean 4/3. With eta = 0.3: 0.503204 + 0.4 = 0.903204.
    found = terms([[[2.0, 0.0], [1.0, 1.0], [0.0, -2.0]]], [[0, 0, 1]], "dtsh:eta=0.3")
    assert [*found] == ["loss", "triplets", "quantisation"]
    np.testing.assert_allclose([*found.values()], [0.903204, 0.503204, 4 / 3], atol=1e-6)


@pytest.mark.parametrize("bits", [12, 48])
def test_the_constants_keep_their_meaning_at_every_length(bits):
    """Without the 1/2, with a margin of 5, or with a weight of 1, this would be another loss."""
    method = methods.get("dtsh")
    assert (method.eta, method.margin) == (pytest.approx(100 / 22_500, rel=0.02), None)
    # Equal codes: theta is bits / 2 for all pairs. Codes half of which differ: theta_qn = 0, and
    # the difference bits / 2 equals the margin.
    codes = np.ones((1, 4, bits))
    labels = [[0, 0, 1, 1]]
    found = float(terms(codes, labels)["triplets"])
    assert found == pytest.approx(np.log1p(np.exp(bits / 2)))
    codes[0, 2:, : bits // 2] = -1
    assert float(terms(codes, labels)["triplets"]) == pytest.approx(np.log(2))


def test_only_differences_of_products_count():
    rng = np.random.default_rng(0)
    u, labels = rng.normal(size=(1, 6, 5)), np.array([[0, 0, 1, 1, 2, 2]])
    similar = losses.similarity(labels)
    # One more coordinate, 3 for each image, adds 9/2 to all products.
    more = np.concatenate([u, np.full((1, 6, 1), 3.0)], axis=2)
    one, other = (losses.triplet_likelihood(each, similar, 2.5) for each in (u, more))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_what_is_separated_is_left_alone():
    codes = np.array([[[1.0, 1, 1, 1]] * 2 + [[-1, -1, -1, -1]] * 2])
    labels = np.array([[0, 0, 1, 1]])
    near, far = (
        gradient(lambda u: terms(u, labels, "dtsh:eta=0")["loss"], scale * codes)[1]
        for scale in (1.0, 5.0)
    )
    # The differences of products are 4, beyond the margin of 2, and 100.
    assert 1e-2 < np.abs(near).max() < 0.2 and np.abs(far).max() < 1e-30


def test_what_is_refused():
    with pytest.raises(UserError, match="method dtsh: margin=-1.0 must be at least 0"):
        methods.get("dtsh:margin=-1")
