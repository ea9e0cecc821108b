"""What a run leaves to see: `metrics.jsonl`, TensorBoard events, a progress line.

No TensorFlow: events are written with the `tensorboard` package alone, and where that is not
installed only `metrics.jsonl` is written. Every record goes to the file in one write; a write
that fails (disk full) is undone, so that files always parse, and its `OSError` is raised.
"""

import contextlib
import errno
import json
import math
import os
import pathlib
import time as clock

import numpy as np

from dah_tf.errors import UserError
from dah_tf.files import durable
from dah_tf.runs.events import Appender, Events

__all__ = ["Lock", "RunLog", "cut_back", "last_record"]


class Busy(UserError):
    """Another process trains in the folder."""


class Lock(durable.Lock):
    """Holds a run's folder for this process, until `close` or the process' end, even by kill -9.

    Args:
        workdir: path of the folder; made if missing.

    Raises:
        Busy: another process trains there.
        UserError: the folder cannot be written.
    """

    def __init__(self, workdir):
        try:
            pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
            super().__init__(workdir)
        except durable.Busy as busy:
            raise Busy(
                f"{workdir} is already being trained (pid {busy.pid}); wait for it, stop it, or "
                "name another workdir"
            ) from None
        except OSError as error:
            # Some network file systems have no locks: better to train without than not at all.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise UserError(f"cannot write to workdir={workdir}: {error.strerror}") from error


class RunLog:
    """The logs of one run.

    Args:
        workdir: path of the run's folder.
        resume_step: int, the step that training goes on from: records of later steps, and half a
            last line, are dropped. None starts the logs afresh.
        lock: `Lock` of `workdir` that the caller holds and closes; None takes one of its own.

    Raises:
        UserError: another process trains there.
        OSError: the logs cannot be written.
    """

    def __init__(self, workdir, resume_step=None, lock=None):
        self._own_lock = None if lock else Lock(workdir)
        self._events = None
        self._step = resume_step or 0
        try:
            path = pathlib.Path(workdir) / "metrics.jsonl"
            validations = path.with_name("validation.jsonl")
            for each in (path, validations):
                cut_back(each, -1 if resume_step is None else resume_step)
            self._before, self._opened = last_record(path).get("seconds", 0.0), clock.time()
            self._lines, self._validations = Appender(path), Appender(validations)
            with contextlib.suppress(ImportError):
                self._events = Events(workdir, 0 if resume_step is None else resume_step + 1)
        except BaseException:
            if self._own_lock:
                self._own_lock.close()
            raise

    def scalars(self, step, values, time=None):
        """Logs a step: a line of `metrics.jsonl` and TensorBoard scalars.

        Args:
            step: int, larger than every step before.
            values: dict of name to number. One that is not finite is `null` in the line and left
                out of TensorBoard.
            time: float, seconds since the epoch; None is now.

        Raises:
            OSError: the line, or only its events, could not be written; all before it stands.
        """
        time = clock.time() if time is None else time
        self._lines.write(self._record(step, values, time))
        self.tensorboard(step, values, time)

    def validation(self, step, values):
        """Logs a validation: a line of `validation.jsonl`, and TensorBoard scalars.

        Arguments and errors: `scalars`.
        """
        self._validations.write(self._record(step, values, clock.time()))
        self.tensorboard(step, values)

    def _record(self, step, values, time):
        seconds = self._before + max(time - self._opened, 0.0)
        record = {"step": int(step), "time": round(time, 3), "seconds": round(seconds, 3)}
        for name, value in values.items():
            record[name] = float(value) if math.isfinite(value) else None
        return (json.dumps(record, allow_nan=False) + "\n").encode()

    def tensorboard(self, step, values, time=None):
        """As `scalars`, to TensorBoard only: for what is not known at every step."""
        self._step = max(self._step, int(step))
        if self._events:
            self._events.scalars(step, values, clock.time() if time is None else time)

    def histogram(self, step, name, values):
        """Logs the distribution of `values`, an array of numbers, to TensorBoard."""
        values = np.asarray(values, np.float64).ravel()
        values = values[np.isfinite(values)]
        if self._events and values.size:
            self._events.histogram(step, name, values)

    def image(self, step, name, pixels):
        """Logs a picture to TensorBoard; `pixels` is uint8 `[height, width, 3]`."""
        if self._events:
            self._events.image(step, name, np.asarray(pixels, np.uint8))

    def hparams(self, flags, metrics):
        """Logs the flags, and what came of them, for TensorBoard's HParams page.

        Args:
            flags: dict; values other than numbers, booleans and strings are shown as text.
            metrics: dict of name to number. Empty at a run's start; at its end they mark it as
                finished and are logged as scalars `hparam/NAME`.
        """
        if self._events:
            self.tensorboard(self._step, {f"hparam/{k}": v for k, v in metrics.items()})
            self._events.hparams(flags, ended=bool(metrics))

    def flush(self, fsync=False):
        """Makes everything logged so far survive a loss of power, if `fsync`.

        A killed process loses nothing in either case: no record waits in memory.
        """
        if fsync:
            self._lines.sync()
            self._validations.sync()
            if self._events:
                self._events.file.sync()

    def close(self):
        """Closes the files and gives the folder free."""
        self._lines.close()
        self._validations.close()
        if self._events:
            self._events.file.close()
        if self._own_lock:
            self._own_lock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def cut_back(path, step):
    """Drops the lines of a `metrics.jsonl` that are later than `step`, damaged or double.

    The file is replaced in one rename, and only where something is to be changed.

    Args:
        path: path of the file; it may be missing.
        step: int, the last step to keep.
    """
    if not pathlib.Path(path).exists():
        return
    with open(path, "rb") as old:
        if all(line == kept for line, kept in _kept(old, step)):
            return
    with open(path, "rb") as old, durable.replacing(path) as new:
        new.writelines(kept for _, kept in _kept(old, step))


def _kept(lines, step):
    """Pairs of each line and what is kept of it: all with its end, or nothing."""
    last = -1
    for line in lines:
        found = _step_of(line)
        if found is not None and last < found <= step:
            last = found
            yield line, line.rstrip(b"\n") + b"\n"
        else:
            yield line, b""


def last_record(path, step=None):
    """The last line of a `metrics.jsonl`, or the last up to a step.

    Its `seconds` is the time of the steps so far, over all parts of the run; what a killed part
    did after its last checkpoint was undone, and does not count.

    Args:
        path: path of the file.
        step: int, or None for the file's end, which is found without reading the rest.

    Returns:
        Dict; empty where there is no file or no whole line.
    """
    try:
        with open(path, "rb") as file:
            if step is None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
                return dict(json.loads(file.read().splitlines()[-1]))
            kept = [line for _, line in _kept(file, step) if line]
            return dict(json.loads(kept[-1]))
    except (OSError, ValueError, IndexError, TypeError):
        return {}


def history(path):
    """Every value of a `metrics.jsonl` by its name.

    Returns:
        Dict of float64 arrays, one entry a step, in order; NaN where a step has no such value.
    """
    records = []
    with contextlib.suppress(OSError), open(path, "rb") as file:
        records = [json.loads(line) for line, kept in _kept(file, math.inf) if kept]
    names = dict.fromkeys(name for record in records for name in record)
    return {
        name: np.array([_number(record.get(name)) for record in records], np.float64)
        for name in names
    }


def _number(value):
    return math.nan if value is None else value


def _step_of(line):
    """The step of a whole line, with its end or without, else None."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
