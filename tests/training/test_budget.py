"""The length of a run that is given in minutes."""

import json
import os
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import dah_tf
from dah_tf.errors import UserError
from dah_tf.runs.recipe import Recipe
from dah_tf.training import budget

COSTS = budget.Costs(
    step={(24, True): 0.5, (24, False): 1.0, (32, False): 2.0},
    first={(24, True): 5.0, (24, False): 10.0, (32, False): 20.0},
    image=0.01,
    pair=1e-4,
    fixed=30.0,
)


def test_costs_add_up():
    # There are 3 frozen steps, and 5 and 2 others. Each kind is compiled once, 32 px too.
    phases = [(0, 3, 24, True), (3, 8, 24, False), (8, 9, 32, False), (9, 10, 32, False)]
    assert COSTS.training(phases) == pytest.approx(3 * 0.5 + 5 + 2 * 2 + 5 + 10 + 20)
    # A kind of step that does not occur is not compiled.
    assert COSTS.training([(0, 0, 24, True), (0, 2, 24, False)]) == pytest.approx(2 + 10)
    # 20 queries and 80 items are 100 images at 0.01 s and 1,600 pairs at 0.1 ms.
    assert COSTS.ranking(20, 80) == pytest.approx(1.0 + 0.16)


def run_of(epochs, **changes):
    recipe = Recipe(
        epochs=epochs,
        minutes=5.0,
        train_sizes="24:0.5,32:0.5",
        freeze_epochs=0.0,
        validate_epochs=3.0,
        **changes,
    )
    dataset = types.SimpleNamespace(images=types.SimpleNamespace(size=32))
    protocol = types.SimpleNamespace(
        train=np.arange(900), validation=np.arange(20), query=np.arange(50), database=np.arange(950)
    )
    plan = types.SimpleNamespace(steps_per_epoch=10)
    return budget.seconds_of(recipe, dataset, protocol, plan, COSTS)


def test_a_run_costs_what_its_parts_cost():
    # 7 epochs are 70 steps, half of them at 24 px. Validations follow epochs 3, 6 and 7.
    training = 35 * 1.0 + 35 * 2.0 + 10 + 20
    validation = 3 * (920 * 0.01 + 20 * 900 * 1e-4)
    evaluation = 1000 * 0.01 + 50 * 950 * 1e-4
    assert run_of(7.0) == pytest.approx(30 + training + validation + evaluation)
    assert run_of(7.0, evaluate=False) == pytest.approx(30 + training + validation)


@pytest.mark.parametrize("minutes", [1.0, 5.0, 30.0, 600.0])
def test_the_longest_run_that_ends_in_time(minutes):
    def seconds(epochs):
        return 20 + 7.3 * epochs

    found = budget.longest(minutes, time.monotonic(), seconds)
    assert seconds(found) <= budget.AIM * 60 * minutes < seconds(found + 0.11) + 1
    # Ten seconds have passed already.
    later = budget.longest(minutes, time.monotonic() - 10, seconds)
    assert later == pytest.approx(found - 10 / 7.3, abs=0.15)


def test_too_few_minutes_say_how_many_are_needed():
    # The shortest run takes 120 s, and 60 s have passed. Divided by 0.97, this is 3.1 minutes.
    with pytest.raises(UserError, match=r"minutes=2 is too short: .* takes about 3\.1 minutes"):
        budget.longest(2.0, time.monotonic() - 60, lambda epochs: 120.0)


def timed(monkeypatch, durations, window):
    """Runs a timer over steps of `durations`. Returns the steps after which it wrote the log."""
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    timer = budget._Timer(window)
    timer.run = types.SimpleNamespace(settings=types.SimpleNamespace(log_steps=1), stop_asked=False)
    pending = []
    for step, duration in enumerate(durations, 1):
        now[0] += duration
        pending.append(step)
        if len(pending) >= timer.run.settings.log_steps:
            for each in pending:
                timer(each, {})
            pending = []
        if timer.run.stop_asked:
            return timer, step
    raise AssertionError("the timer never ended the rehearsal")


def test_slow_steps_are_timed_one_by_one(monkeypatch):
    timer, last = timed(monkeypatch, [30.0, 3.0, *[2.0] * 20], window=4.0)
    assert timer.first == 30.0 and timer.seconds == pytest.approx(2.0)
    assert last == 6, "three steps after the warm ones, for they take longer than the window"


def test_quick_steps_are_timed_ten_at_a_time(monkeypatch):
    timer, last = timed(monkeypatch, [5.0, 0.1, *[0.05] * 400], window=4.0)
    assert timer.seconds == pytest.approx(0.05)
    assert (last - 3) % 10 == 0 and 80 <= last - 3 <= 90


def test_minutes_and_epochs_exclude_each_other(tmp_path):
    labels = np.tile(np.arange(2), 20)
    images = np.zeros((40, 16, 16, 1), np.uint8)
    dataset = dah_tf.load_data(images=images, labels=labels)
    with pytest.raises(UserError, match="minutes and epochs exclude each other"):
        dah_tf.train(Recipe(minutes=1.0, epochs=2.0, workdir=str(tmp_path)), dataset)
    assert not (tmp_path / "flags.json").exists()


@pytest.mark.slow
def test_a_rehearsal_leaves_no_trace_in_the_run(tmp_path):
    """The losses equal those of a run with the chosen epochs, which a resumed run keeps."""

    labels = np.tile(np.arange(2), 60)
    images = np.random.default_rng(0).integers(0, 99, (120, 16, 16, 1)).astype(np.uint8)
    images += 120 * labels[:, None, None, None].astype(np.uint8)
    np.savez(tmp_path / "two.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)

    def train(folder, *arguments):
        command = [sys.executable, "-m", "dah_tf.train", f"--dataset=npz:{tmp_path / 'two.npz'}"]
        command.append("--backbone=compact:widths=8/8/8,depth=1")
        done = subprocess.run(
            [
                *command,
                "--bits=12",
                "--noexport",
                "--noevaluate",
                f"--workdir={folder}",
                *arguments,
            ],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or "is too short" in done.stderr, done.stderr
        return done.stdout

    # A busy machine needs more time for the least run.
    minutes = next(
        each
        for each in (0.4, 1.0, 3.0, 9.0)
        if (out := train(tmp_path / "timed", f"--minutes={each}")).endswith("model.keras\n")
    )
    flags = json.loads((tmp_path / "timed" / "flags.json").read_text())["flags"]
    assert f"{flags['epochs']:g} epochs" in out and "until about" in out
    metrics = (tmp_path / "timed" / "metrics.jsonl").read_text().splitlines()
    train(tmp_path / "plain", f"--epochs={flags['epochs']}")
    plain = (tmp_path / "plain" / "metrics.jsonl").read_text().splitlines()
    losses = [[json.loads(line)["loss"] for line in lines] for lines in (metrics, plain)]
    assert losses[0] == losses[1]
    again = train(tmp_path / "timed", f"--minutes={minutes}")
    assert "a rehearsal" in out and "a rehearsal" not in again
    after = json.loads((tmp_path / "timed" / "flags.json").read_text())["flags"]
    assert after == flags
