"""This module trains a model: it holds the strategy, the loop, checkpoints and logging.

A run first builds the model under the strategy. It then restores the newest checkpoint and cuts
the logs back to the step of that checkpoint. It trains and logs every step. At each checkpoint it
first makes the logs durable and then writes the checkpoint. At the end it saves the model.
"""

import contextlib
import dataclasses
import itertools
import pathlib
import pkgutil
import signal
import time

import keras
import numpy as np

from dah_tf import metrics
from dah_tf.data import feed, image_sources
from dah_tf.errors import UserError
from dah_tf.model.methods import Facts
from dah_tf.training import checkpoint, watching

ENCODED = 8192  # the number of images read at a time when a method asks for images


@dataclasses.dataclass
class Settings:
    """Holds how long a run trains, how often it saves and validates, and where it writes.

    Attributes:
        workdir: path of the run's folder.
        steps: int, the number of optimiser steps of the whole run.
        sizes: list of `(image size, first step)`, the progressive image sizes in order.
        frozen_steps: int, the number of first steps in which the backbone does not learn.
        checkpoint_steps: int, the number of steps between checkpoints. With 0,
            `checkpoint_minutes` decides.
        checkpoint_minutes: float, the minutes between checkpoints.
        validate_steps: int, the number of steps between validations, or 0 for no validation.
        log_steps: int, the number of steps between writes of the log.
    """

    workdir: str
    steps: int
    sizes: list
    frozen_steps: int = 0
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 5.0
    validate_steps: int = 0
    log_steps: int = 10


class Diverged(UserError):
    """This error says that a term of the loss or a weight is not finite."""


class Stopped(Exception):
    """This exception says that SIGTERM asked the run to stop. A checkpoint holds its state."""


def strategy(name):
    """Makes the `tf.distribute` strategy with a given name.

    Args:
        name: str, "one", "mirrored" or "auto". "mirrored" uses all GPUs, or all logical CPUs if
            there is no GPU. "auto" is the same as "mirrored" if there is more than one GPU.

    Returns:
        `tf.distribute.Strategy`, or None under JAX.

    Raises:
        UserError: Keras runs on another back end, or the back end does not have the strategy.
    """
    if keras.backend.backend() != "tensorflow":
        if keras.backend.backend() != "jax":
            raise UserError(
                f"training needs KERAS_BACKEND=tensorflow or jax, not {keras.backend.backend()}"
            )
        if name not in ("auto", "one"):
            raise UserError(f"strategy={name} needs KERAS_BACKEND=tensorflow; set strategy=one")
        return None
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def facts():
    """Returns the facts that a checkpoint must agree on, in addition to names and shapes."""
    return {"backend": keras.backend.backend()}


class Run:
    """Holds the state of one training run. The method `fit` does the work.

    Args:
        model: compiled `HashModel` that was made under `strategy` and has a built optimiser.
        plan: `data.GroupPlan`.
        images: image source of the package `data`.
        settings: `Settings`.
        log: function that takes the step to resume from and returns a `runlog.RunLog`.
        progress: function that takes the step to resume from and returns a
            `progress.Progress`.
        validate: function that `validator` returned, or None.
        strategy: `tf.distribute.Strategy` or None.
        watch: functions of a step and its dict of logged values, or Keras callbacks.
        stop_on_sigterm: bool, whether SIGTERM saves the state and raises `Stopped`. This works
            only in the main thread.

    Attributes:
        advice: str that is shown if the run will still take hours, or None.
        describe: function that returns the features of all images of the data set, or None. It
            is used by methods that learn in a single fit.
    """

    def __init__(
        self,
        model,
        plan,
        images,
        settings,
        log,
        progress,
        validate=None,
        strategy=None,
        watch=(),
        stop_on_sigterm=False,
    ):
        self.model = model
        self.watchers = watching.Watchers(watch, model, settings.steps)
        self.stop_on_sigterm = stop_on_sigterm
        self.plan = plan
        self.images = images
        self.settings = settings
        self.validate = validate
        self.strategy = strategy
        with strategy.scope() if strategy else contextlib.nullcontext():
            model.begin(method_facts(model, plan, settings.steps))
        self.folder = pathlib.Path(settings.workdir) / "checkpoints"
        self.step = checkpoint.restore(self.folder, self.variables, facts()) or 0
        self.saved_step = self.step
        self.log = log(self.step)
        self.progress = progress(self.step)
        self.pending = []
        self.stop_asked = False
        self.last_save = time.monotonic()
        self.first_step = self.step
        self.advice = None
        self.describe = lambda: None
        self._carried = (), ()

    @property
    def variables(self):
        """Returns all variables that a resumed run needs, in a fixed order."""
        model = self.model
        return [*model.variables, *model.optimizer.variables, *model.state.values()]

    def fit(self):
        """Trains to the last step.

        Raises:
            Diverged: a term or a weight is not finite. The last good checkpoint is kept.
            Stopped: SIGTERM arrived. The state is saved.
            UserError: an image cannot be read any more, or the disk is full.
        """
        try:
            self.watchers.begin()
            with self._sigterm() if self.stop_on_sigterm else contextlib.nullcontext():
                self._learn()
            self.flush()
            if self.saved_step != self.step:
                self.save()
            self.watchers.end()
        finally:
            self.progress.close()

    def _learn(self):
        """Takes the steps that are left, phase by phase."""
        for first, last, size, frozen in phases(self.settings):
            if self.step < last:
                self._phase(max(first, self.step), last, size, frozen)

    def _phase(self, first, last, size, frozen):
        self.model.train_size = size
        self.model.backbone_frozen = frozen
        if self.strategy is None:
            self._jax_phase(first, last)
            return
        step_function = self._compiled_step()
        batches = feed.dataset(self.plan, self.images, first, last, **self._fed())
        if self.strategy.num_replicas_in_sync > 1:
            batches = self.strategy.experimental_distribute_dataset(batches)
        for batch in self._readable(batches):
            if self._between_is_due():
                self._between()
            self.after(step_function(batch))

    def _compiled_step(self):
        """Returns a function that takes a batch, does one step, and returns the logged terms."""
        return compiled_step(self.model, self.strategy)

    def _fed(self):
        """Returns what the method needs from the feed of batches."""
        needs = self.model.method.needs
        return {"rows": needs.rows, "views": needs.views}

    def _between_is_due(self):
        return self.model.method.due(self.step, self.model.facts)

    def _between(self):
        """Lets the method work on the host before a step, and assigns the state it returns."""
        model = self.model
        state = {name: np.array(variable) for name, variable in model.state.items()}
        new = model.method.between(self.step, self._encode, state, model.facts)
        for name, value in new.items():
            model.state[name].assign(value)

    def _encode(self, rows):
        """Returns the model's outputs for training images that are given by their rows.

        The images have the size that the present steps train on.
        """
        rows, found = np.asarray(rows), []
        size = self.model.train_size or self.images.size
        for first in range(0, max(len(rows), 1), ENCODED):
            images = self.images.read(self.plan.indices[rows[first : first + ENCODED]])
            images = image_sources.resize_array(images, size)
            found.append(self.model.outputs(images, mirror=False))
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    def _readable(self, batches):
        """Yields batches. If the images of the next one cannot be read, it saves the state."""
        import tensorflow as tf

        try:
            yield from batches
        except tf.errors.OpError:
            if self.saved_step != self.step:
                self.save()
            # Reading the same images again raises an error that names the file.
            self.images.read(self.plan.batch(self.step)["indices"])
            raise

    def _jax_phase(self, first, last):
        import jax

        model, parts, state, names = self.model, self.model.parts, None, []

        # Each phase defines this function anew, because a traced function keeps its image size.
        def step(state, batch):
            terms, state = model.train_step(state, batch)
            names[:] = terms  # The names are kept here, because JAX sorts a dict.
            return [*terms.values()], state

        # A step reuses the memory of the state before it. Between steps the values are in
        # `state`, and the variables point to memory that is no longer valid, until `_settle`
        # gives them the new values.
        step = jax.jit(step, donate_argnums=0)
        for batch in feed.arrays(self.plan, self.images, first, last, **self._fed()):
            if self._between_is_due():
                self._settle()
                self._between()
                state = None
            if state is None:
                # The values are copied, because a variable may share its memory with an array
                # that other code holds.
                state = tuple([jax.numpy.array(v.value) for v in part] for part in parts)
            terms, state = step(state, batch)
            self._carried = parts, state
            self.after(dict(zip(names, terms, strict=True)))
        self._settle()

    def _settle(self):
        """Gives the variables the values that a pure step function keeps outside of them."""
        (parts, state), self._carried = self._carried, ((), ())
        for part, values in zip(parts, state, strict=True):
            for variable, value in zip(part, values, strict=True):
                variable.assign(value)

    def after(self, terms):
        """Does what follows an optimiser step: it logs, shows, validates, saves and stops."""
        self.step += 1
        self.pending.append((self.step, time.time(), terms))
        if len(self.pending) >= self.settings.log_steps or self.step == self.settings.steps:
            self.flush()
        if self.validation_due(self.step):
            self.flush()
            values, ones, picture = self.validate(self.model)
            with self._disk("the log"):
                self.log.validation(self.step, values)
                self.log.histogram(self.step, "bit_means", ones)
                self.log.image(self.step, "example_retrievals", picture)
            self.progress.message(
                f"step {self.step}: " + ", ".join(f"{k} {v:.4f}" for k, v in values.items())
            )
        if self.due(self.step):
            self.save()
        if self.stop_asked or self.watchers.stop_asked:
            if self.saved_step != self.step:
                self.save()
            raise Stopped

    def validation_due(self, step):
        every = self.settings.validate_steps
        return bool(self.validate and every and (step % every == 0 or step == self.settings.steps))

    def due(self, step):
        every = self.settings.checkpoint_steps
        if every:
            return step % every == 0
        return time.monotonic() - self.last_save > 60 * self.settings.checkpoint_minutes

    @contextlib.contextmanager
    def _disk(self, what):
        """Turns the error of a full or broken disk into a message of one line."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write {what} to {self.settings.workdir} ({error.strerror or error}); "
                f"{self._last_good()}; free space and run the same command"
            ) from error

    def flush(self):
        """Logs the steps done since the last call, and stops the run at the first NaN."""
        with self._disk("the log"):
            self._flush()

    def _flush(self):
        self._settle()
        pending, self.pending = self.pending, []
        rate = self.model.optimizer.learning_rate
        for step, when, terms in pending:
            values = {name: float(value) for name, value in terms.items()}
            bad = [name for name, value in values.items() if not np.isfinite(value)]
            if bad:
                shown = ", ".join(f"{name} became {values[name]}" for name in bad)
                raise Diverged(f"{shown} at step {step}; {self._what_now()}")
            self.log.scalars(step, values, time=when)
            self.watchers.step(step, values)
            shown = values
        if pending:
            self.progress.update(self.step, shown)
            self.log.tensorboard(
                self.step,
                {
                    "learning_rate": float(rate),
                    "images_per_second": self.progress.images_per_second,
                },
            )
        if pending and self.first_step is not None and self.step - self.first_step >= 20:
            self.first_step = None
            self._say_how_long()

    def _say_how_long(self):
        seconds = self.progress.eta_seconds
        shown = f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
        shown = f"about {shown}" if seconds >= 60 else "less than a minute"
        end = time.strftime("%H:%M", time.localtime(time.time() + seconds))
        self.progress.message(
            f"the training needs {shown} more, until {end}, at "
            f"{self.progress.images_per_second:.0f} images/s"
        )
        if self.advice and seconds > 7200:
            self.progress.message(self.advice)

    def _last_good(self):
        return f"the last good checkpoint is that of step {self.saved_step} in {self.folder}"

    def _what_now(self):
        return (
            f"{self._last_good()}; start again with a lower learning_rate or a higher warmup in "
            "another workdir"
        )

    def save(self):
        """Makes the log durable, then writes a checkpoint."""
        self.flush()
        try:
            with self._disk("a checkpoint"):
                self.log.flush(fsync=True)
                checkpoint.save(self.folder, self.step, self.variables, facts())
        except checkpoint.NotFinite as error:
            raise Diverged(
                f"{error} is not finite at step {self.step}; {self._what_now()}"
            ) from error
        self.saved_step = self.step
        self.last_save = time.monotonic()

    @contextlib.contextmanager
    def _sigterm(self):
        def handler(*_):
            self.stop_asked = True

        old = signal.signal(signal.SIGTERM, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, old)


def of(method):
    """Returns the class that trains a method, which is `Run` or the method's `loop`."""
    own = method.loop
    return pkgutil.resolve_name(own) if isinstance(own, str) else own or Run


def method_facts(model, plan, steps):
    """Returns the `methods.Facts` that a method may know about a run.

    Args:
        model: `HashModel`.
        plan: `data.GroupPlan`.
        steps: int, the number of steps of the whole run.
    """
    return Facts(
        labels=plan.labels,
        bits=model.bits,
        num_classes=model.num_classes,
        features=model.backbone.output_shape[-1],
        groups=plan.groups,
        group_size=plan.group_size,
        steps=steps,
        steps_per_epoch=plan.steps_per_epoch,
        seed=plan.seed,
    )


def phases(settings):
    """Lists the phases of a run, in which the image size and the frozen state stay the same.

    Returns:
        List of `(first step, end step, image size, frozen)`. `frozen` tells whether the
        backbone does not learn.
    """
    cuts = {0, settings.steps, *(first for _, first in settings.sizes)}
    cuts.add(min(settings.frozen_steps, settings.steps))
    cuts = sorted(cut for cut in cuts if cut <= settings.steps)
    parts = []
    for first, last in itertools.pairwise(cuts):
        size = [size for size, start in settings.sizes if start <= first][-1]
        parts.append((first, last, size, first < settings.frozen_steps))
    return parts


def compiled_step(model, strategy):
    """Compiles a function that calls `model.train_step` on every replica.

    The terms that it returns are means over the replicas.
    """
    import tensorflow as tf

    if strategy.num_replicas_in_sync == 1:
        return tf.function(model.train_step)

    @tf.function
    def step(batch):
        terms = strategy.run(model.train_step, args=(batch,))
        return {k: strategy.reduce("MEAN", v, axis=None) for k, v in terms.items()}

    return step


def validator(images, labels, queries, database, sheet, mirror=False):
    """Makes a function that measures the MAP of validation images against training images.

    Args:
        images: image source.
        labels: labels of all images of the source.
        queries: indices of validation images.
        database: indices of training images.
        sheet: function that takes query images, neighbour images, relevance and distances, and
            returns a picture.
        mirror: bool, the argument `mirror` of `HashModel.outputs`.

    Returns:
        Function of the model that returns a dict of scalars, the mean of each bit, and a
        picture of retrievals.
    """
    from dah_tf import codes

    query_images, database_images = images.read(queries), images.read(database)

    def validate(model):
        # The images have the size that the network is trained on at this point of the run.
        size = model.train_size or images.size
        ours, theirs = (
            model.outputs(image_sources.resize_array(part, size), mirror=mirror)
            for part in (query_images, database_images)
        )
        packed = [codes.pack(codes.binarize(part["logits"])) for part in (ours, theirs)]
        score = metrics.mean_average_precision(
            *metrics.histograms(packed[0], labels[queries], packed[1], labels[database], model.bits)
        )
        shown = np.linspace(0, len(queries) - 1, min(8, len(queries))).astype(int)
        distances = codes.hamming(packed[0][shown], packed[1])
        order = np.argsort(distances, axis=1, kind="stable")[:, :10]
        relevant = metrics.relevant(labels[queries][shown], labels[database])
        picture = sheet(
            query_images[shown],
            database_images[order],
            np.take_along_axis(relevant, order, axis=1),
            np.take_along_axis(distances, order, axis=1),
        )
        ones = codes.binarize(theirs["logits"]).mean(axis=0)
        return {"validation_map": float(score.expected)}, ones, picture

    return validate
