"""PGDH, a reconstruction: its random numbers in a run. `tests/losses/test_policy.py` has the loss."""

import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf

from dah_tf import losses
from dah_tf.errors import UserError
from dah_tf.model import methods

LABELS = np.array([[0, 0, 1, 1]])
LOGITS = np.random.default_rng(0).normal(size=(1, 4, 5))


def terms(seed=0, step=0, rows=(3, 1, 4, 2), spec="pgdh", order=slice(None)):
    outputs = {
        "logits": tf.constant(LOGITS[:, order]),
        "rows": tf.constant([np.array(rows)[order]], tf.int32),
    }
    return methods.get(spec).terms(LABELS[:, order], outputs, {"seed": tf.constant(seed)}, step)


def test_terms_are_those_of_the_losses():
    found = terms(seed=5, step=9, spec="pgdh:samples=3,entropy_weight=0.5")
    assert [*found] == ["loss", "reward", "entropy"]
    noise = losses.uniform(5, 9, np.array([[3, 1, 4, 2]], "int32"), 3, 5)
    objective, reward = losses.policy_gradient(LOGITS, losses.similarity(LABELS), noise)
    entropy = losses.bit_entropy(LOGITS)
    expected = [objective - 0.5 * entropy, reward, entropy]
    np.testing.assert_allclose([*found.values()], expected, rtol=1e-9)


def test_the_codes_drawn_depend_on_the_seed_the_step_and_the_image_only():
    one = float(terms()["loss"])
    assert one == float(terms()["loss"])
    others = [terms(seed=1), terms(step=1), terms(rows=(3, 1, 4, 0))]
    assert len({one, *(float(each["loss"]) for each in others)}) == 4
    # The places in the group do not matter.
    moved = terms(order=[2, 0, 3, 1])
    assert float(moved["loss"]) == pytest.approx(one, rel=1e-9)


def test_the_seed_of_a_run_is_in_its_state():
    facts = parts.facts("pgdh")
    for seed, expected in ((7, 7), ((1 << 31) + 7, 7)):
        known = methods.Facts(**{**facts.__dict__, "seed": seed})
        state = methods.get("pgdh").variables(known)
        assert state["seed"].dtype == np.int32 and int(state["seed"]) == expected


def test_a_bit_is_never_drawn_when_a_model_encodes():
    model, _ = parts.once_trained("pgdh")
    images = np.random.default_rng(0).integers(0, 256, (9, parts.SIDE, parts.SIDE, 1), np.uint8)
    np.testing.assert_array_equal(model.encode(images), model.encode(images))


def test_descents_raise_the_reward():
    logits = tf.Variable(0.1 * LOGITS)
    rows, state, rewards = tf.constant([[3, 1, 4, 2]]), {"seed": tf.constant(0)}, []
    for step in range(200):
        with tf.GradientTape() as tape:
            found = methods.get("pgdh").terms(
                LABELS, {"logits": logits, "rows": rows}, state, tf.constant(step)
            )
        logits.assign_sub(2.0 * tape.gradient(found["loss"], logits))
        rewards.append(float(found["reward"]))
    assert np.mean(rewards[-20:]) > -0.1 > -0.5 > np.mean(rewards[:20])


def test_what_is_refused():
    with pytest.raises(UserError, match="method pgdh: samples=1 must be at least 2"):
        methods.get("pgdh:samples=1")
    assert "reconstruction" in methods.get("pgdh").title
