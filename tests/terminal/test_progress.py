"""The progress line: its speed and time to go by hand, in a pipe and on a real terminal."""

import io
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from dah_tf.terminal import progress

ROOT = pathlib.Path(__file__).parents[2]


class Clock:
    """Stands for the module `time`."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress, "clock", types.SimpleNamespace(monotonic=lambda: self.now))


def test_speed_leaves_out_compilation(monkeypatch):
    clock = Clock(monkeypatch)
    shown = progress.Progress(1000, 20, start_step=500, stream=io.StringIO())
    assert np.isnan(shown.images_per_second) and np.isnan(shown.eta_seconds)
    clock.now += 90  # compilation
    shown.update(501, {"loss": 1})
    assert np.isnan(shown.images_per_second)
    for step in range(502, 601):
        clock.now += 0.5
        shown.update(step, {"loss": 1})
    # 2 steps of 20 images a second; 400 steps to go
    assert shown.images_per_second == pytest.approx(40)
    assert shown.eta_seconds == pytest.approx(200)
    for step in range(601, 701):
        clock.now += 1.0
        shown.update(step, {"loss": 1})
    # the last 30 s ran at 1 step a second; over all, 199 steps took 49.5 + 100 s, 300 to go
    assert shown.images_per_second == pytest.approx(20)
    assert shown.eta_seconds == pytest.approx(300 * 149.5 / 199)


def test_time_to_go_follows_the_work(monkeypatch):
    clock = Clock(monkeypatch)
    # Steps beyond 100 take four times as long: 50 + 4 * 100 units to go at 1 unit a second.
    shown = progress.Progress(
        200, 20, stream=io.StringIO(), work=lambda step: step + 3 * max(step - 100, 0)
    )
    for step in range(1, 51):
        clock.now += 1.0
        shown.update(step, {"loss": 1})
    assert shown.eta_seconds == pytest.approx(450)


def test_speed_of_steps_longer_than_the_window(monkeypatch):
    clock = Clock(monkeypatch)
    shown = progress.Progress(10, 50, stream=io.StringIO())
    for step in (1, 2, 3):
        shown.update(step, {})
        clock.now += 100
    assert shown.images_per_second == pytest.approx(0.5)


def test_plain_lines_in_a_pipe(monkeypatch):
    clock = Clock(monkeypatch)
    stream = io.StringIO()
    with progress.Progress(2000, 20, stream=stream) as shown:
        for step in range(1, 1001):
            clock.now += 0.1
            shown.update(step, {"loss": 1 / step, "accuracy": 0.5})
            if step == 500:
                shown.message("step 500: saved")
    text = stream.getvalue()
    assert "\r" not in text and "\x1b" not in text
    # at once, then every 30 s of the 100, the message, and the end
    shown_steps = [line.split()[1] for line in text.splitlines()]
    assert shown_steps == ["1/2,000", "302/2,000", "500:", "603/2,000", "904/2,000", "1,000/2,000"]
    assert text.splitlines()[-1] == (
        "step 1,000/2,000 (50%)  200 images/s  ETA 1:40  loss 0.001  accuracy 0.5"
    )


def test_bar_on_a_terminal():
    # A real one: the bar rewrites its line and never grows past the terminal's width.
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    code = """
import types
from dah_tf.terminal import progress
seconds = 0.0
progress.clock = types.SimpleNamespace(monotonic=lambda: seconds)
shown = progress.Progress(40, 20)
for step in range(1, 41):
    seconds += 0.01
    shown.update(step, {"loss": 1.5, "w1_similar": 0.1, "w1_dissimilar": 0.2})
    if step == 20:
        shown.message("a line of its own")
shown.close()
"""
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=theirs, env=environment
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux' end of file of a terminal
            break
        if not part:
            break
        text += part
    os.close(ours)
    process.wait()
    assert process.returncode == 0
    text = text.decode()
    assert text.count("\n") == 2  # the message, the end
    assert "\r\x1b[Ka line of its own\r\n" in text
    bars = [part.split("\x1b[K")[0] for part in text.split("\r") if part.startswith("[")]
    assert 3 <= len(bars) < 20  # throttled
    assert all(len(bar) <= 59 for bar in bars)
    assert bars[-1].startswith(f"[{'#' * 20}] step 40/40 (100%)")


def test_closed_terminal_does_not_end_the_run():
    stream = io.StringIO()
    shown = progress.Progress(10, 20, stream=stream)
    stream.close()
    shown.update(1, {"loss": 1})
    shown.message("nobody reads this")
    shown.close()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01"), (float("nan"), "?")],
)
def test_duration(seconds, text):
    assert progress.duration(seconds) == text
