"""The sentences about a data set. The expected figures were counted by hand."""

import time

import numpy as np
import pytest

from dah_tf import data
from dah_tf.data import protocols, summary

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (400, 8, 8, 3)).astype(np.uint8)


def make(counts, images=PIXELS, **options):
    labels = np.repeat(np.arange(len(counts)), counts)
    return data.load(images=images[: len(labels)], labels=labels, **options)


def test_facts():
    facts, warnings = data.describe(make([30, 20, 25], class_names=["ant", "bee", "cat"]))
    assert facts == [
        "The data set arrays has 75 images in 3 classes.",
        "The smallest class is bee with 20 images, and the largest is ant with 30 images.",
        "The shorter sides of the originals measure 8 pixels.",
    ]
    assert warnings == []
    facts, _ = data.describe(make([20, 20]))
    assert "Each class has 20 images." in facts


def test_small_and_uneven_classes_are_warned_of():
    _, warnings = data.describe(make([10, 200]))
    assert warnings == []  # 10 images, and a ratio of 20, are just within the limits
    _, warnings = data.describe(make([9, 3, 8, 7, 64], class_names=list("abcde")))
    assert warnings == [
        (
            "4 classes have fewer than 10 images, which are too few to learn from: b (3), d (7), "
            "c (8) and 1 more."
        ),
        (
            "The largest class has 21 times as many images as the smallest; results on the small "
            "classes will be poor."
        ),
    ]


@pytest.mark.parametrize(("size", "warned"), [(2, False), (1, True)])
def test_large_originals_are_warned_of(size, warned):
    _, warnings = data.describe(make([20, 20], image_size=size))
    assert (
        any(f"image_size={size}: their median side has 8 pixels" in w for w in warnings) == warned
    )


def test_leaks_and_clashes_by_content():
    images = PIXELS[:60].copy()
    images[50] = images[3]  # a query that is a training image of the same class
    images[51] = images[40]  # and one of another class
    labels = np.arange(60) // 30
    labels[50:] = [0, 0, *[1] * 8]
    dataset = data.load(
        images=images[:50], labels=labels[:50], test_images=images[50:], test_labels=labels[50:]
    )
    _, warnings = data.describe(dataset, data.make_protocol("full", dataset))
    assert warnings == [
        (
            "2 of 10 queries are also among the training images, by content: image 50 (0) is the same "
            "as image 3 (0). The results will be too good."
        ),
        (
            "1 image occurs in two classes with the same content: image 51 (0) is the same as "
            "image 40 (1)."
        ),
    ]
    # Validation images count as training images, but the database does not.
    rows = np.arange(60)
    split = protocols.Protocol("x", rows[4:50], rows[3:4], rows[50:51], rows[:50], 0, "")
    assert data.describe(dataset, split)[1][0].startswith("1 of 1 queries is also among")
    split = protocols.Protocol("x", rows[4:50], rows[:0], rows[50:51], rows[:50], 0, "")
    assert not any("queries" in each for each in data.describe(dataset, split)[1])


def test_several_labels():
    labels = np.array([[1, 0, 1]] * 12 + [[0, 1, 1]] * 12, np.uint8)
    images = PIXELS[:24].copy()
    images[1] = images[0]  # the same image twice with the same labels is no contradiction
    dataset = data.load(images=images, labels=labels)
    facts, warnings = data.describe(dataset)
    assert "The smallest class is 0 with 12 images, and the largest is 2 with 24 images." in facts
    assert not warnings
    images[20] = images[0]
    (warning,) = data.describe(data.load(images=images, labels=labels))[1]
    assert "image 20 (1;2) is the same as image 0 (0;2)" in warning


def test_sixty_thousand_images_are_looked_at_fast():
    images = RNG.integers(0, 256, (60_000, 32 * 32 * 3), np.uint8).reshape(-1, 32, 32, 3)
    dataset = data.load(images=images, labels=np.arange(60_000) % 10)
    start = time.process_time()
    data.describe(dataset)
    assert time.process_time() - start < 2


def test_choose_protocol():
    assert data.choose_protocol(data.load("digits")) == "full"
    assert data.choose_protocol(make([20, 20])) == "own"


def test_example():
    import doctest

    result = doctest.testmod(summary)
    assert result.attempted == 3 and not result.failed
