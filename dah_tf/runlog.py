"""What a run leaves to see: `metrics.jsonl`, TensorBoard events, a progress line, example pictures.

No TensorFlow: events are written with the `tensorboard` package alone, and where that is not
installed only `metrics.jsonl` is written. Every record goes to the file in one write; a write
that fails (disk full) is undone, so that files always parse, and its `OSError` is raised.
"""

import collections
import contextlib
import errno
import fcntl
import io
import json
import math
import os
import pathlib
import re
import shutil
import socket
import sys
import time as clock

import numpy as np
from PIL import Image

from dah_tf.errors import UserError

VERMILION = (
    213,
    94,
    0,
)  # Okabe & Ito: told from black, white and each other by every eye


class Lock:
    """Holds a run's folder for this process, until `close` or the process' end, even by kill -9.

    Args:
        workdir: path of the folder; made if missing.

    Raises:
        UserError: another process trains there, or the folder cannot be written.
    """

    def __init__(self, workdir):
        path = pathlib.Path(workdir) / ".lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+")
        except OSError as error:
            raise UserError(f"cannot write to --workdir={workdir}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            pid = self._file.read().strip() or "unknown"
            self._file.close()
            raise UserError(
                f"{workdir} is already being trained (pid {pid}); wait for it, stop it, or name "
                "another --workdir"
            ) from None
        except OSError as error:
            # Some network file systems have no locks: better to train without than not at all.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only the name is missing
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n")
            self._file.flush()

    def close(self):
        """Gives the folder free. The file stays: deleting it would race with the next owner."""
        with contextlib.suppress(OSError):
            self._file.close()


class RunLog:
    """The logs of one run.

    Args:
        workdir: path of the run's folder.
        resume_step: int, the step that training goes on from: records of later steps, and half a
            last line, are dropped. None starts the logs afresh.
        lock: `Lock` of `workdir` that the caller holds and closes; None takes one of its own.

    Raises:
        UserError: another process trains there, or the folder cannot be written.
    """

    def __init__(self, workdir, resume_step=None, lock=None):
        self._own_lock = None if lock else Lock(workdir)
        self._events = None
        self._step = resume_step or 0
        try:
            path = pathlib.Path(workdir) / "metrics.jsonl"
            cut_back(path, -1 if resume_step is None else resume_step)
            self._lines = _Appender(path)
            with contextlib.suppress(ImportError):
                self._events = _Events(workdir, 0 if resume_step is None else resume_step + 1)
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
            OSError: the line could not be written; the lines before it stand.
        """
        time = clock.time() if time is None else time
        record = {"step": int(step), "time": round(time, 3)}
        for name, value in values.items():
            record[name] = float(value) if math.isfinite(value) else None
        self._lines.write((json.dumps(record, allow_nan=False) + "\n").encode())
        self.tensorboard(step, values, time)

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
            if self._events:
                self._events.file.sync()

    def close(self):
        """Closes the files and gives the folder free."""
        self._lines.close()
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

    The file is replaced in one rename, and only where something is to be dropped.

    Args:
        path: path of the file; it may be missing.
        step: int, the last step to keep.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if not path.exists():
        return
    dropped, last = False, -1
    try:
        with open(path, "rb") as old, open(temporary, "wb") as new:
            for line in old:
                found = _step_of(line)
                if found is not None and last < found <= step:
                    new.write(line)
                    last = found
                else:
                    dropped = True
            new.flush()
            os.fsync(new.fileno())
        if dropped:
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _step_of(line):
    """The step of a whole line, else None."""
    try:
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None


def _sync_folder(folder):
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Appender:
    """A file that grows by whole records: a write that fails leaves it as it was before."""

    def __init__(self, path):
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._size = os.fstat(self._handle).st_size

    def write(self, record):
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except BaseException:
            os.ftruncate(self._handle, self._size)
            raise
        self._size += len(record)

    def sync(self):
        os.fsync(self._handle)

    def close(self):
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class _Events:
    """A TensorBoard event file, written synchronously and without TensorFlow.

    `EventFileWriter` would import TensorFlow where it is installed, and tells of a full disk from
    a thread of its own, too late to name the step.

    Args:
        workdir: path of the folder.
        first_step: int, events of this and later steps in older files of the folder are void.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, workdir, first_step):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._proto = event_pb2, summary_pb2
        # Readers take files in the order of their names, which begin with the second.
        pattern = re.compile(r"events\.out\.tfevents\.(\d+)\.")
        found = [pattern.match(name) for name in os.listdir(workdir)]
        seconds = max([int(clock.time()), *(int(m[1]) + 1 for m in found if m)])
        name = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}.0"
        self.file = _Appender(pathlib.Path(workdir) / name)
        self._writer = RecordWriter(self.file)
        self._add(clock.time(), file_version="brain.Event:2")
        if any(found):
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(clock.time(), step=first_step, session_log=start)

    def scalars(self, step, values, time):
        self._summary(
            step,
            [
                self._proto.Summary.Value(tag=name, simple_value=float(value))
                for name, value in values.items()
                if math.isfinite(value)
            ],
            time,
        )

    def histogram(self, step, name, values):
        counts, edges = np.histogram(values, bins=30)
        histogram = self._proto.HistogramProto(
            min=values.min(),
            max=values.max(),
            num=values.size,
            sum=values.sum(),
            sum_squares=np.square(values).sum(),
            bucket_limit=edges[1:],
            bucket=counts,
        )
        self._summary(step, [self._proto.Summary.Value(tag=name, histo=histogram)])

    def image(self, step, name, pixels):
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        picture = self._proto.Summary.Image(
            height=pixels.shape[0],
            width=pixels.shape[1],
            colorspace=3,
            encoded_image_string=png.getvalue(),
        )
        self._summary(step, [self._proto.Summary.Value(tag=name, image=picture)])

    def hparams(self, flags, ended):
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        now = clock.time()
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=now)
        for name, value in flags.items():
            shown = start.hparams[name]
            if isinstance(value, bool):
                shown.bool_value = value
            elif isinstance(value, int | float):
                shown.number_value = value
            else:
                shown.string_value = str(value)
        infos = {
            metadata.SESSION_START_INFO_TAG: plugin_data_pb2.HParamsPluginData(
                session_start_info=start
            )
        }
        if ended:
            end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=now)
            infos[metadata.SESSION_END_INFO_TAG] = plugin_data_pb2.HParamsPluginData(
                session_end_info=end
            )
        self._summary(
            0,
            [
                self._proto.Summary.Value(
                    tag=tag,
                    metadata=metadata.create_summary_metadata(info),
                    tensor=metadata.NULL_TENSOR,
                )
                for tag, info in infos.items()
            ],
        )

    def _summary(self, step, values, time=None):
        if values:
            summary = self._proto.Summary(value=values)
            self._add(clock.time() if time is None else time, step=int(step), summary=summary)

    def _add(self, time, **content):
        event = self._event.Event(wall_time=time, **content)
        self._writer.write(event.SerializeToString())


class Progress:
    """Tells how far a run is: one moving line on a terminal, else a plain line now and then.

    Args:
        total_steps: int, steps of the whole run.
        images_per_step: int.
        start_step: int, the step that this process begins at.
        stream: text stream.
        every: float, seconds between plain lines.
        window: float, seconds over which `images_per_second` is measured.
    """

    def __init__(
        self,
        total_steps,
        images_per_step,
        start_step=0,
        stream=None,
        every=30.0,
        window=30.0,
    ):
        self.total_steps = total_steps
        self.images_per_step = images_per_step
        self._stream = sys.stderr if stream is None else stream
        self._moving = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._every = 0.1 if self._moving else every
        self._window = window
        self._step, self._terms = start_step, {}
        self._points = collections.deque()  # (second, step) of updates, the oldest first
        self._shown_at, self._shown_step, self._bar = -math.inf, None, False

    def update(self, step, terms):
        """Takes note of `step` optimiser steps done, and shows them when it is time.

        Args:
            step: int.
            terms: dict of name to number, shown after the speed.
        """
        now = clock.monotonic()
        self._step, self._terms = step, terms
        points = self._points
        if len(points) > 1 and points[-1][0] - points[-2][0] < self._window / 100:
            points.pop()
        points.append((now, step))
        while len(points) > 2 and points[1][0] < now - 10 * self._window:
            points.popleft()
        if now - self._shown_at >= self._every or step >= self.total_steps:
            self._show()

    @property
    def images_per_second(self):
        """Images trained a second, lately; NaN before the second update.

        What precedes the first update (start, compilation) does not count.
        """
        return self._rate(self._window) * self.images_per_step

    @property
    def eta_seconds(self):
        """Seconds to the end, from ten windows (so with validation in it); NaN if not known."""
        rate = self._rate(10 * self._window)
        return (self.total_steps - self._step) / rate if rate else math.nan

    def message(self, text):
        """Prints a line of its own."""
        self._write(f"\r\x1b[K{text}\n" if self._bar else f"{text}\n")
        if self._bar:
            self._show()

    def close(self):
        """Shows the last state, once, and ends the line."""
        if self._terms and self._shown_step != self._step:
            self._show()
        if self._bar:
            self._write("\n")
            self._bar = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _rate(self, window):
        """Steps a second."""
        if len(self._points) < 2:
            return math.nan
        now, step = self._points[-1]
        inside = (p for p in self._points if p[0] >= now - window)
        first = next(inside)
        if first[0] == now:  # one step takes longer than the window
            first = self._points[-2]
        return (step - first[1]) / max(now - first[0], 1e-9)

    def _show(self):
        self._shown_at, self._shown_step = clock.monotonic(), self._step
        share = self._step / max(self.total_steps, 1)
        parts = [f"step {self._step:,}/{self.total_steps:,} ({share:.0%})"]
        if len(self._points) > 1:
            parts.append(f"{self.images_per_second:,.0f} images/s")
            parts.append(f"ETA {duration(self.eta_seconds)}")
        parts += [f"{name} {value:.4g}" for name, value in self._terms.items()]
        line = "  ".join(parts)
        if not self._moving:
            self._write(f"{line}\n")
            return
        done = min(round(20 * share), 20)
        columns = shutil.get_terminal_size().columns
        with contextlib.suppress(OSError, ValueError):
            columns = os.get_terminal_size(self._stream.fileno()).columns or columns
        line = f"[{'#' * done}{'.' * (20 - done)}] {line}"
        self._bar = True
        self._write(f"\r{line[: max(columns - 1, 10)]}\x1b[K")

    def _write(self, text):
        # A terminal that was closed must not end the run.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def duration(seconds):
    """`1:02:03`, `2:03`, or `?` where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def example_sheet(query_images, neighbour_images, relevant):
    """A picture of retrievals: each row a query and what was found for it, wrong ones framed.

    Args:
        query_images: uint8 `[queries, height, width, 1 or 3]`.
        neighbour_images: uint8 `[queries, neighbours, height, width, 1 or 3]`, nearest first.
        relevant: bool `[queries, neighbours]`.

    Returns:
        uint8 `[sheet height, sheet width, 3]`.
    """
    height, width = query_images.shape[1:3]
    scale = max(1, math.ceil(64 / max(height, width)))
    frame, gap = 4, 6
    cell = np.array([height * scale, width * scale]) + 2 * frame
    columns = neighbour_images.shape[1]
    shape = [len(query_images), columns + 1] * (cell + gap) + gap
    shape[1] += 2 * gap  # sets the queries apart
    sheet = np.full((*shape, 3), 255, np.uint8)

    def place(row, column, image, color):
        top, left = [row, column] * (cell + gap) + gap
        left += 2 * gap if column else 0
        sheet[top : top + cell[0], left : left + cell[1]] = color
        big = image.repeat(scale, axis=0).repeat(scale, axis=1)
        inside = np.s_[top + frame : top + cell[0] - frame, left + frame : left + cell[1] - frame]
        sheet[inside] = big

    for row, query in enumerate(query_images):
        place(row, 0, query, 255)
        for column, (image, right) in enumerate(
            zip(neighbour_images[row], relevant[row], strict=True), 1
        ):
            place(row, column, image, 255 if right else VERMILION)
    return sheet
