"""This module derives the length of a run from a number of minutes.

A rehearsal measures how long the parts of the run take, and the number of epochs follows from it.
"""

import dataclasses
import io
import pathlib
import tempfile
import time

import numpy as np

from dah_tf import codes
from dah_tf.errors import UserError
from dah_tf.evaluation import reference_points, retrieval
from dah_tf.runs import runlog
from dah_tf.terminal import progress
from dah_tf.training import loop, planning

AIM = 0.97  # the share of the minutes that is planned; a rehearsal cannot measure the rest
WARM = 2  # the number of first steps of each kind that are not timed
QUICK = 0.2  # seconds; shorter steps are timed in groups of ten
# The timed steps of a kind take at least this many seconds, or this share of the minutes.
WINDOW = (4.0, 0.01)
ENCODED = 2048  # the largest number of images that the rehearsal encodes
RANKED = (250, 1000), 10_000  # query counts of two rankings, and their database size


@dataclasses.dataclass(frozen=True)
class Costs:
    """Holds how many seconds the parts of a run take.

    Attributes:
        step: dict of `(image size, frozen)` to the seconds of one step.
        first: dict with the same keys, the seconds that the first step takes in addition to
            those of a later step. This is the time of compiling.
        image: float, the seconds for encoding one image.
        pair: float, the seconds for ranking one item for one query, including the reference
            points.
        fixed: float, the seconds that each run spends once on building, tracing and export.
    """

    step: dict
    first: dict
    image: float
    pair: float
    fixed: float

    def training(self, phases) -> float:
        """Returns the seconds of the steps in `phases`, which `loop.phases` lists."""
        kinds = {(size, frozen) for first, last, size, frozen in phases if last > first}
        steps = sum(
            (last - first) * self.step[size, frozen] for first, last, size, frozen in phases
        )
        return steps + sum(self.first[kind] for kind in kinds)

    def ranking(self, queries: int, items: int) -> float:
        """Returns the seconds for encoding queries and items and for comparing all of them."""
        return self.image * (queries + items) + self.pair * queries * items


class _Timer:
    """A watcher that ends a rehearsal when its steps were timed for long enough.

    Attributes:
        run: `loop.Run` that it watches. The caller sets this attribute.
        first: float, the seconds up to the end of the first step, including compilation.
    """

    def __init__(self, window):
        self.window, self.run, self.first = window, None, None
        self.begun, self.times = time.monotonic(), []

    def __call__(self, step, _):
        now = time.monotonic()
        if self.first is None:
            self.first = now - self.begun
        self.times.append((step, now))
        if step == WARM + 1:
            if now - self.times[-2][1] < QUICK:
                # From here on the rehearsal behaves like a real run, which waits for a device
                # only when it writes its log.
                self.run.settings.log_steps = 10
            self.times = self.times[-1:]
        elif self.seconds and now - self.times[0][1] >= self.window:
            self.run.stop_asked = True

    @property
    def seconds(self):
        """Returns the seconds of a step, or None while too few steps were timed."""
        (step, begun), (last, ended) = self.times[0], self.times[-1]
        return (ended - begun) / (last - step) if last - step >= 3 else None


def within(given, recipe, dataset, protocol, plan, make, strategy, clock):
    """Returns a recipe with as many epochs as its minutes allow.

    Args:
        given: `Recipe` as the user asked for it.
        recipe: `Recipe`, the same one with everything decided, for any number of epochs.
        dataset: `data.Dataset`.
        protocol: `data.Protocol`.
        plan: `data.GroupPlan`.
        make: function that takes a decided recipe and returns the model that a run begins with.
        strategy: `tf.distribute.Strategy` or None.
        clock: float, the value of `time.monotonic` when the minutes began.

    Returns:
        `Recipe` with everything decided.

    Raises:
        UserError: the minutes are too few.
    """
    costs = rehearse(recipe, dataset, protocol, plan, make, strategy)

    def decided(epochs):
        return planning.decided(given.replace(epochs=epochs), dataset, protocol)

    def seconds(epochs):
        return seconds_of(decided(epochs), dataset, protocol, plan, costs)

    return decided(longest(recipe.minutes, clock, seconds))


def seconds_of(recipe, dataset, protocol, plan, costs) -> float:
    """Computes how many seconds a run takes from the building of its model to its end.

    The result follows from the costs of the parts of the run.
    """
    settings = planning.settings_of(recipe, dataset, plan)
    every, validation = settings.validate_steps, len(protocol.validation)
    items = min(len(protocol.train), planning.VALIDATED)
    total = costs.fixed + costs.training(loop.phases(settings))
    if every and validation:
        count = settings.steps // every + (settings.steps % every > 0)
        total += count * costs.ranking(validation, items)
    if recipe.evaluate and len(protocol.query):
        total += costs.ranking(len(protocol.query), len(protocol.database))
    return total


def longest(minutes: float, clock: float, seconds) -> float:
    """Finds the largest number of epochs, in tenths, with which a run ends in time.

    Args:
        minutes: float, the minutes from `clock` to the end of the run.
        clock: float, a value of `time.monotonic`.
        seconds: function that takes a number of epochs and returns how many seconds such a run
            will take.

    Returns:
        float, the number of epochs, which is at least 0.1.

    Raises:
        UserError: not even a tenth of an epoch fits.
    """
    left = AIM * 60 * minutes - (time.monotonic() - clock)
    least = seconds(0.1)
    if least > left:
        needed = (least + time.monotonic() - clock) / AIM / 60
        raise UserError(
            f"minutes={minutes:g} is too short: the shortest run takes about {needed:.1f} minutes on "
            "this machine; raise it, or leave out parts with evaluate=false and export=false"
        )
    low, high = 1, 2  # These are tenths of an epoch.
    while seconds(high / 10) <= left and high < 10**7:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(middle / 10) <= left else (low, middle)
    return low / 10


def rehearse(recipe, dataset, protocol, plan, make, strategy=None) -> Costs:
    """Times the parts of a run on the data of the run, in a folder that is removed afterwards.

    Args:
        recipe: `Recipe` with everything decided.
        dataset: `data.Dataset`.
        protocol: `data.Protocol`.
        plan: `data.GroupPlan`.
        make: function that takes a recipe and returns a compiled `HashModel`.
        strategy: `tf.distribute.Strategy` or None.

    Returns:
        `Costs` of the run.
    """
    window = max(WINDOW[0], WINDOW[1] * 60 * recipe.minutes)
    step, first = {}, {}
    with planning.undisturbed(recipe.seed), tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        model = make(recipe)
        built = time.monotonic() - begun
        settings = planning.settings_of(recipe, dataset, plan)
        for size, frozen in {each[2:]: None for each in loop.phases(settings)}:
            timer = _time_steps(model, plan, dataset, folder, size, frozen, window, strategy)
            step[size, frozen] = timer.seconds
            first[size, frozen] = max(0.0, timer.first - timer.seconds)
        exact = model.in_float32()
        traced, image = _time_encoding(exact, dataset, protocol, recipe.mirror)
        exported = _time_export(exact, recipe, dataset, folder)
    pair = _time_ranking(exact, dataset, protocol)
    return Costs(step, first, image, pair, built + traced + exported)


def _time_steps(model, plan, dataset, folder, size, frozen, window, strategy):
    most = 1_000_000  # The timer ends the rehearsal long before so many steps.
    settings = loop.Settings(
        workdir=str(pathlib.Path(folder) / f"{size}-{frozen}"),
        steps=most,
        sizes=[(size, 0)],
        frozen_steps=most if frozen else 0,
        log_steps=1,
    )
    timer = _Timer(window)
    run = loop.of(model.method)(
        model,
        plan,
        dataset.images,
        settings,
        log=lambda step: runlog.RunLog(settings.workdir, resume_step=step),
        progress=lambda step: progress.Progress(most, 1, stream=io.StringIO(), every=1e9),
        strategy=strategy,
        watch=[timer],
    )
    timer.run = run
    try:
        run.fit()
    except loop.Stopped:
        pass
    finally:
        run.log.close()
    return timer


def _time_encoding(model, dataset, protocol, mirror):
    """Returns the seconds of the first call, which includes tracing, and of one later image."""
    rows = np.asarray(protocol.train)[:ENCODED]
    images = dataset.images.read(rows)
    times = [time.monotonic()]
    for part in (images[:256], images[:256], images):
        model.outputs(part, mirror=mirror)
        times.append(time.monotonic())
    first, again, whole = np.diff(times)
    return max(0.0, first - again), whole / len(images)


def _time_export(model, recipe, dataset, folder):
    import keras

    from dah_tf.exporting import export

    if not recipe.export or keras.backend.backend() != "tensorflow":
        return 0.0
    begun = time.monotonic()
    export.save(
        model,
        pathlib.Path(folder) / "export" / "1",
        flags=recipe.as_dict(),
        metrics={},
        class_names=list(dataset.class_names),
        mirror=recipe.mirror,
    )
    return time.monotonic() - begun


def _time_ranking(model, dataset, protocol):
    """Returns the seconds that ranking one more item for one more query takes.

    They are measured on rankings of random answers.
    """
    counts, items = RANKED
    rng = np.random.default_rng(0)
    labels = dataset.labels[np.resize(protocol.train, items)]
    widths = {"features": model.backbone.output_shape[-1], "classes": model.num_classes}
    found = {k: rng.normal(size=(items, width)).astype("float32") for k, width in widths.items()}
    packed = codes.pack(rng.integers(0, 2, (items, model.bits)))
    seconds = []
    for count in counts:
        begun = time.monotonic()
        retrieval.evaluate(
            packed[:count], labels[:count], packed, labels, model.bits, protocol.summary()
        )
        queries = {name: values[:count] for name, values in found.items()}
        reference_points.evaluate(queries, labels[:count], found, labels, model.bits)
        seconds.append(time.monotonic() - begun)
    return max(0.0, (seconds[1] - seconds[0]) / ((counts[1] - counts[0]) * items))
