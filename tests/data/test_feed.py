"""Batches from `tf.data` and from arrays have exactly the pixels that the plan asks for."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dah_tf.data import feed
from dah_tf.data.image_sources import ArrayImages, FileImages
from dah_tf.data.plan import GroupPlan
from dah_tf.errors import UserError

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(3), 11))
SEVERAL = np.eye(3, dtype=np.uint8)[LABELS] | np.eye(3, dtype=np.uint8)[LABELS[::-1]]


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (40, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory, pixels):
    folder = tmp_path_factory.mktemp("files")
    paths = []
    for i, image in enumerate(pixels):
        paths.append(
            folder / f"{i} ä.png"
        )  # PNG is lossless, and these names have a space and an umlaut
        paths[-1].write_bytes(png(image))
    return [str(path) for path in paths]


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def make_plan(labels=LABELS, **settings):
    # These are images 7 to 39 of the data set, so that places in the plan differ from its rows.
    settings = {"groups": 2, "seed": 4, "shift": 2, "cutout": 3, "image_size": 8, **settings}
    return GroupPlan(labels, indices=np.arange(7, 40), **settings)


def expected(plan, pixels, step):
    batch = plan.batch(step)
    return pixels[batch["indices"]], batch["augment"], batch["labels"]


def same(batch, wanted):
    inputs, labels = batch
    assert set(inputs) == {"images", "augment"}
    for got, want in zip((inputs["images"], inputs["augment"], labels), wanted, strict=True):
        assert got.dtype == want.dtype
        assert np.array_equal(got, want)


@pytest.mark.parametrize("kind", ["array", "files"])
@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["one label", "several labels"])
def test_dataset_gives_the_plan(pixels, files, kind, labels):
    images = ArrayImages(pixels) if kind == "array" else FileImages(files, 8, 3)
    plan = make_plan(labels, classes_per_group=2)
    dataset = feed.dataset(plan, images, 3, 9)  # steps 3 to 9 cross the end of an epoch of 4 steps
    seen = list(dataset.as_numpy_iterator())
    assert len(seen) == 6
    for step, batch in enumerate(seen, start=3):
        same(batch, expected(plan, pixels, step))


def test_dataset_shapes_are_static(pixels, files):
    plan = make_plan()
    for images in (ArrayImages(pixels), FileImages(files, 8, 3)):
        inputs, labels = feed.dataset(plan, images, 0, 1).element_spec
        assert inputs["images"] == tf.TensorSpec((2, 6, 8, 8, 3), tf.uint8)
        assert inputs["augment"] == tf.TensorSpec((2, 6, 5), tf.int32)
        assert labels == tf.TensorSpec((2, 6), tf.int32)
    _, labels = feed.dataset(make_plan(SEVERAL), images, 0, 1).element_spec
    assert labels == tf.TensorSpec((2, 6, 3), tf.uint8)


def test_resumed_feed_goes_on_where_the_other_was(pixels):
    whole = list(feed.dataset(make_plan(), ArrayImages(pixels), 0, 10).as_numpy_iterator())
    for start in (0, 1, 4, 7, 9):
        rest = feed.dataset(make_plan(), ArrayImages(pixels), start, 10).as_numpy_iterator()
        for resumed, (inputs, labels) in zip(rest, whole[start:], strict=True):
            same(resumed, (inputs["images"], inputs["augment"], labels))


def test_feed_of_no_steps(pixels):
    assert not list(feed.dataset(make_plan(), ArrayImages(pixels), 5, 5))


def test_a_strategy_of_one_replica_gets_the_plan(pixels):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    plan = make_plan()
    parts = strategy.experimental_distribute_dataset(feed.dataset(plan, ArrayImages(pixels), 0, 3))
    for step, (inputs, labels) in enumerate(parts):
        got = {name: value.numpy() for name, value in inputs.items()}, labels.numpy()
        same(got, expected(plan, pixels, step))


@pytest.mark.parametrize("kind", ["array", "files"])
@pytest.mark.parametrize("first, last", [(3, 9), (3, 4), (5, 5)])
def test_arrays_give_the_plan(pixels, files, kind, first, last):
    images = ArrayImages(pixels) if kind == "array" else FileImages(files, 8, 3)
    plan = make_plan(SEVERAL)
    seen = list(feed.arrays(plan, images, first, last))
    assert len(seen) == last - first
    for step, batch in enumerate(seen, start=first):
        same(batch, expected(plan, pixels, step))


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,), (2, 0)])
def test_sources_read_any_shape_of_rows(pixels, files, shape):
    rows = np.random.default_rng(2).integers(0, 40, shape)
    for images in (ArrayImages(pixels), FileImages(files, 8, 3)):
        assert len(images) == 40
        assert (images.size, images.channels) == (8, 3)
        read = images.read(rows)
        assert read.dtype == np.uint8
        assert np.array_equal(read, pixels[rows])
        if rows.size:
            traced = tf.function(images.tensors, autograph=False)(tf.constant(rows, tf.int64))
            assert np.array_equal(traced, pixels[rows])


def test_files_are_resized_and_converted(files, pixels):
    grey = np.asarray(Image.fromarray(pixels[3]).convert("L"))[..., None]
    assert np.array_equal(FileImages(files, 8, 1).read([3])[0], grey)
    assert FileImages(files, 5, 3).read([3, 4]).shape == (2, 5, 5, 3)


def test_a_file_that_breaks_later_is_an_error(files):
    images = FileImages([*files[:2], files[0] + ".gone"], 8, 3)
    assert images.read([0, 1]).shape == (2, 8, 8, 3)
    with pytest.raises(UserError, match=r"0 ä\.png\.gone was readable .* \(no such file\)"):
        images.read([0, 2])


def test_rows_and_a_second_view_where_they_are_asked_for(pixels):
    plan, images = make_plan(SEVERAL), ArrayImages(pixels)
    as_arrays = feed.arrays(plan, images, 3, 6, rows=True, views=2)
    as_tensors = feed.dataset(plan, images, 3, 6, rows=True, views=2).as_numpy_iterator()
    for step, batches in enumerate(zip(as_arrays, as_tensors, strict=True), start=3):
        wanted = plan.batch(step, views=2)
        for inputs, labels in batches:
            assert set(inputs) == {"images", "augment", "second", "rows"}
            for name in ("augment", "second", "rows"):
                assert inputs[name].dtype == np.int32
                assert np.array_equal(inputs[name], wanted[name])
            assert np.array_equal(inputs["images"], pixels[wanted["indices"]])
            assert np.array_equal(labels, wanted["labels"])
