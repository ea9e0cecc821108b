"""HashNet by hand, its continuation, and the mistakes of other versions of it."""

import method_parts as parts
import numpy as np
import pytest

from dah_tf.errors import UserError
from dah_tf.model import methods


def terms(values, labels, spec="hashnet", beta=1.0):
    """The terms for given values of tanh(beta u)."""
    logits = np.arctanh(np.asarray(values)) / beta
    return methods.get(spec).terms(np.asarray(labels), {"logits": logits}, {"beta": beta}, 0)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_by_hand(beta):
    # h = (1/2, 1/2), (1/2, -1/2), (-1/2, -1/2) of classes 0, 0, 1, and alpha = 2:
    # products 2 h.h: 0 for 0 and 1; -1 for 0 and 2; 0 for 1 and 2. Similar: log 2 = 0.693147.
    # Dissimilar: log(1 + 1/e) = 0.313262 and log 2; mean 0.503204.
    # Both kinds weigh alike: (0.693147 + 0.503204) / 2 = 0.598176.
    values = [[[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5]]]
    found = terms(values, [[0, 0, 1]], "hashnet:alpha=2", beta)
    assert [*found] == ["loss", "beta"] and float(found["beta"]) == beta
    assert float(found["loss"]) == pytest.approx(0.598176, abs=1e-6)


def test_more_dissimilar_pairs_of_the_same_kind_change_nothing():
    """The product with a value of 0 is 0, whatever the other: all such pairs cost log 2."""
    alike, zero = [[0.5, 0.1], [0.3, 0.2]], [0.0, 0.0]
    few = terms([[*alike, zero]], [[0, 0, 1]])
    many = terms([[*alike, zero, zero, zero]], [[0, 0, 1, 2, 3]])
    assert float(few["loss"]) == pytest.approx(float(many["loss"]), rel=1e-9)


@pytest.mark.parametrize("bits", [12, 48])
def test_alpha_follows_the_number_of_bits(bits):
    """Equal codes of different classes cost log(1 + exp(10)), whatever the number of bits."""
    found = terms(np.full((1, 2, bits), 1 - 1e-12), [[0, 1]])
    assert float(found["loss"]) == pytest.approx(np.log1p(np.exp(10)), rel=1e-6)


def schedule(steps, spec="hashnet"):
    """Beta at each step of a run."""
    method, facts = methods.get(spec), parts.facts("hashnet").__dict__ | {"steps": steps}
    facts, found = methods.Facts(**facts), []
    state = method.variables(facts)
    for step in range(steps):
        if method.due(step, facts):
            state |= method.between(step, None, state, facts)
        found.append(float(state["beta"]))
    return found


def test_beta_is_that_of_the_authors_over_the_whole_run():
    # sqrt(1 + 0.005 t), renewed at each 200 of 10,000 iterations.
    found = schedule(10_000)
    assert found[:200] == [1.0] * 200
    for step in (200, 399, 5000, 9999):
        assert found[step] == pytest.approx(np.sqrt(1 + 0.005 * (step // 200 * 200)), rel=1e-6)
    assert len(set(found)) == 50


def test_beta_is_scaled_to_the_length_of_the_run():
    short, long = schedule(100), schedule(1000)
    assert short == long[::10] and short[-1] == pytest.approx(np.sqrt(50))
    # A run with fewer steps than stages skips some.
    tiny = schedule(10)
    assert tiny == short[::10] and len(set(tiny)) == 10
    assert schedule(10, "hashnet:growth=0") == [1.0] * 10


def test_a_run_follows_the_schedule():
    model, log = parts.once_trained("hashnet")
    assert [row["beta"] for row in log] == pytest.approx(schedule(4))
    assert float(model.state["beta"]) == pytest.approx(schedule(4)[-1])


def test_codes_do_not_depend_on_beta():
    model = parts.model_of_numbers("hashnet")
    images = np.random.default_rng(0).normal(size=(9, 1, 1, parts.BITS)).astype("float32")
    model.begin(parts.facts("hashnet"))
    before, values = model.encode(images), model.outputs(images)["hash"]
    model.state["beta"].assign(7.0)
    np.testing.assert_array_equal(model.encode(images), before)
    np.testing.assert_array_equal(model.outputs(images)["hash"], values)


def test_what_is_refused():
    with pytest.raises(UserError, match="method hashnet: alpha=0.0 must be above 0"):
        methods.get("hashnet:alpha=0")
