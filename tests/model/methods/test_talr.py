"""TALR against the average precision of `dah_tf.metrics`."""

import itertools

import numpy as np
import pytest
from method_parts import gradient

from dah_tf import codes, metrics
from dah_tf.errors import UserError
from dah_tf.model import methods


def terms(logits, labels, spec="talr"):
    return methods.get(spec).terms(np.asarray(labels), {"logits": logits}, {}, 0)


def reported(bits_of_images, labels):
    """The precision that evaluations report, of each image among the others, and brute force."""
    packed, found, brute = codes.pack(bits_of_images), [], []
    for i in range(len(labels)):
        others = np.delete(np.arange(len(labels)), i)
        given = packed[i : i + 1], labels[i : i + 1], packed[others], labels[others]
        histograms = metrics.histograms(*given, bits_of_images.shape[1])
        found.append(float(metrics.average_precision(*histograms).expected[0]))
        distances = (bits_of_images[others] != bits_of_images[i]).sum(axis=1)
        hits = (labels[others] == labels[i])[np.argsort(distances, kind="stable")]
        brute.append(np.mean([hits[: j + 1].mean() for j in np.flatnonzero(hits)]))
    return np.mean(found), np.mean(brute)


def without_ties(m, bits, labels, seed=0):
    """Codes such that no image has two others at one distance."""
    rng = np.random.default_rng(seed)
    while True:
        found = (rng.random((m, bits)) < rng.random((m, 1))).astype("uint8")
        apart = (found[:, None] != found).sum(axis=2)
        if all(len({*np.delete(apart[i], i)}) == m - 1 for i in range(m)):
            return found


@pytest.mark.parametrize("seed", range(4))
def test_without_ties_it_is_what_evaluations_report(seed):
    labels = np.array([0, 0, 0, 1, 1, 1])
    images = without_ties(6, 40, labels, seed)
    expected, brute = reported(images, labels)
    found = terms(200.0 * (2.0 * images[None] - 1), labels[None])
    assert expected == pytest.approx(brute, rel=1e-9) and expected < 0.99
    assert float(found["average_precision"]) == pytest.approx(expected, rel=1e-6)
    assert float(found["loss"]) == pytest.approx(1 - expected, rel=1e-6)


def test_with_ties_by_hand():
    # Codes 00, 01, 10, 11 of classes 0, 0, 1, 0. Image 0 has a similar and another image at
    # distance 1, and a similar one at 2: (2/3 + 2/3) / 2 = 2/3. Image 1: a similar one (00) and a
    # similar one (11) at distance 1, another at 2: 2 (0 + 2 + 1) / (0 + 2 + 1) / 2 = 1. Image 3 is
    # like image 0. Image 2 has no similar one. The mean is 7/9.
    images = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "uint8")
    labels = np.array([0, 0, 1, 0])
    found = terms(100.0 * (2.0 * images[None] - 1), labels[None])
    assert float(found["average_precision"]) == pytest.approx(7 / 9)
    # The mean over the orders of the tie, as evaluations have it, is 17/24 in place of 2/3.
    orders = itertools.permutations([1, 0])
    brute = np.mean(
        [np.mean([np.mean([*o, 1][: i + 1]) for i in np.flatnonzero([*o, 1])]) for o in orders]
    )
    packed = codes.pack(images)
    histograms = metrics.histograms(packed[:1], labels[:1], packed[1:], labels[1:], 2)
    exact = float(metrics.average_precision(*histograms).expected[0])
    assert exact == pytest.approx(brute) == 17 / 24


def test_a_descent_raises_the_precision():
    rng = np.random.default_rng(0)
    u, labels = rng.normal(size=(1, 9, 8)), np.repeat([[0, 1, 2]], 3, axis=1)
    before = float(terms(u, labels)["loss"])
    for _ in range(100):
        u = u - 2.0 * gradient(lambda x: terms(x, labels)["loss"], u)[1]
    after = terms(u, labels)
    assert float(after["average_precision"]) > 0.95 > 1 - before
    # So do the codes.
    expected, _ = reported((u[0] > 0).astype("uint8"), labels[0])
    assert expected > 0.95


def test_each_distance_has_a_bin():
    assert methods.get("talr").bins is None
    rng = np.random.default_rng(1)
    u, labels = rng.normal(size=(1, 6, 8)), [[0, 0, 0, 1, 1, 1]]
    default, eight, four = (terms(u, labels, f"talr{o}") for o in ("", ":bins=8", ":bins=4"))
    assert float(default["loss"]) == float(eight["loss"]) != float(four["loss"])


@pytest.mark.parametrize("option", ["slope", "bins"])
def test_what_is_refused(option):
    with pytest.raises(UserError, match=f"method talr: {option}=0(.0)? must be above 0"):
        methods.get(f"talr:{option}=0")
