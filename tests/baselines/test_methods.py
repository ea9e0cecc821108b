"""What all shallow methods have in common."""

import inspect
import tracemalloc

import numpy as np
import pytest
from shallow_data import blobs, one_hot
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from dah_tf import baselines, codes, metrics, parts
from dah_tf.baselines import base
from dah_tf.errors import UserError

NAMES = sorted(baselines.METHODS)
SUPERVISED = ["cosdish", "itq_cca", "ksh", "sdh"]
RANDOM = ["cosdish", "itq", "itq_cca", "ksh", "lsh", "sdh"]

every = pytest.mark.parametrize("name", NAMES)


@parametrize_with_checks([baselines.get(name, n_bits=2) for name in NAMES])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def state(method):
    return {name: getattr(method, name) for name in method.STATE}


@every
def test_the_same_seed_gives_the_same_arrays(name):
    x, y = blobs()
    text = {"ksh": "ksh:anchors=50"}.get(name, name)  # fewer than there are rows
    one, other, third = (baselines.get(text, 10, seed).fit(x, y) for seed in (3, 3, 4))
    for key, array in state(one).items():
        np.testing.assert_array_equal(array, getattr(other, key))
    same = np.array_equal(one.components_, third.components_)
    assert same == (name not in RANDOM)
    drawn = [baselines.get(text, 10, None).fit(x, y).components_ for _ in range(2)]
    assert np.array_equal(*drawn) == (name not in RANDOM)


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_and_labels_stay_as_they_are(name, dtype):
    x, y = blobs()
    x = x.astype(dtype)
    before = x.copy(), y.copy()
    method = baselines.get(name, 10).fit(x, y)
    method.transform(x)
    method.decision_function(x)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


@every
def test_both_precisions_give_the_same_codes(name):
    x, y = (part[:200] for part in blobs(400))
    single = x.astype(np.float32)
    one = baselines.get(name, 20 if name not in ("pcah", "itq") else 12)
    one.fit(single, y)
    other = baselines.get(name, one.n_bits).fit(single.astype(np.float64), y)
    # What is learned, and what it is applied to; sums of float64 blocks either way.
    np.testing.assert_array_equal(one.transform(single), other.transform(single.astype(float)))
    np.testing.assert_array_equal(one.transform(single), one.transform(single.astype(float)))


@every
def test_batches_give_the_codes_of_the_whole(name, monkeypatch):
    x, y = blobs(500)
    method = baselines.get(name, 11).fit(x, y)
    whole = method.transform(x)
    for size in (1, 7, 499):
        parts_ = [method.transform(x[i : i + size]) for i in range(0, len(x), size)]
        np.testing.assert_array_equal(np.concatenate(parts_), whole)
    monkeypatch.setattr(base.blocks, "__defaults__", (64,))
    np.testing.assert_array_equal(method.transform(x), whole)


@every
def test_blocks_of_rows_learn_what_the_whole_does(name, monkeypatch):
    x, y = blobs(500)
    whole = baselines.get(name, 8).fit(x, y)
    monkeypatch.setattr(base.blocks, "__defaults__", (64,))
    again = baselines.get(name, 8).fit(x, y)
    values = whole.decision_function(x)
    # KSH's hundreds of steps from sums in another order part by more than rounding.
    tolerance = (1e-3 if name == "ksh" else 1e-9) * np.abs(values).max()
    np.testing.assert_allclose(again.decision_function(x), values, rtol=0, atol=tolerance)


@every
def test_a_bit_is_one_where_the_value_is_above_zero(name):
    x, y = blobs()
    method = baselines.get(name, 11).fit(x, y)
    values, packed = method.decision_function(x), method.transform(x)
    assert values.shape == (300, 11)
    assert values.dtype == np.float64
    assert packed.shape == (300, 2)
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(codes.unpack(packed, 11), values > 0)
    assert 0 < (values > 0).mean() < 1


def test_a_value_of_zero_is_the_bit_zero():
    method = baselines.get("lsh", 5).fit(*blobs())
    assert not method.decision_function(method.mean_[None]).any()
    assert not method.transform(method.mean_[None]).any()


@every
def test_the_state_is_all_that_the_hash_function_needs(name):
    x, y = blobs()
    method = baselines.get(name, 9).fit(x, y)
    if isinstance(method, base.Kernel):
        distances = ((x[:, None] - method.anchors_) ** 2).sum(axis=2)
        values = np.exp(-method.gamma_ * distances) @ method.components_ + method.intercept_
    else:
        values = (x - method.mean_) @ method.components_
        if isinstance(method, base.Cosine):
            values = np.cos(values - method.phases_)
        else:
            assert isinstance(method, base.Linear)
    np.testing.assert_allclose(method.decision_function(x), values, atol=1e-9)


@pytest.mark.parametrize("name", SUPERVISED)
def test_labels_bring_classes_together(name):
    x, y = blobs(600)
    x = np.hstack([x, np.random.default_rng(1).normal(size=(600, 6)) * 3])  # says nothing
    method = baselines.get(name, 16).fit(x[:300], y[:300])

    def precision(packed, labels):
        histograms = metrics.histograms(packed, labels, packed, labels, bits=16)
        return metrics.mean_average_precision(*histograms).expected

    unsupervised = baselines.get("lsh", 16).fit(x[:300]).transform(x[300:])
    assert precision(method.transform(x[300:]), y[300:]) > 0.8
    assert precision(unsupervised, y[300:]) < 0.5


@pytest.mark.parametrize("name", SUPERVISED)
def test_labels_may_be_names_numbers_or_rows_of_flags(name):
    x, y = blobs()
    values = baselines.get(name, 8).fit(x, y).decision_function(x)
    forms = [
        np.array(["cat", "dog", "emu", "fox"])[y],
        list(y * 10 - 5),
        y.astype(float),
        y[:, None],
        one_hot(y)[:, ::-1],
        one_hot(y).astype(bool),
    ]
    for form in forms:
        other = baselines.get(name, 8).fit(x, form).decision_function(x)
        # Classes in another order are added up in another order.
        np.testing.assert_allclose(other, values, atol=1e-4 * np.abs(values).max())


@pytest.mark.parametrize("name", SUPERVISED)
def test_rows_with_several_labels(name):
    # Labels A, B and C in all combinations, each a direction of its own; none is a set as well.
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (400, 3))
    x = y @ rng.normal(size=(3, 12)) * 3 + rng.normal(size=(400, 12)) * 0.3
    packed = baselines.get(name, 16).fit(x, y).transform(x)
    distance = codes.hamming(packed, packed)
    similar = y @ y.T > 0
    assert distance[similar].mean() < distance[~similar].mean() - 1


@every
def test_nothing_is_as_large_as_all_pairs(name):
    n = 20_000
    x, y = blobs(n, d=8, classes=3)
    x = x.astype(np.float32)
    text = {"ksh": "ksh:steps=2", "itq": "itq:rounds=2", "sdh": "sdh:anchors=100"}.get(name, name)
    method = baselines.get(text, 8)
    tracemalloc.start()
    try:
        method.fit(x, y).transform(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < n * n / 8  # a bit for each pair


@every
def test_options_can_be_given_as_text(name):
    made_by = parts.factory("method", name, baselines.METHODS)
    written = parts.parse(parts.resolved("method", name, baselines.METHODS))
    again = baselines.get(str(written), 24, 5)
    assert isinstance(again, made_by)
    assert again.get_params() == baselines.get(name, 24, 5).get_params()
    assert set(written.arguments) == set(again.get_params()) - {"n_bits", "random_state"}
    positional = [
        each.name
        for each in inspect.signature(made_by).parameters.values()
        if each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    assert positional == ["n_bits", "random_state"]


def test_unknown_methods_and_options_are_refused():
    with pytest.raises(UserError, match="there is no method 'kish'; there are lsh, sh, "):
        baselines.get("kish")
    with pytest.raises(UserError, match="method ksh has no option 'anchor'; its options are anch"):
        baselines.get("ksh:anchor=3")
    assert baselines.get("sdh:sigma=0.4,anchors=30").sigma == 0.4


def refused(match, method, x, y=None):
    with pytest.raises(UserError, match=match) as caught:
        method.fit(x, y)
    assert "\n" not in str(caught.value)


@every
def test_a_wrong_x_is_refused_in_one_line(name):
    x, y = blobs(40)
    method = baselines.get(name, 4)
    hole = x.copy()
    hole[3, 2] = np.nan
    refused("contains NaN", method, hole, y)
    refused("Expected 2D array", method, x[0], y[:1])
    refused("minimum of 2 is required", method, x[:1], y[:1])
    refused("n_bits=0 must be a whole number of at least 1", baselines.get(name, 0), x, y)
    refused("n_bits=True must be", baselines.get(name, True), x, y)
    refused("n_bits=2.5 must be", baselines.get(name, 2.5), x, y)
    refused("random_state=-1 must be", baselines.get(name, 4, -1), x, y)
    with pytest.raises(NotFittedError):
        method.transform(x)
    method.fit(x, y)
    with pytest.raises(UserError, match="X has 11 features, but .* is expecting 12") as caught:
        method.transform(x[:, :11])
    assert "\n" not in str(caught.value)


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_do_not_differ_are_refused(name, dtype):
    y = np.arange(40) % 2
    for value in (0.0, 0.1, 12345.678):
        x = np.full((40, 5), value, dtype)
        refused("the rows of X do not differ", baselines.get(name, 2), x, y)
    x = np.arange(200.0).reshape(40, 5)
    for scale in (1e120, 1e-120):
        refused("X has values beyond 1e\\+100", baselines.get(name, 2), x * scale, y)
    baselines.get(name, 1).fit(x * 1e30, y).transform(x * 1e30)
    baselines.get(name, 1).fit(x * 1e-30, y).transform(x * 1e-30)


@pytest.mark.parametrize("name", SUPERVISED)
def test_wrong_labels_are_refused_in_one_line(name):
    x, y = blobs(40)
    method = baselines.get(name, 4)
    refused("learns from labels: fit requires y", method, x)
    refused(r"y has shape \(39,\), but X has 40 rows", method, x, y[:39])
    refused(r"y has shape \(40, 2, 2\)", method, x, np.zeros((40, 2, 2)))
    refused("y has one class only", method, x, np.zeros(40))
    refused("y contains fractions", method, x, y + 0.5)
    refused("y contains NaN or infinity", method, x, np.where(y > 0, np.nan, 1.0))
    refused(r"y of shape \(rows, classes\) must contain only 0 and 1", method, x, one_hot(y) * 2)
    refused("y mixes numbers and names", method, x, np.array(["a", 3] * 20, object))
    refused("y is complex128", method, x, y.astype(complex))


@pytest.mark.parametrize(
    "text",
    [
        "itq:rounds=-1",
        "itq_cca:rounds=-1",
        "itq_cca:ridge=0",
        "ksh:anchors=0",
        "ksh:samples=1",
        "ksh:steps=-1",
        "ksh:tolerance=-1",
        "sdh:anchors=0",
        "sdh:sigma=0",
        "sdh:rounds=0",
        "sdh:sweeps=0",
        "sdh:nu=0",
        "sdh:l2_labels=0",
        "sdh:l2_kernel=-1",
        "cosdish:samples=0",
        "cosdish:columns=0",
        "cosdish:alternations=0",
        "cosdish:starts=-1",
        "cosdish:ridge=0",
    ],
)
def test_options_out_of_range_are_refused(text):
    key = text.partition(":")[2]
    refused(f"^{key}(.0)? must be a", baselines.get(text, 4), *blobs(40))
