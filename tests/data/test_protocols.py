"""Which images are for training, queries and database under each protocol, by counting."""

import dataclasses

import numpy as np
import pytest

from dah_tf.data import Dataset, protocols
from dah_tf.data.image_sources import ArrayImages
from dah_tf.errors import UserError

LABELLED = [name for name in protocols.NAMES if name != "unlabelled"]


def make_dataset(labels, train, names=None):
    """Makes a data set of images of one pixel. The first `train` images are the training part."""
    labels = np.asarray(labels)
    images = ArrayImages(np.zeros((len(labels), 1, 1, 1), np.uint8))
    count = labels.shape[1] if labels.ndim == 2 else labels.max() + 1
    names = names or [f"class{i}" for i in range(count)]
    rows = np.arange(len(labels))
    kind = np.uint8 if labels.ndim == 2 else np.int32
    return Dataset("mine", images, labels.astype(kind), names, rows[:train], rows[train:])


@pytest.fixture(scope="module")
def dataset():
    """Makes 4 classes of 700 training and 50 test images, in random order."""
    rng = np.random.default_rng(0)
    parts = [rng.permutation(np.repeat(np.arange(4), count)) for count in (700, 50)]
    return make_dataset(np.concatenate(parts), train=2800)


def per_class(dataset, rows):
    return np.bincount(dataset.labels[rows], minlength=dataset.num_classes).tolist()


def sets(protocol):
    return {
        part: set(getattr(protocol, part).tolist())
        for part in ("train", "validation", "query", "database")
    }


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("validation", [0, 200])
def test_what_always_holds(dataset, name, validation):
    protocol = protocols.make(name, dataset, validation=validation, seed=3)
    part = sets(protocol)
    for key in part:
        rows = getattr(protocol, key)
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all(), "sorted, none twice"
    assert len(part["validation"]) == validation
    assert not part["query"] & (part["train"] | part["validation"] | part["database"])
    assert not part["train"] & part["validation"]
    assert part["query"] and part["train"] and part["database"]

    # The validation images are taken from the training images, and nothing else changes.
    whole = protocols.make(name, dataset, seed=3)
    assert part["train"] | part["validation"] == sets(whole)["train"]
    assert part["query"] == sets(whole)["query"]
    assert part["database"] == sets(whole)["database"]
    assert protocol.checksum == whole.checksum
    assert len(protocol.checksum) == 12 and int(protocol.checksum, 16) >= 0

    again = protocols.make(name, dataset, validation=validation, seed=3)
    assert sets(again) == part
    summary = protocol.summary()
    assert summary["name"] == name
    assert summary["checksum"] == protocol.checksum
    assert summary["counts"] == {key: len(rows) for key, rows in part.items()}
    assert summary["description"]


def test_full(dataset):
    part = sets(protocols.make("full", dataset, validation=100))
    assert part["query"] == set(range(2800, 3000))
    assert part["database"] == set(range(2800)), "validation images stay in the database"
    assert part["train"] == set(range(2800)) - part["validation"]


def test_1k_protocols(dataset):
    with_training = protocols.make("1k/5k/59k", dataset, seed=1, validation=40)
    without = protocols.make("1k/5k/54k", dataset, seed=1, validation=40)
    part, other = sets(with_training), sets(without)
    for key in ("train", "validation", "query"):
        assert part[key] == other[key]
    everything = set(range(3000))
    learned = part["train"] | part["validation"]
    assert per_class(dataset, with_training.query) == [100] * 4
    assert per_class(dataset, sorted(learned)) == [500] * 4
    assert part["database"] == everything - part["query"]
    assert other["database"] == everything - part["query"] - learned
    assert with_training.checksum != without.checksum
    # Queries come from both parts of the data: all images are one pool.
    assert part["query"] & set(range(2800)) and part["query"] & set(range(2800, 3000))


def test_unseen():
    labels = np.concatenate([np.tile(np.arange(10), 60), np.tile(np.arange(10), 20)])
    dataset = make_dataset(labels, train=600)
    chosen = set()
    for seed in range(5):
        protocol = protocols.make("unseen", dataset, seed=seed, validation=70)
        seen = np.unique(labels[protocol.train])
        unseen = np.setdiff1d(np.arange(10), seen)
        assert len(seen) == 7
        assert np.array_equal(np.unique(labels[protocol.query]), unseen)
        assert np.array_equal(np.unique(labels[protocol.database]), unseen)
        assert np.array_equal(np.unique(labels[protocol.validation]), seen)
        counts = np.bincount(labels[protocol.query], minlength=10)[unseen]
        assert len(set(counts.tolist())) == 1, "as many queries of each"
        both = np.concatenate([protocol.query, protocol.database])
        assert sorted(both.tolist()) == np.flatnonzero(np.isin(labels, unseen)).tolist()
        assert protocol.train.max() < 600, "trained on training images only"
        assert all(f"class{i}" in protocol.description for i in seen)
        chosen.add(tuple(unseen.tolist()))
    assert len(chosen) > 1


def test_own_takes_a_tenth_of_each_class():
    # Each class gives a tenth, but at least one image as long as one is left for training.
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [100, 30, 4, 2, 1]))
    dataset = make_dataset(labels, train=len(labels))
    protocol = protocols.make("own", dataset)
    assert per_class(dataset, protocol.query) == [10, 3, 1, 1, 0]
    assert per_class(dataset, protocol.database) == [90, 27, 3, 1, 1]
    assert np.array_equal(protocol.train, protocol.database)


def test_own_pools_the_parts_of_the_data(dataset):
    protocol = protocols.make("own", dataset)
    assert per_class(dataset, protocol.query) == [75] * 4
    assert len(protocol.query) + len(protocol.database) == 3000


@pytest.mark.parametrize("name", [name for name in LABELLED if name != "full"])
def test_seeds_choose_differently(dataset, name):
    one, two = (protocols.make(name, dataset, seed=seed) for seed in (0, 1))
    assert sets(one)["query"] != sets(two)["query"]
    assert one.checksum != two.checksum


def test_full_does_not_depend_on_the_seed_but_validation_does(dataset):
    one, two = (protocols.make("full", dataset, seed=seed, validation=50) for seed in (0, 1))
    assert one.checksum == two.checksum
    assert sets(one)["validation"] != sets(two)["validation"]


def test_validation_takes_equal_shares_of_equal_classes(dataset):
    held = protocols.make("full", dataset, validation=400).validation
    assert per_class(dataset, held) == [100] * 4
    # 402 cannot be divided by 4, so that two classes give one image more.
    held = protocols.make("full", dataset, validation=402).validation
    assert sorted(per_class(dataset, held)) == [100, 100, 101, 101]


def test_validation_follows_the_classes_sizes():
    # 20 of 200 images are a tenth of each class: 15, 4 and 1.
    labels = np.repeat(np.arange(3), [150, 40, 10])
    dataset = make_dataset(labels, train=200)
    whole = protocols.make("own", dataset)
    protocol = protocols.make("own", dataset, validation=18)
    sizes = np.array(per_class(dataset, whole.train))
    shares = np.array(per_class(dataset, protocol.validation))
    assert shares.sum() == 18
    assert abs(shares - 18 * sizes / sizes.sum()).max() < 1


def test_what_rounding_leaves_goes_to_the_largest_remainder():
    # The exact shares of 60, 25 and 15 images are 4.2, 1.75 and 1.05.
    dataset = make_dataset([*np.repeat(np.arange(3), [60, 25, 15]), 0, 1, 2], train=100)
    held = protocols.make("full", dataset, validation=7).validation
    assert per_class(dataset, held) == [4, 2, 1]


def test_checksum_follows_every_part(dataset):
    protocol = protocols.make("full", dataset, validation=100)
    for part in ("train", "validation", "query", "database"):
        fewer = dataclasses.replace(protocol, **{part: getattr(protocol, part)[:-1]})
        assert fewer.checksum != protocol.checksum, part


def test_several_labels():
    rng = np.random.default_rng(2)
    labels = (rng.random((300, 5)) < 0.3).astype(np.uint8)
    labels[np.arange(300), rng.integers(0, 5, 300)] = 1
    dataset = make_dataset(labels, train=250)
    assert dataset.multi_label
    full = protocols.make("full", dataset, validation=30)
    assert len(full.query) == 50 and len(full.train) == 220
    own = protocols.make("own", dataset, validation=30)
    assert 25 <= len(own.query) <= 35
    assert labels[own.train].any(axis=0).all()
    with pytest.raises(UserError, match="unseen"):
        protocols.make("unseen", dataset)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_unknown_name(dataset):
    with pytest.raises(UserError, match=r"1k/5k/59k") as error:
        protocols.make("half", dataset)
    assert "half" in one_line(error)


def test_negative_seed(dataset):
    with pytest.raises(UserError, match="seed=-1"):
        protocols.make("full", dataset, seed=-1)


def test_full_without_test_images():
    with pytest.raises(UserError, match="protocol=own") as error:
        protocols.make("full", make_dataset([0, 1] * 10, train=20))
    one_line(error)


def test_too_few_images_for_1k():
    # One class has 599 images: 100 queries leave 499 for training, and 500 are needed.
    dataset = make_dataset(np.repeat([0, 1], [599, 600]), train=1199)
    with pytest.raises(UserError, match="class0.*own") as error:
        protocols.make("1k/5k/59k", dataset)
    one_line(error)
    none_left = make_dataset(np.repeat([0, 1], [600, 600]), train=1200)
    with pytest.raises(UserError, match="1k/5k/54k: no database image is left") as error:
        protocols.make("1k/5k/54k", none_left)
    one_line(error)
    enough = make_dataset(np.repeat([0, 1], [601, 601]), train=1202)
    assert len(protocols.make("1k/5k/54k", enough).database) == 2


@pytest.mark.parametrize("seed", range(6))
def test_too_few_images_of_a_class_for_unseen(seed):
    counts = [30, 30, 30, 30, 4]
    dataset = make_dataset(np.repeat(range(5), counts), train=sum(counts))
    try:
        protocol = protocols.make("unseen", dataset, seed=seed)
    except UserError as error:
        assert "needs 5 images of class class4, but mine has 4; add some" in str(error)
    else:
        assert 4 not in dataset.labels[protocol.query], "the small class trains"


def test_too_few_classes_for_unseen():
    with pytest.raises(UserError, match="own"):
        protocols.make("unseen", make_dataset([0, 1] * 50, train=100))


@pytest.mark.parametrize("validation", [1401, 2800, 10**6, -1])
def test_validation_too_large(dataset, validation):
    with pytest.raises(UserError, match=f"validation={validation}") as error:
        protocols.make("full", dataset, validation=validation)
    one_line(error)


def test_class_without_training_image():
    dataset = make_dataset([0, 0, 0, 1, 1, 1, 0, 2], train=6, names=["cat", "dog", "emu"])
    with pytest.raises(UserError, match="emu") as error:
        protocols.make("full", dataset)
    one_line(error)


def test_class_that_is_nowhere_does_no_harm():
    dataset = make_dataset([0, 2, 0, 2, 0, 2], train=4)
    assert len(protocols.make("full", dataset).train) == 4


def test_validation_that_takes_a_class_last_image():
    # 9 of 20 images are 0.45 of each class of one image, so that some of them lose their image.
    labels = np.repeat(np.arange(11), [10] + [1] * 10)
    dataset = make_dataset(np.concatenate([labels, labels]), train=20)
    with pytest.raises(UserError, match="validation=9 .*no training image of class") as error:
        protocols.make("full", dataset, validation=9)
    one_line(error)
    assert len(protocols.make("full", dataset, validation=0).train) == 20


def test_protocol_cannot_be_changed(dataset):
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocols.make("full", dataset).seed = 1


@pytest.mark.parametrize(("images", "held"), [(2800, 280), (12_000, 1000), (9, 0)])
def test_validation_by_default_is_a_thousand_or_a_tenth(images, held):
    made = make_dataset(np.arange(images + 30) % 3, train=images)
    assert len(protocols.make("full", made, validation=None, seed=0).validation) == held
