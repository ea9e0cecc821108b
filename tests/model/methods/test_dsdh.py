"""DSDH by hand, the choice of its codes, and the mistakes of other versions of it."""

import itertools

import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf

from dah_tf.errors import UserError
from dah_tf.model import methods

N, BITS = 24, 6
KNOWN = parts.facts("dsdh")
LOGITS = np.random.default_rng(0).normal(size=(N, BITS))


def renewed(codes=None, logits=LOGITS, spec="dsdh", **facts):
    method = methods.get(spec)
    known = methods.Facts(**{**KNOWN.__dict__, **facts})
    state = method.variables(known) if codes is None else {"codes": codes.astype("int8")}
    return method.between(0, lambda rows: {"logits": logits[rows]}, state, known)["codes"]


def test_by_hand():
    # u = (2, 0), (1, 1), (0, -2) of classes 0, 0, 1, as for DPSH: the pairs cost 0.439890.
    # Rows 1, 0, 2 of B: (1, -1), (-1, 1), (-1, -1).
    # |u - b|^2: 1 + 1, 4 + 0, 1 + 1; mean 8/3. With eta = 0.3: 0.439890 + 0.8 = 1.239890.
    state = {"codes": tf.constant([[-1, 1], [1, -1], [-1, -1]], tf.int8)}
    logits = np.array([[[2.0, 0.0], [1.0, 1.0], [0.0, -2.0]]])
    outputs = {"logits": tf.constant(logits), "rows": tf.constant([[1, 0, 2]])}
    found = methods.get("dsdh:eta=0.3").terms(np.array([[0, 0, 1]]), outputs, state, 0)
    assert [*found] == ["loss", "pairs", "quantisation"]
    np.testing.assert_allclose([*found.values()], [1.239890, 0.439890, 8 / 3], atol=1e-6)


def objective(B, W, logits, pull=55.0, ridge=0.1):
    labels = np.eye(3)[KNOWN.labels]
    fit = np.square(labels - B @ W).sum() + ridge * np.square(W).sum()
    return fit + pull * np.square(B - logits).sum()


def best_map(B, ridge=0.1):
    labels = np.eye(3)[KNOWN.labels]
    return np.linalg.solve(B.T @ B + ridge * np.eye(BITS), B.T @ labels)


@pytest.mark.parametrize("pull", [0.01, 0.3, 55.0])
def test_a_renewal_never_raises_the_objective(pull):
    rng = np.random.default_rng(1)
    B = np.where(rng.normal(size=(N, BITS)) > 0, 1.0, -1.0)
    values = [objective(B, best_map(B), LOGITS, pull)]
    for _ in range(4):
        # Both halves of a renewal lower it: codes for the present map, then the map for the codes.
        new = renewed(B, spec=f"dsdh:pull={pull}").astype(float)
        values += [
            objective(new, best_map(B), LOGITS, pull),
            objective(new, best_map(new), LOGITS, pull),
        ]
        B = new
    assert (np.diff(values) <= 1e-9).all() and values[-1] < values[0]


def test_codes_are_the_best_for_each_image():
    """With one bit at a time at its optimum, few images can be bettered by other codes at all."""
    B = np.where(LOGITS > 0, 1.0, -1.0)
    found, W = renewed(B, spec="dsdh:pull=0.05,sweeps=50").astype(float), best_map(B)
    labels = np.eye(3)[KNOWN.labels]

    def cost(b, i):
        return np.square(labels[i] - b @ W).sum() + 0.05 * np.square(b - LOGITS[i]).sum()

    every = [np.array(b) for b in itertools.product([-1.0, 1.0], repeat=BITS)]
    best = 0
    for i, b in enumerate(found):
        for r in range(BITS):  # no single bit can be bettered
            other = b.copy()
            other[r] = -other[r]
            assert cost(b, i) <= cost(other, i) + 1e-9
        best += cost(b, i) <= min(cost(each, i) for each in every) + 1e-9
    assert best > 0.7 * N and (found != B).any()


def test_a_strong_pull_gives_the_signs_of_the_logits():
    signs = np.where(LOGITS > 0, 1, -1)
    start = -signs
    np.testing.assert_array_equal(renewed(start, spec="dsdh:pull=1e9"), signs)
    assert (renewed(start, spec="dsdh:pull=0") != signs).any()
    # A logit of 0 has the bit 0.
    assert (renewed(logits=0 * LOGITS, spec="dsdh:pull=1e9") != 0).all()


def test_the_first_codes_come_from_the_network_and_not_from_chance():
    one = renewed()
    np.testing.assert_array_equal(one, renewed(np.where(LOGITS > 0, 1, -1)))
    np.testing.assert_array_equal(one, renewed(seed=5))


def test_logits_are_drawn_to_the_codes():
    """Other versions have no term that joins them. The signs of the logits are not enough."""
    codes = np.array([[1, -1, 1], [-1, -1, 1]], "int8")
    logits = np.array([[[-0.5, -0.5, 0.5], [0.5, -0.5, 0.5]]])
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = {"logits": x, "rows": tf.constant([[0, 1]])}
        loss = methods.get("dsdh:eta=1").terms(
            np.array([[0, 1]]), outputs, {"codes": tf.constant(codes)}, 0
        )["quantisation"]
    # 2 (u - b) over 2 images: also where the sign of u is not that of b.
    np.testing.assert_allclose(tape.gradient(loss, x), logits - codes[None])


def test_codes_are_renewed_each_epoch():
    method, known = methods.get("dsdh"), methods.Facts(**{**KNOWN.__dict__, "steps_per_epoch": 4})
    assert [step for step in range(12) if method.due(step, known)] == [0, 4, 8]
    method = methods.get("dsdh:renew_epochs=0.5")
    assert [step for step in range(5) if method.due(step, known)] == [0, 2, 4]
    model, _ = parts.once_trained("dsdh")
    state = np.array(model.state["codes"])
    assert state.dtype == np.int8 and set(np.unique(state)) == {-1, 1}


@pytest.mark.parametrize(
    "spec, words",
    [
        ("dsdh:sweeps=0", "sweeps=0 must be at least 1"),
        ("dsdh:renew_epochs=0", "renew_epochs=0.0 must be above 0"),
        ("dsdh:ridge=0", "ridge=0.0 must be above 0"),
        ("dsdh:eta=-1", "eta=-1.0 must be at least 0"),
    ],
)
def test_what_is_refused(spec, words):
    with pytest.raises(UserError, match=f"method dsdh: {words}"):
        methods.get(spec)
