"""Queries are not used for training, for the whitening of the stem, or for model selection."""

import types

import keras
import numpy as np
import pytest

from dah_tf import data
from dah_tf.data import image_sources, protocols
from dah_tf.model import HashModel, backbones
from dah_tf.training import planning, session


class Recorder(image_sources.ArrayImages):
    """Remembers which images were read."""

    def __init__(self, array):
        super().__init__(array)
        self.seen = set()

    def read(self, indices):
        self.seen |= set(np.asarray(indices).ravel().tolist())
        return super().read(indices)


def dataset():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), 800)).astype(np.int32)
    return types.SimpleNamespace(
        name="made",
        images=Recorder(rng.integers(0, 256, (3200, 16, 16, 1)).astype(np.uint8)),
        labels=labels,
        num_classes=4,
        class_names=["a", "b", "c", "d"],
        train=np.arange(2800),
        test=np.arange(2800, 3200),
        multi_label=False,
        labelled=True,
        fingerprint="0",
        skipped=[],
    )


@pytest.mark.parametrize("name", [name for name in protocols.NAMES if name != "unlabelled"])
def test_queries_are_never_read_before_the_evaluation(name):
    made = dataset()
    protocol = data.make_protocol(name, made, validation=40, seed=0)
    options = types.SimpleNamespace(
        classes_per_group=None,
        seed=0,
        groups=2,
        images_per_class=2,
        flip="random",
        shift=1,
        cutout=0,
        cutout_epochs=None,
        validate_epochs=1,
        mirror=False,
    )
    model = HashModel(backbones.get("compact:widths=8/8/8", channels=1), 8, 4, image_size=16)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    backbones.prepare(model.backbone, "compact", planning.some_images(made, protocol.train))
    plan = planning.make_plan(options, made, protocol)
    for step in range(2 * plan.steps_per_epoch):
        made.images.seen |= set(plan.batch(step)["indices"].ravel().tolist())
    validate = session.make_validator(options, made, protocol)
    scores, _, _ = validate(model)
    assert 0 <= scores["validation_map"] <= 1
    learned = set(protocol.train.tolist())
    held = set(protocol.validation.tolist())
    assert learned <= made.images.seen <= learned | held
    assert not made.images.seen & set(protocol.query.tolist())
