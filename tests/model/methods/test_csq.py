"""CSQ by hand, and its centres."""

import numpy as np
import pytest
from method_parts import BITS, Loss, facts, labels_of, logits_of

from dah_tf import codes
from dah_tf.codes import codebooks
from dah_tf.errors import UserError
from dah_tf.model import methods


def test_by_hand():
    # tanh(0.5 ln 3) = 1/2. Bits 1 with probability 3/4 and 1/2; the centre of class 1 is (1, -1).
    # -(ln 3/4 + ln 1/2) / 2 = 0.490415. (1/2 - 1)^2 and (0 - 1)^2: mean 0.625.
    # The loss with weight 0.2 is 0.490415 + 0.125.
    logits = np.array([[[0.5 * np.log(3.0), 0.0]]])
    state = {"centres": np.array([[-1.0, 1.0], [1.0, -1.0]]), "ties": np.array([1.0, 1.0])}
    method = methods.get("csq:quantisation=0.2")
    terms = method.terms(np.array([[1]]), {"logits": logits}, state, 0)
    assert [*terms] == ["loss", "central", "quantisation"]
    assert float(terms["central"]) == pytest.approx(0.490415, abs=1e-6)
    assert float(terms["quantisation"]) == pytest.approx(0.625)
    assert float(terms["loss"]) == pytest.approx(0.615415, abs=1e-6)
    # Of both classes, the vote is tied in both bits: the target is (1, 1). The second bit is at 0,
    # where both targets cost the same.
    again = method.terms(np.array([[[1, 1]]]), {"logits": logits}, state, 0)
    assert float(again["central"]) == pytest.approx(0.490415, abs=1e-6)
    # A target of (-1, 1) costs -(ln 1/4 + ln 1/2) / 2 = 1.039721.
    again = method.terms(np.array([[[1, 0]]]), {"logits": logits}, state, 0)
    assert float(again["central"]) == pytest.approx(1.039721, abs=1e-6)


def test_the_loss_vanishes_at_the_centres():
    loss = Loss("csq")
    targets = loss.first["centres"][labels_of("csq")]
    assert float(loss(20.0 * targets, labels_of("csq"))["loss"]) < 1e-12
    assert float(loss(logits_of("csq"), labels_of("csq"))["loss"]) > 0.1
    # The codes are then the centres.
    bits = codes.binarize(20.0 * targets[0])
    np.testing.assert_array_equal(bits, targets[0] > 0)


def test_the_centres_are_the_best_codebook_and_ties_are_fixed():
    known = facts("csq")
    state = methods.get("csq").variables(known)
    np.testing.assert_array_equal(state["centres"], codebooks.codebook(3, BITS, 0))
    assert set(state["ties"].tolist()) <= {-1.0, 1.0} and state["ties"].shape == (BITS,)


@pytest.mark.parametrize("bits", [12, 24, 36, 48, 64])
def test_every_length_has_centres(bits):
    """Sylvester's matrices have the orders 2, 4, 8 ..., and repeat the columns of ten rows."""
    known = facts("csq", num_classes=10)
    known = methods.Facts(**{**vars(known), "bits": bits})
    book = methods.get("csq").variables(known)["centres"]
    assert book.shape == (10, bits)
    assert codebooks.smallest_distance(book.astype("int8")) >= bits // 2
    assert codebooks.repeated_columns(book.astype("int8")) < bits / 4


def test_what_is_refused():
    with pytest.raises(UserError, match=r"method csq: quantisation=-1.0 must be at least 0"):
        methods.get("csq:quantisation=-1")
    known = methods.Facts(**{**vars(facts("csq", num_classes=10)), "bits": 3})
    with pytest.raises(UserError, match=r"bits=3 gives fewer codes than there are classes \(10\)"):
        methods.get("csq").variables(known)
