"""The progress line of a run."""

import collections
import contextlib
import math
import os
import shutil
import sys
import time as clock


class Progress:
    """Shows the progress of a run: a moving line on a terminal, otherwise a line now and then.

    Args:
        total_steps: int, the steps of the whole run.
        images_per_step: int.
        start_step: int, the step at which this process starts.
        stream: text stream.
        every: float, the seconds between two lines if the stream is not a terminal.
        window: float, the seconds over which `images_per_second` is measured.
        work: function that returns the work of all steps up to a step, in any unit. With None all
            steps take equally long.
        unit: str, the word for a step.
    """

    def __init__(
        self,
        total_steps,
        images_per_step,
        start_step=0,
        stream=None,
        every=30.0,
        window=30.0,
        work=None,
        unit="step",
    ):
        self.total_steps = total_steps
        self.images_per_step = images_per_step
        self._stream = sys.stderr if stream is None else stream
        self._moving = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._every = 0.1 if self._moving else every
        self._window = window
        self._work = work or (lambda step: step)
        self._unit = unit
        self._step, self._terms = start_step, {}
        self._points = collections.deque()  # (time in seconds, step) of updates, the oldest first
        self._shown_at, self._shown_step, self._bar = -math.inf, None, False

    def update(self, step, terms):
        """Records the number of finished steps, and shows it when it is time.

        Args:
            step: int, the number of finished steps.
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
        """The images trained per second in the last `window`; NaN before the second update.

        The time before the first update, with the start and the compilation, does not count.
        """
        return self._rate(self._window) * self.images_per_step

    @property
    def eta_seconds(self):
        """The seconds to the end; NaN if not known.

        They are estimated from the last ten windows, so that validations count too.
        """
        rate = self._rate(10 * self._window, self._work)
        left = self._work(self.total_steps) - self._work(self._step)
        return left / rate if rate else math.nan

    def message(self, text):
        """Prints a text on a separate line."""
        self._write(f"\r\x1b[K{text}\n" if self._bar else f"{text}\n")
        if self._bar:
            self._show()

    def close(self):
        """Shows the last state if it was not shown yet, and ends the line."""
        if self._terms and self._shown_step != self._step:
            self._show()
        if self._bar:
            self._write("\n")
            self._bar = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _rate(self, window, work=lambda step: step):
        """Returns the steps per second, or their work per second."""
        if len(self._points) < 2:
            return math.nan
        now, step = self._points[-1]
        inside = (p for p in self._points if p[0] >= now - window)
        first = next(inside)
        if first[0] == now:  # one step takes longer than the window
            first = self._points[-2]
        return (work(step) - work(first[1])) / max(now - first[0], 1e-9)

    def _show(self):
        self._shown_at, self._shown_step = clock.monotonic(), self._step
        share = self._step / max(self.total_steps, 1)
        parts = [f"{self._unit} {self._step:,}/{self.total_steps:,} ({share:.0%})"]
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
    """Writes a duration as `1:02:03` or `2:03`, or as `?` if it is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
