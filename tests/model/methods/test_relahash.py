"""RelaHash by hand, and what it does not depend on."""

import numpy as np
import pytest
from method_parts import Loss, labels_of, logits_of

from dah_tf import layers
from dah_tf.errors import UserError
from dah_tf.model import methods


def test_by_hand():
    # Logits (3, 1), (1, -1): mean (2, 0), so (1, 1), (-1, -1) of norm 2, times sqrt(2 / 16):
    # +-0.176777. Centres of length 1: (1, 1), (1, -1) / sqrt 2. Products: +-0.25 and 0.
    # beta = 4, margin 0.5: the first, of class 0, has 4 (0.25 - 0.5) = -1 against 0: log(1 + e) =
    # 1.313262. The second, of class 1, has 4 (0 - 0.5) = -2 against -1: the same. Mean 1.313262.
    state = {"centres": np.array([[1.0, 1.0], [1.0, -1.0]])}
    outputs = {"logits": np.array([[[3.0, 1.0], [1.0, -1.0]]])}
    method = methods.get("relahash:beta=4,margin=0.5")
    terms = method.terms(np.array([[0, 1]]), outputs, state, 0)
    assert [*terms] == ["loss"]
    assert float(terms["loss"]) == pytest.approx(1.313262, abs=1e-6)
    # Without the margin: 1 against 0: 0.313262; 0 against -1: the same.
    terms = methods.get("relahash:beta=4,margin=0").terms(np.array([[0, 1]]), outputs, state, 0)
    assert float(terms["loss"]) == pytest.approx(0.313262, abs=1e-6)


def test_only_relative_positions_count():
    logits, labels = logits_of("relahash"), labels_of("relahash")
    loss = Loss("relahash")
    one = float(loss(logits, labels)["loss"])
    for other in (3.0 * logits, logits + np.arange(logits.shape[-1])):
        assert float(loss(other, labels)["loss"]) == pytest.approx(one, rel=1e-10)
    moved = logits.copy()
    moved[:, 0] += 1.0  # one image alone
    assert abs(float(loss(moved, labels)["loss"]) - one) > 1e-3


def test_twice_the_group_is_the_same_loss():
    """Where the norm is that of the batch, every image's scores shrink in a larger one."""
    logits, labels = logits_of("relahash"), labels_of("relahash")
    loss = Loss("relahash")
    twice = [np.concatenate([each, each], axis=1) for each in (logits, labels)]
    one, other = (float(loss(*each)["loss"]) for each in ((logits, labels), twice))
    # The rows of twice the group have 1/sqrt 2 of the length relative to the norm, and the factor
    # sqrt(m / 16) makes up for it.
    assert one == pytest.approx(other, rel=1e-12)


def test_its_logits_are_normalised():
    assert isinstance(methods.get("relahash").head(6), layers.BatchNormHead)


def test_what_is_refused():
    with pytest.raises(UserError, match=r"method relahash: beta=-1.0 must be above 0"):
        methods.get("relahash:beta=-1")
    with pytest.raises(UserError, match=r"method relahash: margin=-0.5 must lie from 0 to 2"):
        methods.get("relahash:margin=-0.5")
