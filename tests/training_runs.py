"""Short runs of `training.loop.Run` without a command, for tests of what it calls."""

import types

import keras

from dah_tf import data
from dah_tf.data import image_sources
from dah_tf.training import loop


def train(model, labels, images, folder, steps, groups=2, **settings):
    """Trains a model on images in memory, and resumes where the folder has a checkpoint.

    Args:
        model: `HashModel`, not compiled.
        labels, images: arrays of the training images.
        folder: path of the run's folder.
        steps: int, the last step.
        groups: int, groups a step.
        **settings: of `loop.Settings`; `stop`, the step after which the run is stopped; and
            `images_per_class`, the number of images of a class in a group.

    Returns:
        The model, and the list of what was logged at each step, dicts.
    """
    stop = settings.pop("stop", None)
    plan = data.GroupPlan(
        labels,
        groups=groups,
        images_per_class=settings.pop("images_per_class", 2),
        shift=1,
        image_size=images.shape[1],
    )
    model.compile(optimizer=keras.optimizers.SGD(0.02, momentum=0.9, name="sgd"))
    model.optimizer.build(model.trainable_variables)
    rows = []
    log = types.SimpleNamespace(
        scalars=lambda step, values, time: rows.append(values),
        tensorboard=lambda *_: None,
        flush=lambda fsync: None,
    )
    progress = types.SimpleNamespace(
        update=lambda *_: None,
        close=lambda: None,
        message=lambda *_: None,
        images_per_second=1,
        eta_seconds=1,
    )
    settings = loop.Settings(str(folder), steps, [(images.shape[1], 0)], **settings)
    run = loop.of(model.method)(
        model,
        plan,
        image_sources.ArrayImages(images),
        settings,
        log=lambda _: log,
        progress=lambda _: progress,
        strategy=loop.strategy("one"),
    )
    after = run.after

    def stopping(terms):
        run.stop_asked = run.step + 1 == stop
        after(terms)

    run.after = stopping
    try:
        run.fit()
    except loop.Stopped:
        pass
    return model, rows
