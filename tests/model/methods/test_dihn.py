"""DIHN by hand, the renewal of its codes, and an index to which new classes are added."""

import itertools
import pathlib
import tempfile

import keras
import method_parts as parts
import numpy as np
import pytest
import tensorflow as tf
from training_runs import train

from dah_tf import codes as packed
from dah_tf import metrics
from dah_tf.errors import UserError
from dah_tf.index import create_index
from dah_tf.model import HashModel, methods
from dah_tf.model.methods import dihn

KNOWN = parts.facts("dihn")
N, BITS = len(KNOWN.labels), KNOWN.bits


def facts(**changed):
    return methods.Facts(**{**KNOWN.__dict__, **changed})


def dense(labels):
    """The S of all pairs of images, with its r, written out."""
    similar = labels[:, None] == labels
    return np.where(similar, 1.0, -similar.sum() / (~similar).sum())


def between(state, spec="dihn", step=0, **changed):
    """Renews a state, and returns it and the codes that the network gave the images."""
    method, known = methods.get(spec), facts(**changed)
    encode = parts.encoded(method, known)
    state = method.variables(known) if state is None else state
    return state | method.between(step, encode, state, known), encode(np.arange(N))


def test_by_hand():
    # V = (1, 1), (1, -1), (-1, -1) of classes 0, 0, 1. Of the 9 pairs 5 are similar: r = 5/4.
    # h = (1, 0) of row 1, of 2 bits: h.v = 1, 1, -1 against 2, 2, -5/2: (1 + 1 + 9/4) / 3 = 17/12.
    # h = (0, -1) of row 2: -1, 1, 1 against -5/2, -5/2, 2: (9/4 + 49/4 + 1) / 3 = 62/12.
    # The mean, divided by 2 bits, is 79/48. |v - h|^2 = 0 + 1 and 1 + 0: mean 1.
    # The means of the bits are 1/2 and -1/2: balance 1/2. With gamma = 3: 3 / (3 * 2) = 1/2.
    V = np.array([[1, 1], [1, -1], [-1, -1]])
    S = dense(np.array([0, 0, 1]))
    state = {
        "codes": V.astype("int8"),
        "sets": np.array([0, 0, 1]),
        "products": V.T @ V / 3,
        "wanted": (S @ V / 3)[[0, 2]],
        "squares": (S**2).mean(axis=1)[[0, 2]],
    }
    state = {name: tf.constant(value) for name, value in state.items()}
    h = np.array([[[1.0, 0.0], [0.0, -1.0]]])
    outputs = {"hash": tf.constant((h + 1) / 2), "rows": tf.constant([[1, 2]])}
    terms = methods.get("dihn:gamma=3,balance=0.4").terms(np.array([[0, 1]]), outputs, state, 0)
    assert [*terms] == ["loss", "pairs", "quantisation", "balance"]
    expected = [79 / 48 + 0.5 * 1 + 0.4 / 2, 79 / 48, 1, 1 / 2]
    np.testing.assert_allclose([*terms.values()], expected, rtol=1e-6)


def test_sums_over_sets_are_sums_over_all_pairs():
    logits, rows = parts.logits_of("dihn"), parts.rows_of("dihn")
    loss = parts.Loss("dihn")
    h = np.tanh(logits).reshape(-1, BITS)
    codes, S = loss.first["codes"].astype(float), dense(KNOWN.labels)
    expected = np.square(h @ codes.T - BITS * S[rows.ravel()]).mean() / BITS
    found = loss(logits, parts.labels_of("dihn"), rows)["pairs"]
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sample", [7, 2000])
def test_a_renewal_never_raises_the_objective(sample):
    """The objective of ADSH over the sample and all images, and with it that of each renewal."""
    gamma, S = 3.0, dense(KNOWN.labels)
    state = {"codes": np.where(np.random.default_rng(5).normal(size=(N, BITS)) > 0, 1, -1)}
    for step in (0, 2, 4):
        new, found = between(state, f"dihn:gamma={gamma},sample={sample}", step)
        # The sample follows from the seed and the step.
        order = np.random.default_rng([KNOWN.seed, step]).permutation(N)
        chosen = np.sort(order[:sample])
        U = np.tanh(found["logits"][chosen].astype(float))

        def objective(V, U=U, chosen=chosen):
            pairs = np.square(U @ V.T - BITS * S[chosen]).sum()
            return pairs + gamma * np.square(V[chosen] - U).sum()

        values = [objective(each["codes"].astype(float)) for each in (state, new)]
        assert values[1] <= values[0] + 1e-9
        if step == 0:
            assert values[1] < values[0]
        # A bit of an image is at its best, given those before it and the old ones after it.
        codes = new["codes"].astype(float)
        for row in range(N):
            other = codes.copy()
            other[row, -1] = -other[row, -1]
            assert objective(codes) <= objective(other) + 1e-9
        state = new


def test_each_bit_is_set_to_its_best_value():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 4))
    gram, wanted = x.T @ x, rng.normal(size=(16, 4))
    codes = np.array([*itertools.product([-1.0, 1.0], repeat=4)])
    expected = codes.copy()
    for row, w in zip(expected, wanted, strict=True):
        for bit in range(4):
            costs = []
            for row[bit] in (-1.0, 1.0):
                costs.append(row @ gram @ row - 2 * row @ w)
            row[bit] = 1.0 if costs[1] < costs[0] else -1.0
    np.testing.assert_array_equal(dihn.descend(codes, gram, wanted), expected)
    assert (expected != codes).any()
    # A bit of which both values are equally good stays.
    np.testing.assert_array_equal(dihn.descend(codes, np.eye(4), np.zeros((16, 4))), codes)


def test_codes_start_from_the_first_encode():
    """They are not 0: the first renewal then would only shrink the values."""
    state, found = between(None, "dihn:gamma=1e9")
    np.testing.assert_array_equal(state["codes"], np.where(found["logits"] > 0, 1, -1))
    # Old images, which are not renewed, show them for any weight.
    state, found = between(None, "dihn:old_classes=2")
    old = KNOWN.labels < 2
    signs = np.where(found["logits"] > 0, 1, -1)
    np.testing.assert_array_equal(state["codes"][old], signs[old])
    assert (state["codes"][~old] != signs[~old]).any()
    again, _ = between(state | {"codes": -state["codes"]}, "dihn:old_classes=2", step=2)
    np.testing.assert_array_equal(again["codes"][old], -signs[old])


def test_with_several_labels_old_images_have_old_labels_only():
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]] * 5)[:N]
    state = {"codes": np.ones((N, BITS), "int8")}
    new, _ = between(state, "dihn:old_classes=2,gamma=1e9", labels=labels)
    moved = (new["codes"] != 1).any(axis=1)
    np.testing.assert_array_equal(moved[:10], [False, False, True, True, True] * 2)


def test_renewed_each_epoch():
    known = facts(steps_per_epoch=4)
    assert [s for s in range(9) if methods.get("dihn").due(s, known)] == [0, 4, 8]
    assert [s for s in range(5) if methods.get("dihn:renew_epochs=0.5").due(s, known)] == [0, 2, 4]


# === An index that is only added to ===
OLD, CLASSES, CODE, SIDE = 7, 10, 16, 8
EACH = 16  # images of a class in training; as many more are queries


def pictures(count, seed):
    """Noisy copies of one random picture for each class."""
    plain = np.random.default_rng(0).uniform(40, 215, (CLASSES, 2, 2, 1))
    plain = plain.repeat(4, axis=1).repeat(4, axis=2)
    labels = np.repeat(np.arange(CLASSES), count)
    noise = np.random.default_rng(seed).normal(scale=20, size=(len(labels), SIDE, SIDE, 1))
    return np.clip(plain[labels] + noise, 0, 255).astype("uint8"), labels.astype("int32")


def fresh(spec, backbone=None):
    keras.utils.set_random_seed(4 if backbone else 3)
    inputs = keras.Input((SIDE, SIDE, 1))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(2)(x))
    new = keras.Model(inputs, keras.layers.Dense(48, activation="gelu")(x))
    if backbone:
        new.set_weights(backbone.get_weights())
    return HashModel(new, CODE, CLASSES, image_size=SIDE, method=spec)


def fitted(model, images, labels):
    with tempfile.TemporaryDirectory() as folder:
        return train(model, labels, images, pathlib.Path(folder), 70)[0]


@pytest.mark.slow
def test_new_classes_are_added_to_an_index_that_stays(tmp_path):
    (images, labels), (queries, wanted) = pictures(EACH, 1), pictures(EACH, 2)
    old = labels < OLD
    first = fitted(fresh("dihn"), images[old], labels[old])
    codes = first.encode(images[old])
    index = create_index(tmp_path / "index", CODE, codes=codes)
    np.save(tmp_path / "old.npy", codes)
    # New classes arrive. The new network has the old backbone and a new head.
    spec = f"dihn:old_classes={OLD},old_codes={tmp_path}/old.npy"
    second = fitted(fresh(spec, first.backbone), images, labels)
    V = np.array(second.state["codes"])
    np.testing.assert_array_equal(packed.pack(V[old] > 0), codes)
    added = index.add(second.encode(images[~old]))
    np.testing.assert_array_equal(index.codes(np.arange(len(codes))), codes)
    database = np.concatenate([codes, index.codes(added)])
    order = np.concatenate([np.flatnonzero(old), np.flatnonzero(~old)])

    def score(model, chosen):
        found = metrics.histograms(
            model.encode(queries[chosen]), wanted[chosen], database, labels[order], CODE
        )
        return metrics.mean_average_precision(*found).expected

    new = wanted >= OLD
    values = [score(second, chosen) for chosen in (~new, new, np.full(len(wanted), True))]
    assert min(values) > 0.9, values
    # A new head knows nothing of the old codes before it is trained.
    assert score(fresh(spec, first.backbone), ~new) < 0.6
    # The nearest items of a query are of its class.
    _, ids = index.search(second.encode(queries), 5)
    assert (labels[order][ids] == wanted[:, None]).mean() > 0.9


def test_what_is_refused(tmp_path):
    for spec, words in {
        "dihn:sample=0": "sample=0 must be above 0",
        "dihn:renew_epochs=0": "renew_epochs=0.0 must be above 0",
        "dihn:gamma=-1": "gamma=-1.0 must be at least 0",
        "dihn:old_codes=x.npy": "old_codes needs old_classes",
    }.items():
        with pytest.raises(UserError, match=f"^method dihn: {words}"):
            methods.get(spec)
    np.save(tmp_path / "few.npy", np.zeros((3, 1), "uint8"))
    np.save(tmp_path / "wide.npy", np.zeros((16, 2), "uint8"))
    for spec, words in {
        "dihn:old_classes=3": "old_classes=3 leaves no new class, because there are 3 classes",
        f"dihn:old_classes=2,old_codes={tmp_path}/few.npy": "has 3 codes, but 16 training images",
        f"dihn:old_classes=2,old_codes={tmp_path}/wide.npy": "cannot read .* of 6 bits are uint8",
        f"dihn:old_classes=2,old_codes={tmp_path}/no.npy": "cannot read old_codes=.*No such file",
    }.items():
        with pytest.raises(UserError, match=words):
            methods.get(spec).variables(KNOWN)
