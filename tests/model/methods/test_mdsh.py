"""MDSH by hand."""

import numpy as np
import pytest
from method_parts import BITS, Loss, labels_of, logits_of

from dah_tf.codes import codebooks
from dah_tf.errors import UserError
from dah_tf.model import methods


def test_by_hand():
    # Four bits: the factor is 2. Centres (1, 1, 1, 1), (1, 1, -1, -1). Logits (2, 2, 2, 2) have
    # cosines 1 and 0, so p_0 = e^2 / (e^2 + 1) = 0.880797. Logits (1, 1, -1, -1) have 0 and 1.
    # Both of class 0. First: both classes cost -ln 0.880797 = 0.126928. Second: both cost
    # -ln(1 - 0.880797) = 2.126928. Mean 1.126928.
    # Their cosine is 0: log(1 + exp(1/2)) = 0.974077. The loss with weight 0.5: 1.613967.
    state = {"centres": np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, -1.0, -1.0]])}
    outputs = {"logits": np.array([[[2.0, 2.0, 2.0, 2.0], [1.0, 1.0, -1.0, -1.0]]])}
    terms = methods.get("mdsh:pair_weight=0.5").terms(np.array([[0, 0]]), outputs, state, 0)
    assert [*terms] == ["loss", "central", "pairs"]
    assert float(terms["central"]) == pytest.approx(1.126928, abs=1e-6)
    assert float(terms["pairs"]) == pytest.approx(0.974077, abs=1e-6)
    assert float(terms["loss"]) == pytest.approx(1.613967, abs=1e-6)


def test_directions_count_and_centres_are_best():
    logits, labels = logits_of("mdsh"), labels_of("mdsh")
    loss = Loss("mdsh")
    np.testing.assert_array_equal(loss.first["centres"], codebooks.codebook(3, BITS, 0))
    one = float(loss(logits, labels)["loss"])
    assert float(loss(5.0 * logits, labels)["loss"]) == pytest.approx(one, rel=1e-12)
    at = loss(loss.first["centres"][labels], labels)
    assert float(at["loss"]) < one
    # Equal codes of a class: the least that the attraction can be.
    assert float(at["pairs"]) == pytest.approx(np.log(2.0))


def test_long_codes_that_are_certain_stay_finite():
    """With 512 bits the factor is 22.6, and p of the own class rounds to 1 in float32."""
    method = methods.get("mdsh")
    book = codebooks.hadamard(512)[:40].astype("float32")
    labels = np.arange(40)[None]
    for logits in (book[None], -book[None]):
        terms = method.terms(labels, {"logits": logits}, {"centres": book}, 0)
        assert np.isfinite([float(each) for each in terms.values()]).all()


def test_what_is_refused():
    with pytest.raises(UserError, match=r"method mdsh: pair_weight=-1.0 must be at least 0"):
        methods.get("mdsh:pair_weight=-1")
