"""What every method must do, tried on each of `METHODS`: a new one is tested by being listed."""

import inspect
import types

import keras
import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf
from method_parts import BITS, CLASSES, GROUPS

from dah_tf import codes
from dah_tf.errors import UserError
from dah_tf.model import methods
from dah_tf.model.methods import base
from dah_tf.parts import keys
from dah_tf.training import build

every = pytest.mark.parametrize("name", methods.METHODS)


@every
def test_it_says_what_it_is(name):
    method = methods.get(name)
    assert method.name == name and method.title and method.source in base.SOURCES
    assert inspect.getdoc(type(method)) and type(method).__doc__ != base.Method.__doc__
    for parameter in keys(type(method)).values():
        assert parameter.annotation is not parameter.empty
    assert set(method.facts) == {"name", "title", "spec", "source"}
    # The text with every option written out makes the same method again.
    assert str(methods.get(str(method))) == str(method)
    assert methods.get(str(method)).options == method.options


@every
def test_hash_values_keep_the_contract(name):
    """They are 1/2 at 0, increase with the logit, and stay within the declared span."""
    head = methods.get(name).head(BITS)
    assert head.name == "hash_head"
    lowest, highest = head.span
    assert 0 <= lowest < 0.5 < highest <= 1 and lowest + highest == pytest.approx(1)
    logits = np.tile(np.linspace(-4, 4, 81).astype("float32")[:, None], BITS)
    values = np.array(head.activation(logits))
    assert (values[40] == 0.5).all() and (np.diff(values, axis=0) > 0).all()
    ends = np.array(head.activation(np.array([[-1e4] * BITS, [1e4] * BITS], "float32")))
    np.testing.assert_allclose(ends, np.transpose([[lowest, highest]] * BITS), atol=1e-6)
    features = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    logits, values = head(parts.given(head, features))
    assert logits.shape == values.shape == (4, BITS)
    np.testing.assert_array_equal(values, head.activation(logits))


@every
def test_a_bit_is_one_where_its_logit_is_above_zero(name, monkeypatch):
    images = np.random.default_rng(3).normal(size=(9, 1, 1, BITS)).astype("float32")
    model = parts.model_of_numbers(name)
    found = model.outputs(images)
    bits = codes.unpack(model.encode(images), BITS)
    assert 0 < bits.mean() < 1
    np.testing.assert_array_equal(bits, found["logits"] > 0)
    np.testing.assert_array_equal(bits, found["hash"] > 0.5)
    # The same round 0, with a head that gives the features as they are.
    model = parts.model_of_numbers(name)
    head = model.hash_head
    first = (lambda x: x[0]) if getattr(head, "takes_map", False) else (lambda x: x)
    monkeypatch.setattr(head, "call", lambda x, **_: (first(x), head.activation(first(x))))
    logits = np.array([[0.0, 1e-7, -1e-7, 1e-3, -1e-3, 0.5]], "float32")
    found = model.encode(logits[:, None, None])
    np.testing.assert_array_equal(codes.unpack(found, BITS), logits > 0)


@every
@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
def test_gradient_against_finite_differences(name, several):
    method = methods.get(name)
    if not method.exact_gradient:
        pytest.skip("its gradient is another; its own tests check it")
    if several and not method.needs.several:
        pytest.skip("refuses several labels")
    loss, labels = parts.Loss(name, several=several), parts.labels_of(name, several)
    parts.check_gradient(lambda x: loss(x, labels)["loss"], parts.logits_of(name))


@every
def test_order_in_a_group_does_not_matter(name):
    if methods.get(name).sampled:
        pytest.skip("draws random numbers for each place")
    loss, logits = parts.Loss(name), parts.logits_of(name)
    orders = [np.random.default_rng(seed).permutation(logits.shape[1]) for seed in range(GROUPS)]
    given = (logits, parts.labels_of(name), parts.rows_of(name), logits[:, ::-1], loss.map)
    shuffled = [
        np.stack([group[order] for group, order in zip(part, orders, strict=True)])
        for part in given
    ]
    one, other = loss(*given), loss(*shuffled)
    for term, value in one.items():
        np.testing.assert_allclose(value, other[term], rtol=1e-6, atol=1e-9, err_msg=term)


@every
def test_the_mean_over_groups_is_the_loss_of_all(name):
    method = methods.get(name)
    if not method.needs.splits or method.sampled:
        pytest.skip("says that it does not split, or draws random numbers for each place")
    loss = parts.Loss(name)
    given = (parts.logits_of(name), parts.labels_of(name), parts.rows_of(name))
    given += (parts.logits_of(name, seed=1), loss.map)
    whole = loss(*given)
    alone = [loss(*(each[g : g + 1] for each in given)) for g in range(GROUPS)]
    for term, value in whole.items():
        expected = np.mean([float(each[term]) for each in alone])
        np.testing.assert_allclose(float(value), expected, rtol=1e-6, err_msg=term)


@every
def test_rows_of_one_label_are_that_label(name):
    """What is no classification, of which several labels mean another loss, is the same."""
    method = methods.get(name)
    if not method.needs.several:
        pytest.skip("refuses several labels")
    logits = parts.logits_of(name)
    one, several = (
        parts.Loss(name, several=rows)(logits, parts.labels_of(name, rows))
        for rows in (False, True)
    )
    assert list(one) == list(several)
    skip = {"loss", "class_loss"} if method.has_classifier else set()
    for term in one.keys() - skip - {"accuracy"}:
        np.testing.assert_allclose(one[term], several[term], rtol=1e-6, err_msg=term)


@every
@pytest.mark.parametrize("kinds", ["one", "some", "each its own"])
def test_everything_stays_finite(name, kinds):
    """Also where all images of a group are alike, and where each has a class of its own."""
    normal = parts.logits_of(name)
    m = normal.shape[1]
    number = {"one": 1, "some": CLASSES, "each its own": m}[kinds]
    labels = np.tile(np.arange(m) % number, (GROUPS, 1)).astype("int32")
    loss = parts.Loss(name, num_classes=m, dtype="float32")
    for logits in (
        np.zeros(normal.shape),
        np.where(normal > 0, 1e4, -1e4),
        np.full(normal.shape, 1e4),
        np.full(normal.shape, -1e4),
    ):
        x = tf.constant(logits, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            terms = loss(x, labels)
        for term, value in terms.items():
            assert np.isfinite(value), term
        assert terms["loss"].dtype == tf.float32
        assert np.isfinite(tape.gradient(terms["loss"], x)).all()


@every
def test_the_state_keeps_its_shape_and_follows_from_the_step(name):
    """A run that resumes calls `between` again, and must get the same."""
    method, known = methods.get(name), parts.facts(name)
    state, encode = method.variables(known), parts.encoded(method, known)
    for key, value in method.variables(known).items():
        np.testing.assert_array_equal(value, state[key], err_msg=key)
    for step in range(known.steps):
        if method.due(step, known):
            one, other = (method.between(step, encode, dict(state), known) for _ in range(2))
            assert one.keys() <= state.keys() and one.keys() == other.keys()
            for key, value in one.items():
                assert np.shape(value) == np.shape(state[key]) and np.isfinite(value).all(), key
                np.testing.assert_array_equal(value, other[key], err_msg=key)
            state = state | one


@every
def test_several_labels_are_refused_if_it_cannot_use_them(name):
    method = methods.get(name)
    model = types.SimpleNamespace(method=method, multi_label=True)
    plan = types.SimpleNamespace(group_size=1000)
    if method.needs.several:
        build.check_needs(model, plan, replicas=1)
    else:
        with pytest.raises(UserError, match=f"^method={name} takes images with one label"):
            build.check_needs(model, plan, replicas=1)
    model.multi_label = False
    build.check_needs(model, plan, replicas=1)


@every
def test_a_run_trains_all_of_it(name):
    model, log = parts.once_trained(name)
    # What is logged are the terms, by name and in order.
    terms = [*log[-1]]
    assert terms[0] == "loss" and len(log) == 4 and np.isfinite([*log[-1].values()]).all()
    assert ("probe_loss" in terms) != model.method.has_classifier
    # Whatever is trained by a run has moved, the class layer too.
    for ours, first in zip(
        model.trainable_weights, parts.small(name).trainable_weights, strict=True
    ):
        assert np.abs(np.array(ours) - np.array(first)).max() > 0, ours.path


@every
@pytest.mark.slow
def test_two_runs_of_one_seed_are_equal(name):
    (one, log), (other, again) = parts.once_trained(name), parts.trained(name)
    assert one.fingerprint() == other.fingerprint() != parts.small(name).fingerprint()
    assert log == again


@every
def test_a_probe_moves_no_code(name):
    model = parts.small(name)
    if model.method.has_classifier:
        pytest.skip("its class layer is no probe")
    features = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    labels = np.arange(6) % CLASSES
    with tf.GradientTape() as tape:
        logits, values = model.hash_head(parts.given(model.hash_head, features))
        classes = model.classifier(model.method.seen(logits, values))
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, classes, True))
    head, probe = model.hash_head.trainable_weights, model.classifier.trainable_weights
    gradients = tape.gradient(loss, [*head, *probe])
    assert gradients[: len(head)] == [None] * len(head)
    assert all(np.abs(each).max() > 0 for each in gradients[len(head) :])


@every
def test_reloaded_it_gives_the_same(name, tmp_path):
    model = parts.small(name)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    assert str(again.method) == str(model.method) and again.span == model.span
    images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 1), np.uint8)
    for key, value in model(images).items():
        np.testing.assert_array_equal(value, again(images)[key])


@pytest.mark.parametrize("name", parts.one_for_each_head())
@pytest.mark.slow
def test_exported_it_gives_the_same_bits(name, tmp_path):
    """Of methods with the same layers, one is exported: what differs between them is the loss."""
    from dah_tf.encoding import Encoder
    from dah_tf.exporting import export

    model, _ = parts.once_trained(name)
    export.save(model, tmp_path / "model" / "1")
    encoder = Encoder(tmp_path / "model")
    assert encoder.span == model.span
    images = np.random.default_rng(1).integers(0, 256, (40, parts.SIDE, parts.SIDE, 1), np.uint8)
    clear = np.abs(model.outputs(images)["logits"]) > 1e-4
    found = encoder(images)
    bits = (codes.unpack(each, BITS) for each in (found["codes"], model.encode(images)))
    ours, theirs = (each[clear] for each in bits)
    np.testing.assert_array_equal(ours, theirs)
    lowest, highest = encoder.span
    assert lowest <= found["hash"].min() and found["hash"].max() <= highest


def test_every_head_is_exported():
    heads = {type(methods.get(name).head(BITS)) for name in methods.METHODS}
    assert heads == {type(methods.get(name).head(BITS)) for name in parts.one_for_each_head()}


@pytest.mark.parametrize(
    "text, words",
    [
        ("dahh", "there is no method 'dahh'; there are dah, ce, "),
        ("dpsh:phi=1", "has no option 'phi'; its options are eta"),
        ("dpsh:eta=-1", "dpsh: eta=-1.0 must be at least 0"),
        ("dah:similar_weight=2", "dah: similar_weight=2.0 must lie from 0 to 1"),
        ("dah:phi1=-1", "dah: phi1=-1.0 must be at least 0"),
        ("ce:label_smoothing=1", "ce: label_smoothing=1.0 must lie from 0 to 0.99"),
        ("dah:t=", "not of the form"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        methods.get(text)


@pytest.mark.parametrize("name", sorted(set(methods.names()) - set(methods.METHODS)))
def test_a_shallow_method_says_what_it_is(name):
    method = methods.get(name)
    assert method.name == name and method.title and method.source in base.SOURCES
    assert str(methods.get(str(method))) == str(method) and method.one_fit
    with pytest.raises(TypeError, match=f"{name} learns in one fit"):
        method.terms(None, None, {}, 0)
