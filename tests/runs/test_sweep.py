"""Grids of runs: their cells by hand, and the command killed and resumed."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from waiting import until

from dah_tf.errors import UserError
from dah_tf.runs import grid, workspace
from dah_tf.runs.recipe import Recipe

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_cells_are_every_combination(tmp_path):
    axes = grid.axes(["bits=12,24", "protocol=full,1k/5k/59k", "train_sizes=16:0.5,32:0.5;32:1"])
    assert axes["train_sizes"] == ["16:0.5,32:0.5", "32:1"]
    found = grid.cells(axes, tmp_path)
    assert len(found) == 2 * 2 * 2
    assert found[1].settings == {"bits": "12", "protocol": "full", "train_sizes": "32:1"}
    assert found[2].folder.name == "bits-12_protocol-1k-5k-59k_train_sizes-16-0.5-32-0.5"
    assert [cell.folder.name for cell in grid.cells({}, tmp_path)] == ["run"]


@pytest.mark.parametrize("text", ["bits", "bits=", "bits=12,,24", "=3", "bits=12,12", "a b=1"])
def test_bad_grids(text):
    with pytest.raises(UserError, match="grid="):
        grid.axes([text])


def test_one_name_stands_once():
    with pytest.raises(UserError, match="is given twice"):
        grid.axes(["bits=12", "bits=24"])


def test_folders_differ(tmp_path):
    with pytest.raises(UserError, match="differ only in characters"):
        grid.cells({"dataset": ["a/b", "a:b"]}, tmp_path)


def test_parts_of_a_sweep():
    assert grid.part("0::2", 5) == [0, 2, 4]
    assert grid.part("1::2", 5) == [1, 3]
    assert grid.part(":", 3) == [0, 1, 2]
    assert grid.part("4,0", 5) == [4, 0]
    for text in ("5", "x", "0:1:2:3", "", "1:2:0"):
        with pytest.raises(UserError, match="cells="):
            grid.part(text, 5)


RECORDED = Recipe(epochs=2.0, method="dah:phi1=1.0,phi2=1.0").as_dict()


def finished(cell, value, validation):
    cell.folder.mkdir(parents=True)
    (cell.folder / "model.keras").write_text("")
    (cell.folder / "flags.json").write_text(json.dumps({"flags": RECORDED}))
    (cell.folder / "evaluation.json").write_text(json.dumps({"map": {"expected": value}}))
    line = {"step": 9, "validation_map": validation}
    (cell.folder / "validation.jsonl").write_text(json.dumps(line) + "\n")


def test_the_choice_is_by_validation_never_by_the_queries(tmp_path):
    found = grid.cells({"bits": ["12", "24"], "phi1": ["1", "2"], "seed": ["0", "1"]}, tmp_path)
    # 12 bits, phi1 = 1: validation MAP 0.5 and 0.7, mean 0.6; phi1 = 2: 0.65 and 0.65, the choice,
    # although its MAP on the queries is lower. 24 bits: only one setting is done, no choice.
    for cell, value, validation in zip(
        found, [0.9, 0.9, 0.1, 0.1, 0.5, 0.5], [0.5, 0.7, 0.65, 0.65, 0.9, 0.9], strict=False
    ):
        finished(cell, value, validation)
    (found[6].folder).mkdir()
    (found[6].folder / "flags.json").write_text("{}")
    rows = grid.summary(found)
    assert [row["chosen"] for row in rows] == [False] * 2 + [True] * 2 + [False] * 4
    assert [row["state"] for row in rows] == ["done"] * 6 + ["begun", "waiting"]
    text = grid.table(rows)
    assert "bits=12 phi1=2 seed=0         65.00 *   10.00" in text
    assert "highest validation MAP" in text
    same = Recipe(method="dah:phi1=1", data_dir="elsewhere")
    assert workspace.resumed(found[0].folder, same).data_dir == "elsewhere"
    with pytest.raises(UserError, match="other settings: method.phi1 was 1.0, now 2; use"):
        workspace.resumed(found[0].folder, Recipe(method="dah:phi1=2"))
    assert workspace.resumed(found[7].folder, same) is None


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 20)
    x = rng.integers(0, 90, (60, 16, 16, 1)) + 60 * y[:, None, None, None]
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    rows = rng.permutation(60)
    x, y = x.astype(np.uint8)[rows], y[rows]
    np.savez(path, x_train=x[:45], y_train=y[:45], x_test=x[45:], y_test=y[45:])
    return (
        f"--dataset=npz:{path} --backbone=compact --noattention --groups=1 --flip=none --shift=0 "
        "--validation=6 --validate_epochs=5 --precision=float32 --noexport --checkpoint_steps=5 "
    ).split()


def sweep(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "dah_tf.sweep", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    process = sweep("--grid=bits=8", f"--output={tmp_path / 'file' / 'x'}")
    _, err = process.communicate()
    assert process.returncode == 2 and "cannot write to --workdir=" in err
    assert err.count("\n") == 1


def test_a_dry_run_writes_nothing(tmp_path):
    (tmp_path / "x").mkdir()
    process = sweep("--grid=bits=8", f"--output={tmp_path / 'x'}", "--dry_run")
    out, _ = process.communicate()
    assert process.returncode == 0 and "waiting" in out
    assert not list((tmp_path / "x").iterdir())


@pytest.mark.slow
def test_killed_sweep_goes_on_and_skips_what_is_done(tmp_path, arguments):
    output = tmp_path / "sweep"
    long = [*arguments, "--epochs=16", "--grid=bits=8,12", f"--output={output}"]
    first = output / "bits-8"
    process = sweep(*long)
    until(lambda: list(first.glob("checkpoints/*")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # The run ends with its sweep: its folder is given free, its state saved.
    until(lambda: not grid.is_busy(grid.Cell({}, first)))
    process = sweep(*long)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "run 2 of 2 (bits=12) is being trained" in out
    rows = json.loads((output / "sweep.json").read_text())
    assert [row["state"] for row in rows] == ["done", "done"]
    assert "resumes at step" in (first / "train.log").read_text()
    steps = [json.loads(line)["step"] for line in (first / "metrics.jsonl").open()]
    assert steps == list(range(1, len(steps) + 1))
    made = (first / "model.keras").stat().st_mtime_ns
    process = sweep(*long)
    out, err = process.communicate()
    assert process.returncode == 0 and out.count("done before") == 2
    assert (first / "model.keras").stat().st_mtime_ns == made
    process = sweep(*long, "--phi1=0.25")
    _, err = process.communicate()
    assert process.returncode == 2 and "method.phi1 was 0.5, now 0.25" in err
    # A flag that is left out means the recipe's value, which may be another.
    process = sweep(*(each for each in long if each != "--shift=0"))
    _, err = process.communicate()
    assert process.returncode == 2 and "shift was 0, now left out" in err


@pytest.mark.slow
def test_a_search_sees_no_query_and_a_failed_run_does_not_stop_the_others(tmp_path, arguments):
    grids = ["--grid=protocol=1k/5k/59k,full", "--cells=0,1", f"--output={tmp_path}"]
    cell = grid.Cell({}, tmp_path / "protocol-full")

    def swept(*more):
        process = sweep(*arguments, "--epochs=1", *grids, *more)
        out, err = process.communicate()
        assert process.returncode == 1
        assert "run 1 of 2 (protocol=1k/5k/59k) failed" in out
        assert "failed: protocol=1k/5k/59k" in err
        rows = json.loads((tmp_path / "sweep.json").read_text())
        return out, [(row["state"], row["map"]) for row in rows]

    out, found = swept()
    assert "searches for settings" in out and "  MAP" not in out.replace("validation MAP", "")
    assert found[1] == ("done", None)
    assert not (cell.folder / "evaluation.json").exists()
    steps = (cell.folder / "metrics.jsonl").read_bytes()
    # The same run goes on to its evaluation.
    out, found = swept("--final")
    assert found[1][0] == "done" and 0 <= found[1][1] <= 1 and grid.is_done(cell)
    assert f"{100 * found[1][1]:.2f}" in out
    assert (cell.folder / "metrics.jsonl").read_bytes() == steps
    # A result that is there already is not shown by a later search either.
    assert swept()[1][1] == ("done", None)


def test_what_a_search_is():
    assert not grid.searches(grid.axes(["bits=12,24", "seed=0,1"])) and not grid.searches({})
    assert grid.searches(grid.axes(["bits=12,24", "method=ce,dpsh"]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--grid=bits=12"], "--output=DIR"),
        (["--grid=bits=12", "--output=x", "--workdir=y"], "give output in place of --workdir"),
        (["--grid=colour=red", "--output=x"], "no such flag"),
        (["--grid=bits=many", "--output=x"], "--grid=bits:"),
        (["--grid=workdir=a,b", "--output=x"], "no such flag"),
        (["--output=x", "--cells=7"], "--cells=7"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(tmp_path, flags, message):
    process = subprocess.run(
        [sys.executable, "-m", "dah_tf.sweep", *flags],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert message in process.stderr and process.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
