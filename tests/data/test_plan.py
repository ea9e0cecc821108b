"""The plan of groups, checked by counting the images that it shows."""

import collections
import itertools

import numpy as np
import pytest

from dah_tf.data.plan import GroupPlan

EQUAL = np.repeat(np.arange(5), 12)  # These are 5 classes of 12 images.


def batches(plan, first, last):
    return [plan.batch(step) for step in range(first, last)]


def shown(plan, first, last):
    """Returns all images of some steps, in the order in which they are shown."""
    return np.concatenate([batch["indices"].ravel() for batch in batches(plan, first, last)])


def shuffled(labels, seed=0):
    return np.random.default_rng(seed).permutation(labels)


@pytest.mark.parametrize("flip", ["none", "random", "alternate"])
def test_shapes_and_types(flip):
    labels = shuffled(EQUAL)
    rows = np.arange(1000, 1060)
    plan = GroupPlan(labels, indices=rows, groups=3, flip=flip, shift=2, cutout=5, image_size=16)
    batch = plan.batch(7)
    assert plan.group_size == 10
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
        "indices": ((3, 10), np.int64),
        "rows": ((3, 10), np.int32),
        "labels": ((3, 10), np.int32),
        "augment": ((3, 10, 5), np.int32),
    }
    assert np.array_equal(batch["labels"], labels[batch["indices"] - 1000])


def test_pure_function_of_seed_and_step():
    labels = shuffled(EQUAL)
    settings = {"groups": 2, "classes_per_group": 3, "shift": 3, "cutout": 4, "flip": "alternate"}
    forward = batches(GroupPlan(labels, seed=5, **settings), 0, 60)
    plan = GroupPlan(labels, seed=5, **settings)
    for step in np.random.default_rng(0).permutation(
        60
    ):  # a batch does not depend on the batches before it
        again = plan.batch(int(step))
        for name, value in forward[step].items():
            assert np.array_equal(value, again[name]), (step, name)
    other = batches(GroupPlan(labels, seed=6, **settings), 0, 60)
    for name in ("indices", "augment"):
        same = [np.array_equal(a[name], b[name]) for a, b in zip(forward, other, strict=True)]
        assert not any(same), name
    assert len({batch["indices"].tobytes() for batch in forward}) == 60  # every batch differs


def test_random_streams_are_independent():
    plan, other = (GroupPlan(EQUAL, groups=6, seed=seed, shift=9) for seed in (5, 6))
    augments = [each.batch(step)["augment"] for each in (plan, other) for step in range(4)]
    assert len({augment[..., 1:3].tobytes() for augment in augments}) == 8
    # Class c has images 12 c to 12 c + 11. Each class has an order of its own.
    images = shown(plan, 0, 1)
    assert len({tuple(images[images // 12 == c] % 12) for c in range(5)}) == 5


def test_batches_do_not_depend_on_the_number_of_groups_a_step():
    labels = shuffled(EQUAL)
    images = [
        shown(GroupPlan(labels, seed=1, groups=groups, classes_per_group=3), 0, 60 // groups)
        for groups in (1, 2, 5)
    ]
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], images[2])


@pytest.mark.parametrize("images_per_class", [1, 2, 3])
@pytest.mark.parametrize("classes_per_group", [None, 1, 2, 3, 4, 5])
def test_groups_are_balanced(classes_per_group, images_per_class):
    plan = GroupPlan(
        shuffled(EQUAL),
        groups=4,
        classes_per_group=classes_per_group,
        images_per_class=images_per_class,
    )
    for batch in batches(plan, 0, 50):
        for indices, labels in zip(batch["indices"], batch["labels"], strict=True):
            counts = collections.Counter(labels.tolist())
            assert len(counts) == (classes_per_group or 5)
            assert set(counts.values()) == {images_per_class}
            assert len(set(indices.tolist())) == len(indices)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_every_image_once_an_epoch(groups):
    # With 60 images and 10 in a group, an epoch has 6 groups, which 1, 2 and 3 divide.
    plan = GroupPlan(shuffled(EQUAL), groups=groups)
    assert plan.steps_per_epoch == 6 // groups
    orders = []
    for epoch in range(5):
        first = epoch * plan.steps_per_epoch
        orders.append(shown(plan, first, first + plan.steps_per_epoch))
        assert sorted(orders[-1]) == list(range(60))
    assert len({order.tobytes() for order in orders}) == 5


def test_what_does_not_fill_a_step_opens_the_next_epoch():
    # An epoch has 6 groups and a step has 4, so that 3 steps show every image twice.
    plan = GroupPlan(shuffled(EQUAL), groups=4)
    assert plan.steps_per_epoch == 1
    for first in range(0, 30, 3):
        images = shown(plan, first, first + 3)
        assert sorted(images[:60]) == list(range(60))
        assert sorted(images[60:]) == list(range(60))


def test_no_image_falls_behind_when_steps_do_not_divide_an_epoch():
    # A class has 7 images, so that pairs cross permutations. So do groups of 3 of the 5 classes.
    plan = GroupPlan(shuffled(np.repeat(np.arange(5), 7)), groups=2, classes_per_group=3)
    assert plan.steps_per_epoch == 35 // 12
    counts = np.zeros(35, int)
    for batch in batches(plan, 0, 400):
        np.add.at(counts, batch["indices"].ravel(), 1)
        # A class is never more than one turn of 2 images ahead, nor an image more than one showing.
        assert counts.max() - counts.min() <= 2
    assert counts.sum() == 400 * 12


def test_more_images_than_an_epoch_holds():
    plan = GroupPlan([0, 1, 0, 1], groups=50)
    assert plan.steps_per_epoch == 1
    images = shown(plan, 0, 1)
    assert np.bincount(images).tolist() == [50] * 4


def test_smaller_classes_repeat():
    # An epoch shows the largest class of 12 images once, which makes 12 * 3 images in groups of 6.
    labels = shuffled(np.repeat([0, 1, 2], [12, 5, 2]))
    plan = GroupPlan(labels)
    assert plan.steps_per_epoch == 6
    counts = np.zeros(len(labels), int)
    for epoch in range(1, 11):
        np.add.at(counts, shown(plan, 6 * epoch - 6, 6 * epoch), 1)
        assert set(counts[labels == 0]) == {epoch}
        for label, size in ((1, 5), (2, 2)):
            mine = counts[labels == label]
            assert mine.sum() == 12 * epoch
            assert mine.max() - mine.min() <= 1, "shown evenly"
            assert mine.min() == 12 * epoch // size
    for batch in batches(plan, 0, 60):
        assert len(set(batch["indices"].ravel().tolist())) == 6, "no image twice in a group"


def test_class_smaller_than_its_share_of_a_group():
    plan = GroupPlan([0, 0, 0, 1, 2, 2], images_per_class=3)
    for batch in batches(plan, 0, 20):
        group = batch["indices"][0].reshape(3, 3)
        by_class = {int(plan.labels[rows[0]]): sorted(rows.tolist()) for rows in group}
        assert by_class[0] == [0, 1, 2]
        assert by_class[1] == [3, 3, 3]
        assert set(by_class[2]) == {4, 5}


def test_classes_that_are_absent_are_not_missed():
    plan = GroupPlan([7, 2, 2, 7, 7], groups=2)
    assert plan.group_size == 4
    for batch in batches(plan, 0, 10):
        assert (np.sort(batch["labels"]) == [2, 2, 7, 7]).all()


def test_fewer_classes_than_asked_for():
    assert GroupPlan([0, 0, 1, 1], classes_per_group=10).group_size == 4


def test_many_classes_in_turn():
    # A group has 3 of the 7 classes. After 7 groups every class has been shown 3 times.
    plan = GroupPlan(shuffled(np.repeat(np.arange(7), 6)), classes_per_group=3)
    for first in range(0, 70, 7):
        labels = np.concatenate([b["labels"].ravel() for b in batches(plan, first, first + 7)])
        assert np.bincount(labels).tolist() == [6] * 7


def test_several_labels():
    rng = np.random.default_rng(3)
    labels = (rng.random((40, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(np.uint8)
    labels[np.arange(4), np.arange(4)] = 1
    labels[4:6] = 0  # these two images have no label and are never shown
    plan = GroupPlan(labels, groups=3)
    sizes = labels.sum(axis=0)
    assert plan.steps_per_epoch == sizes.max() * 4 // (3 * 8)
    groups, seen = set(), set()
    for batch in batches(plan, 0, 30):
        assert batch["labels"].dtype == np.uint8
        assert np.array_equal(batch["labels"], labels[batch["indices"]])
        seen |= set(batch["indices"].ravel().tolist())
        for group in batch["indices"]:
            pairs = group.reshape(4, 2)
            groups.add(group.tobytes())
            # The 4 pairs can be matched with the 4 classes so that both images have the label.
            common = labels[pairs].all(axis=1)  # (pair, class)
            assert perfect_matching(common)
            assert (pairs[:, 0] != pairs[:, 1]).all()
    assert seen == set(np.flatnonzero(labels.any(axis=1)).tolist())
    assert len(groups) == 90


def perfect_matching(allowed):
    """Says by brute force whether each row can get a column of its own."""
    if not len(allowed):
        return True
    return any(
        perfect_matching(np.delete(allowed[1:], column, axis=1))
        for column in np.flatnonzero(allowed[0])
    )


def test_flip_alternates():
    labels = shuffled(np.repeat([0, 1, 2], [12, 7, 3]))
    plan = GroupPlan(labels, flip="alternate")
    history = collections.defaultdict(list)
    for batch in batches(plan, 0, 80):
        for image, flip in zip(batch["indices"].ravel(), batch["augment"][..., 0].ravel()):
            history[int(image)].append(int(flip))
    for flips in history.values():
        assert len(flips) > 10
        assert all(a != b for a, b in itertools.pairwise(flips))
    starts = [flips[0] for flips in history.values()]
    assert 0 < sum(starts) < len(starts), "not all begin alike"


def test_augmentation_covers_its_range_evenly():
    plan = GroupPlan(EQUAL, groups=40, shift=2, cutout=5, image_size=9)
    values = np.concatenate([b["augment"].reshape(-1, 5) for b in batches(plan, 0, 50)])
    assert len(values) == 20_000

    def uniform(column, low, high):
        counts = np.bincount(values[:, column] - low, minlength=high - low + 1)
        expected = len(values) / (high - low + 1)
        assert len(counts) == high - low + 1
        assert abs(counts - expected).max() < 5 * expected**0.5

    uniform(0, 0, 1)
    uniform(1, -2, 2)
    uniform(2, -2, 2)
    uniform(3, -2, 6)  # the corner is at least -(5 // 2) and below 9 - 5 // 2
    uniform(4, -2, 6)
    assert abs(np.corrcoef(values.T) - np.eye(5)).max() < 0.05


def test_last_epochs_cut_nothing_out():
    settings = {"groups": 2, "shift": 2, "cutout": 5, "image_size": 9}
    whole, part = GroupPlan(EQUAL, **settings), GroupPlan(EQUAL, cutout_epochs=2, **settings)
    last = 2 * part.steps_per_epoch
    for step in range(2 * last):
        expected, actual = whole.batch(step), part.batch(step)
        if step >= last:
            expected["augment"][..., 3:] = 9
        for name in expected:
            np.testing.assert_array_equal(actual[name], expected[name])


def test_no_augmentation():
    plan = GroupPlan(EQUAL, groups=2, flip="none")
    assert not plan.batch(3)["augment"][..., :3].any()


@pytest.mark.parametrize(
    "settings",
    [{"groups": 0}, {"images_per_class": 0}, {"flip": "both"}, {"classes_per_group": -1}],
)
def test_bad_settings(settings):
    with pytest.raises(ValueError):
        GroupPlan(EQUAL, **settings)


def test_no_images():
    with pytest.raises(ValueError, match="at least one image"):
        GroupPlan(np.zeros(0, int))


@pytest.mark.parametrize("flip", ["none", "random", "alternate"])
def test_a_second_view_and_rows(flip):
    labels, rows = shuffled(EQUAL), np.arange(1000, 1060)
    plan = GroupPlan(labels, indices=rows, groups=3, flip=flip, shift=5, cutout=5, image_size=16)
    for step in (0, 7):
        one, two = plan.batch(step), plan.batch(step, views=2)
        assert set(two) - set(one) == {"second"}
        for name, value in one.items():  # the first view is the same as without a second view
            assert np.array_equal(value, two[name]), name
        assert np.array_equal(rows[two["rows"]], two["indices"]) and two["rows"].dtype == np.int32
        first, second = two["augment"], two["second"]
        assert second.dtype == np.int32 and second.shape == first.shape
        assert (
            np.mean(first[..., 1:3] == second[..., 1:3]) < 0.4
        )  # by chance alone 1 in 11 is equal
        same = first[..., 0] == second[..., 0]
        assert {"none": same.all(), "alternate": not same.any()}.get(flip, 0 < same.mean() < 1)
