"""The logs of a run: `metrics.jsonl`, TensorBoard events, and example pictures.

The `tensorboard` package writes the events, without TensorFlow. If it is not installed, only
`metrics.jsonl` is written. Each record is one write. If a write fails, for example on a full disk,
it is undone, so that the files can always be read, and its `OSError` is raised.
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
    """Locks a run's folder for this process until `close` or its end, even by kill -9.

    Args:
        workdir: path of the folder. It is made if it is missing.

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
            # Some network file systems have no locks. Training goes on without a lock there.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise UserError(f"cannot write to workdir={workdir}: {error.strerror}") from error


class RunLog:
    """The logs of one run.

    Args:
        workdir: path of the run's folder.
        resume_step: int, the step from which the training continues. Records of later steps and
            an incomplete last line are dropped. None starts new logs.
        lock: `Lock` of `workdir` that the caller holds and closes. With None the log makes its own.

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
            step: int, larger than all steps before.
            values: dict of name to number. A number that is not finite becomes `null` in the line
                and is not sent to TensorBoard.
            time: float, seconds since the epoch; None is now.

        Raises:
            OSError: the line or its events could not be written. Earlier records are not affected.
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
        """Logs to TensorBoard only, for values that are not known at every step."""
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
        """Logs the flags and the results for the HParams page of TensorBoard.

        Args:
            flags: dict. Values other than numbers, booleans and strings are shown as text.
            metrics: dict of name to number. It is empty at the start of a run. At the end its
                values are logged as scalars `hparam/NAME`, and the run is marked as finished.
        """
        if self._events:
            self.tensorboard(self._step, {f"hparam/{k}": v for k, v in metrics.items()})
            self._events.hparams(flags, ended=bool(metrics))

    def flush(self, fsync=False):
        """With `fsync`, makes everything that was logged survive a loss of power.

        A killed process loses nothing in either case, because no record waits in memory.
        """
        if fsync:
            self._lines.sync()
            self._validations.sync()
            if self._events:
                self._events.file.sync()

    def close(self):
        """Closes the files and unlocks the folder."""
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
    """Drops the lines of a `metrics.jsonl` that are later than `step`, damaged or repeated.

    If a line has to be dropped, the file is replaced in one rename. Otherwise it does not change.

    Args:
        path: path of the file. It may be missing.
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
    """Yields each line with what is kept of it: the whole line with a line end, or nothing."""
    last = -1
    for line in lines:
        found = _step_of(line)
        if found is not None and last < found <= step:
            last = found
            yield line, line.rstrip(b"\n") + b"\n"
        else:
            yield line, b""


def last_record(path, step=None):
    """Returns the last record of a `metrics.jsonl`, or the last one up to a step.

    Its `seconds` is the time of all steps so far, over all parts of the run. If a part was killed,
    the steps after its last checkpoint do not count, because they were undone.

    Args:
        path: path of the file.
        step: int, or None for the end of the file, which is found without reading the rest.

    Returns:
        Dict. It is empty if there is no file or no complete line.
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
    """Returns all values of a `metrics.jsonl` by their names.

    Returns:
        Dict of float64 arrays with one entry for each step, in order. An entry is NaN if the step
        has no such value.
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
    """Returns the step of a complete line, with or without a line end; otherwise None."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
