"""The report command: which runs it finds, what it writes and leaves alone."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from report_runs import result, store

from dah_tf import reporting
from dah_tf.errors import UserError
from dah_tf.reporting import canvas, collection

ROOT = pathlib.Path(__file__).parents[2]


def test_finding(tmp_path):
    run = store(tmp_path / "deep" / "run", result())
    (tmp_path / "copy.json").write_text((run / "evaluation.json").read_text())
    (tmp_path / "other.json").write_text('{"no": "result"}')
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "flags.json").write_text("{}")
    store(tmp_path / ".hidden", result(99))
    store(tmp_path / "1" / "2" / "3", result(98))
    runs, problems = collection.find([str(tmp_path), str(run), str(run / "evaluation.json")])
    assert [(r.path, r.folder) for r in runs] == [(run / "evaluation.json", run)]
    assert "begun has not been evaluated" in problems[0]
    assert "copy.json is a copy of" in problems[1] and len(problems) == 2


def test_flags_from_the_folder(tmp_path):
    run = store(tmp_path / "run", result(run={}))
    (run / "flags.json").write_text(json.dumps({"flags": {"backbone": "compact", "seed": 3}}))
    [found], _ = collection.find([str(run)])
    assert (found.method, found.seed) == ("compact", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("{", "is damaged"),
        ('{"x": 1}', "is not a result"),
        ("[" * 100_000, "is damaged"),
        ("\xff\xfe", "is not a result|is damaged"),
    ],
)
def test_nothing_to_report(tmp_path, content, message):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        reporting.write([str(path)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_earlier_report_is_replaced(tmp_path):
    store(tmp_path / "run", result())
    out = tmp_path / "out"
    bare = store(tmp_path / "bare", {"map": {"expected": 0.5}})
    reporting.write([str(tmp_path / "run")], out)
    (out / "mine.txt").write_text("kept")
    assert (out / "1-cifar10-full-top-n.png").exists()
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    reporting.write([str(tmp_path / "run")], out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    reporting.write([str(bare)], out)
    assert {path.name for path in out.iterdir()} == {"mine.txt", "report.html", "report.md"}


def test_failure_leaves_the_old_report(tmp_path, monkeypatch):
    run = store(tmp_path / "run", {"map": {"expected": 0.5}})
    reporting.write([str(run)], tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(UserError, match="cannot write to .*No space left"):
        reporting.write([str(run)], tmp_path / "out")
    with pytest.raises(UserError, match="No space left"):
        reporting.write([str(run)], tmp_path / "new")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}


def test_foreign_files_are_not_overwritten(tmp_path):
    run = store(tmp_path / "run", {"map": {"expected": 0.5}})
    (run / "report.md").write_text("# Mine")
    with pytest.raises(UserError, match="not from an earlier report"):
        reporting.write([str(run)], run)


def test_matplotlib_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'dah_tf\[report\]'"):
        canvas.check()


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "dah_tf.report", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_command(tmp_path):
    store(tmp_path / "runs" / "good", {"map": {"expected": 0.5}})
    store(tmp_path / "runs" / "bad", {})
    done = command(tmp_path / "runs", f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"1 run is shown in {tmp_path / 'out'}/report.html\n"
    assert re.fullmatch(r"warning: .*bad/evaluation.json is not a result: .*\n", done.stderr)
    assert sorted(os.listdir(tmp_path)) == ["out", "runs"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=OUT"], "name the runs"),
        (["RUNS"], "name the report's folder"),
        (["RUNS", "--output=OUT"], "no run to report"),
        (["RUNS/none", "--output=OUT"], "does not exist"),
        (["RUNS", "--output=RUNS/file"], "is a file"),
        (["RUNS", "--output=RUNS/file/below"], "cannot write"),
        (["RUNS", "--wrong=1"], "wrong"),
    ],
)
def test_command_fails_in_one_line(tmp_path, arguments, message):
    (tmp_path / "file").write_text("{")
    given = [
        a.replace("RUNS", str(tmp_path)).replace("OUT", str(tmp_path / "o")) for a in arguments
    ]
    done = command(*given)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert os.listdir(tmp_path) == ["file"]


def test_help_starts_without_frameworks():
    code = (
        "import runpy, sys\nsys.argv[1:] = ['--help']\n"
        "runpy.run_module('dah_tf.report', run_name='__main__', alter_sys=True)\n"
        "sys.exit(bool({'tensorflow', 'keras', 'jax', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "--output" in done.stdout
