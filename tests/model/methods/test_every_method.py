"""What every method must do, tried on each of `METHODS`: a new one is tested by being listed."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_runs import train

from dah_tf import codes, parts
from dah_tf.errors import UserError
from dah_tf.model import HashModel, backbones, methods
from dah_tf.model.methods import base

BITS, CLASSES = 6, 3
GROUPS, M = 2, 6
FACTS = methods.Facts(
    labels=np.tile(np.arange(CLASSES), 8),
    bits=BITS,
    num_classes=CLASSES,
    features=5,
    groups=GROUPS,
    group_size=M,
    steps=10,
    steps_per_epoch=2,
    seed=0,
)

every = pytest.mark.parametrize("name", methods.METHODS)


def labels_of(several=False):
    one = np.tile(np.repeat(np.arange(CLASSES), 2), (GROUPS, 1)).astype("int32")
    return np.eye(CLASSES, dtype="uint8")[one] if several else one


def logits_of(seed=0):
    return np.random.default_rng(seed).normal(size=(GROUPS, M, BITS))


class Loss:
    """A method's terms as a function of logits, in float64 where they are."""

    def __init__(self, name, num_classes=CLASSES):
        self.method = methods.get(name)
        self.activation = self.method.head(BITS).activation
        rng = np.random.default_rng(9)
        width = self.method.seen(tf.zeros((1, BITS)), tf.zeros((1, BITS))).shape[-1]
        self.kernel, self.bias = rng.normal(size=(width, num_classes)), rng.normal(size=num_classes)
        self.state = {k: keras.Variable(v) for k, v in self.method.variables(FACTS).items()}

    def __call__(self, logits, labels, rows=None, second=None):
        outputs = self.outputs(logits)
        if self.method.needs.views == 2:
            outputs["second"] = self.outputs(logits[::-1] if second is None else second)
        if self.method.needs.rows:
            every = np.arange(labels.shape[0] * labels.shape[1]).reshape(labels.shape[:2])
            outputs["rows"] = tf.constant(every if rows is None else rows, tf.int32)
        return self.method.terms(labels, outputs, self.state, tf.constant(3))

    def outputs(self, logits):
        logits = tf.convert_to_tensor(logits)
        kernel, bias = (tf.cast(each, logits.dtype) for each in (self.kernel, self.bias))
        flat = tf.reshape(logits, (-1, BITS))
        values = self.activation.call(flat)  # the layer itself would round to float32
        outputs = {
            "features": flat,
            "logits": flat,
            "hash": values,
            "classes": tf.matmul(self.method.seen(flat, values), kernel) + bias,
        }
        shape = logits.shape[:2]
        return {k: tf.reshape(v, (*shape, v.shape[-1])) for k, v in outputs.items()}


@every
def test_it_says_what_it_is(name):
    method = methods.get(name)
    assert method.name == name and method.title and method.source in base.SOURCES
    assert inspect.getdoc(type(method)) and type(method).__doc__ != base.Method.__doc__
    for parameter in parts.keys(type(method)).values():
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
    logits = np.linspace(-4, 4, 81).astype("float32")
    values = np.array(head.activation(logits))
    assert values[40] == 0.5 and (np.diff(values) > 0).all()
    ends = np.array(head.activation(np.array([-1e4, 1e4], "float32")))
    np.testing.assert_allclose(ends, [lowest, highest], atol=1e-6)
    logits, values = head(np.random.default_rng(0).normal(size=(4, 5)).astype("float32"))
    assert logits.shape == values.shape == (4, BITS)
    np.testing.assert_array_equal(values, head.activation(logits))


@every
def test_a_bit_is_one_where_its_logit_is_above_zero(name):
    model = tiny(name)
    logits = np.array([[0.0, 1e-7, -1e-7, 1e-3, -1e-3, 0.5]], "float32")
    # A head that gives the features as they are.
    model.hash_head.dense.set_weights([np.eye(BITS, dtype="float32"), np.zeros(BITS, "float32")])
    images = np.zeros((1, BITS), "float32") + logits
    np.testing.assert_array_equal(codes.unpack(model.encode(images), BITS), logits > 0)


def tiny(name, **options):
    """A model whose backbone hands on its input, a row of numbers."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((BITS,))
    backbone = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    if methods.get(name).needs.feature_map:
        pytest.skip("needs images")
    return HashModel(backbone, BITS, CLASSES, method=name, **options)


@every
@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
def test_gradient_against_finite_differences(name, several):
    loss, logits, labels = Loss(name), logits_of(), labels_of(several)
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(x, labels)["loss"]
    assert value.dtype == tf.float64
    found = np.array(tape.gradient(value, x))
    assert np.abs(found).max() > 1e-4
    step = 1e-6
    for place in np.random.default_rng(2).permutation(logits.size)[:12]:
        moved = [logits.copy().ravel() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (float(loss(each.reshape(logits.shape), labels)["loss"]) for each in moved)
        expected = (up - down) / (2 * step)
        np.testing.assert_allclose(found.ravel()[place], expected, rtol=1e-4, atol=1e-7)


@every
def test_order_in_a_group_does_not_matter(name):
    logits, labels = logits_of(), labels_of()
    rows = np.arange(GROUPS * M).reshape(GROUPS, M)
    orders = [np.random.default_rng(seed).permutation(M) for seed in range(GROUPS)]
    parts = (logits, labels, rows, logits[:, ::-1])
    shuffled = [
        np.stack([group[order] for group, order in zip(part, orders, strict=True)])
        for part in parts
    ]
    one, other = Loss(name)(*parts), Loss(name)(*shuffled)
    for term, value in one.items():
        np.testing.assert_allclose(value, other[term], rtol=1e-6, err_msg=term)


@every
def test_the_mean_over_groups_is_the_loss_of_all(name):
    if not methods.get(name).needs.splits:
        pytest.skip("says that it does not split")
    logits, labels = logits_of(), labels_of()
    rows = np.arange(GROUPS * M).reshape(GROUPS, M)
    whole = Loss(name)(logits, labels, rows)
    alone = [
        Loss(name)(*(each[g : g + 1] for each in (logits, labels, rows))) for g in range(GROUPS)
    ]
    for term, value in whole.items():
        expected = np.mean([float(each[term]) for each in alone])
        np.testing.assert_allclose(float(value), expected, rtol=1e-6, err_msg=term)


@every
def test_rows_of_one_label_are_that_label(name):
    """What is no classification, of which several labels mean another loss, is the same."""
    logits = logits_of()
    one, several = (Loss(name)(logits, labels_of(rows)) for rows in (False, True))
    assert list(one) == list(several)
    skip = {"loss", "class_loss"} if methods.get(name).has_classifier else set()
    for term in one.keys() - skip - {"accuracy"}:
        np.testing.assert_allclose(one[term], several[term], rtol=1e-6, err_msg=term)


@every
@pytest.mark.parametrize("kinds", [1, CLASSES, M])
def test_everything_stays_finite(name, kinds):
    """Also where all images of a group are alike, and where each has a class of its own."""
    labels, loss = np.tile(np.arange(M) % kinds, (GROUPS, 1)).astype("int32"), Loss(name, M)
    for logits in (
        np.zeros((GROUPS, M, BITS), "float32"),
        np.where(logits_of() > 0, 1e4, -1e4).astype("float32"),
        np.full((GROUPS, M, BITS), 1e4, "float32"),
        np.full((GROUPS, M, BITS), -1e4, "float32"),
    ):
        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            terms = loss(x, labels)
        for term, value in terms.items():
            assert np.isfinite(value), term
        assert np.isfinite(tape.gradient(terms["loss"], x)).all()


def small(name, seed=0):
    keras.utils.set_random_seed(seed)
    backbone = backbones.get("compact:widths=8/8/8,depth=1", channels=1)
    return HashModel(backbone, BITS, CLASSES, image_size=16, method=name)


def trained(name, folder, steps=4):
    """A model after some steps of `training.loop.Run`, and what the run logged."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 8).astype("int32")
    images = rng.integers(0, 100, (24, 16, 16, 1)) + 60 * labels[:, None, None, None]
    return train(small(name), labels, images.astype("uint8"), folder, steps)


@every
def test_two_runs_of_one_seed_are_equal(name, tmp_path):
    (one, log), (other, _) = (trained(name, tmp_path / each) for each in "ab")
    assert one.fingerprint() == other.fingerprint() != small(name).fingerprint()
    # What is logged are the terms, by name and in order.
    terms = [*log[-1]]
    assert terms[0] == "loss" and len(log) == 4 and np.isfinite([*log[-1].values()]).all()
    assert ("probe_loss" in terms) != one.method.has_classifier
    # Whatever is trained by a run has moved, the class layer too.
    for ours, first in zip(one.trainable_weights, small(name).trainable_weights, strict=True):
        assert np.abs(np.array(ours) - np.array(first)).max() > 0, ours.path


@every
def test_a_probe_moves_no_code(name):
    model = small(name)
    if model.method.has_classifier:
        pytest.skip("its class layer is no probe")
    features = np.random.default_rng(0).normal(size=(M, 8)).astype("float32")
    labels = np.arange(M) % CLASSES
    with tf.GradientTape() as tape:
        logits, values = model.hash_head(features)
        classes = model.classifier(model.method.seen(logits, values))
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, classes, True))
    head, probe = model.hash_head.trainable_weights, model.classifier.trainable_weights
    gradients = tape.gradient(loss, [*head, *probe])
    assert gradients[: len(head)] == [None] * len(head)
    assert all(np.abs(each).max() > 0 for each in gradients[len(head) :])


@every
def test_reloaded_it_gives_the_same(name, tmp_path):
    model = small(name)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    assert str(again.method) == str(model.method) and again.span == model.span
    images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 1), np.uint8)
    for key, value in model(images).items():
        np.testing.assert_array_equal(value, again(images)[key])


@every
@pytest.mark.slow
def test_exported_it_gives_the_same_bits(name, tmp_path):
    from dah_tf.encoding import Encoder
    from dah_tf.exporting import export

    model, _ = trained(name, tmp_path / "run")
    export.save(model, tmp_path / "model" / "1")
    encoder = Encoder(tmp_path / "model")
    assert encoder.span == model.span
    images = np.random.default_rng(1).integers(0, 256, (40, 16, 16, 1), np.uint8)
    clear = np.abs(model.outputs(images)["logits"]) > 1e-4
    found = encoder(images)
    bits = (codes.unpack(each, BITS) for each in (found["codes"], model.encode(images)))
    ours, theirs = (each[clear] for each in bits)
    np.testing.assert_array_equal(ours, theirs)
    lowest, highest = encoder.span
    assert lowest <= found["hash"].min() and found["hash"].max() <= highest


@pytest.mark.parametrize(
    "text, words",
    [
        ("dahh", "there is no method 'dahh'; there are dah, ce, dpsh"),
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
