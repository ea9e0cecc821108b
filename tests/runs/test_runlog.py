"""Logs read back by other readers: json, and TensorBoard's own event reader."""

import io
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from PIL import Image
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from dah_tf.errors import UserError
from dah_tf.runs import runlog

ROOT = pathlib.Path(__file__).parents[2]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def steps(folder):
    return [record["step"] for record in lines(folder)]


def events(folder):
    """TensorBoard's reader over the whole folder, every event kept."""
    keep = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=keep).Reload()


def event_steps(folder, tag="loss"):
    return [event.step for event in events(folder).Scalars(tag)]


def child(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_everything_is_read_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, [5, 7, 3], np.uint8)
    with runlog.RunLog(tmp_path) as log:
        log.scalars(1, {"loss": 1.5, "w1": np.float32(0.25)}, time=1000.0)
        log.scalars(2, {"loss": 0.5, "w1": float("nan")}, time=1001.0)
        log.tensorboard(2, {"learning_rate": 0.125})
        log.histogram(2, "bits", np.array([[0.0, 0.5], [0.5, 1.0]]))
        log.image(2, "examples", picture)
        log.flush(fsync=True)
    assert lines(tmp_path) == [
        {"step": 1, "time": 1000.0, "seconds": 0.0, "loss": 1.5, "w1": 0.25},
        {"step": 2, "time": 1001.0, "seconds": 0.0, "loss": 0.5, "w1": None},
    ]
    read = events(tmp_path)
    found = [(e.step, e.wall_time, e.value) for e in read.Scalars("loss")]
    assert found == [(1, 1000.0, 1.5), (2, 1001.0, 0.5)]
    assert [e.value for e in read.Scalars("w1")] == [0.25]
    assert [(e.step, e.value) for e in read.Scalars("learning_rate")] == [(2, 0.125)]
    bits = read.Histograms("bits")[0].histogram_value
    # 0, 1/2, 1/2, 1: four values, sum 2, sum of squares 0 + 1/4 + 1/4 + 1 = 1.5
    assert (bits.min, bits.max, bits.num, bits.sum, bits.sum_squares) == (0, 1, 4, 2, 1.5)
    assert sum(bits.bucket) == 4 and len(bits.bucket) == len(bits.bucket_limit)
    image = read.Images("examples")[0]
    assert (image.step, image.height, image.width) == (2, 5, 7)
    assert np.array_equal(Image.open(io.BytesIO(image.encoded_image_string)), picture)


def served(folder):
    """What the TensorBoard server reads from a folder of runs, and a request to ask it with."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder)).Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    return provider, context.RequestContext()


def test_hparams_page(tmp_path):
    # Asked as the browser asks: through the plugin's own request handler.
    flags = {"bits": 36, "flip": "random", "export": True, "t": None, "data": "dat\udce9"}
    with runlog.RunLog(tmp_path / "killed") as log:
        log.hparams(flags, {})
    with runlog.RunLog(tmp_path / "done") as log:
        log.hparams(flags, {})
        log.scalars(7, {"loss": 1.0})
        log.hparams(flags, {"map": 0.75})
    provider, request = served(tmp_path)
    plugin = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    experiment = plugin.experiment_from_metadata(
        request, "", True, plugin.hparams_metadata(request, ""), []
    )
    assert {info.name for info in experiment.hparam_infos} == set(flags)
    assert "hparam/map" in {info.name.tag for info in experiment.metric_infos}
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING],
    )
    answer = list_session_groups.Handler(request, plugin, "", asked).run()
    sessions = {s.name: s for group in answer.session_groups for s in group.sessions}
    assert set(sessions) == {"killed", "done"}
    assert sessions["done"].status == api_pb2.STATUS_SUCCESS
    assert sessions["killed"].status != api_pb2.STATUS_SUCCESS
    metrics = {value.name.tag: value.value for value in sessions["done"].metric_values}
    assert metrics["hparam/map"] == 0.75
    for group in answer.session_groups:
        shown = {name: getattr(v, v.WhichOneof("kind")) for name, v in group.hparams.items()}
        assert shown.pop("data") == "dat?"
        assert shown == {"bits": 36, "flip": "random", "export": True, "t": "None"}


def test_resume_cuts_both_logs_back(tmp_path):
    with runlog.RunLog(tmp_path, resume_step=0) as log:
        for step in range(1, 9):
            log.scalars(step, {"loss": step})
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 9, "ti')
    with runlog.RunLog(tmp_path, resume_step=5) as log:
        assert steps(tmp_path) == [1, 2, 3, 4, 5]
        for step in range(6, 11):
            log.scalars(step, {"loss": -step})
    assert steps(tmp_path) == list(range(1, 11))
    assert [r["loss"] for r in lines(tmp_path)] == [1, 2, 3, 4, 5, -6, -7, -8, -9, -10]
    values = [(e.step, e.value) for e in events(tmp_path).Scalars("loss")]
    expected = [(s, s if s <= 5 else -s) for s in range(1, 11)]
    assert values == expected
    # The server's reader has a rule of its own: it ignores the first start of a session.
    provider, request = served(tmp_path)
    read = provider.read_scalars(request, experiment_id="", plugin_name="scalars", downsample=99)
    assert [(datum.step, datum.value) for datum in read["."]["loss"]] == expected
    assert sorted(p.name.split(".")[0] for p in tmp_path.iterdir() if p.name[0] != ".") == [
        "events",
        "events",
        "metrics",
        "validation",
    ]


def test_half_an_event_does_not_hide_the_next_file(tmp_path):
    with runlog.RunLog(tmp_path) as log:
        log.scalars(1, {"loss": 1})
        log.scalars(2, {"loss": 2})
    (old,) = tmp_path.glob("events*")
    os.truncate(old, old.stat().st_size - 3)
    with runlog.RunLog(tmp_path, resume_step=1) as log:
        log.scalars(2, {"loss": 2})
    assert event_steps(tmp_path) == [1, 2]


def test_resume_at_the_last_step_leaves_the_file(tmp_path):
    with runlog.RunLog(tmp_path) as log:
        log.scalars(1, {"loss": 1})
    before = (tmp_path / "metrics.jsonl").stat().st_ino
    with runlog.RunLog(tmp_path, resume_step=1):
        pass
    assert (tmp_path / "metrics.jsonl").stat().st_ino == before


def test_damaged_and_double_lines_are_dropped(tmp_path):
    rows = [b'{"step": 1}\n', b"\0\0\0\n", b"[]\n", b'{"step": 2}\n', b'{"step": 2}\n', b"{}\n"]
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(rows))
    runlog.RunLog(tmp_path, resume_step=2).close()
    assert steps(tmp_path) == [1, 2]


def test_line_without_its_end(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}')
    with runlog.RunLog(tmp_path, resume_step=2) as log:
        log.scalars(3, {"loss": 3})
    assert steps(tmp_path) == [1, 2, 3]


def test_seconds_go_on_over_the_parts_of_a_run(tmp_path, monkeypatch):
    # The steps of the first part end at seconds 10, 20 and 30; the third was after the checkpoint.
    for step in (1, 2, 3):
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": step, "seconds": 10.0 * step}) + "\n")
    monkeypatch.setattr(runlog, "clock", types.SimpleNamespace(time=lambda: 1000.0))
    with runlog.RunLog(tmp_path, resume_step=2) as log:
        log.scalars(3, {"loss": 3}, time=1005.0)
    assert steps(tmp_path) == [1, 2, 3]
    assert runlog.last_record(tmp_path / "metrics.jsonl")["seconds"] == 25.0
    assert runlog.last_record(tmp_path / "missing.jsonl") == {}
    assert runlog.last_record(tmp_path / "metrics.jsonl", step=2)["seconds"] == 20.0
    assert runlog.last_record(tmp_path / "metrics.jsonl", step=0) == {}


def test_validations_are_kept_and_cut_back(tmp_path):
    with runlog.RunLog(tmp_path) as log:
        log.validation(10, {"validation_map": 0.5})
        log.validation(20, {"validation_map": 0.75})
    runlog.RunLog(tmp_path, resume_step=15).close()
    (line,) = (tmp_path / "validation.jsonl").read_text().splitlines()
    line = json.loads(line)
    assert (line["step"], line["validation_map"]) == (10, 0.5)
    found = events(tmp_path).Scalars("validation_map")
    assert (found[0].step, found[0].value) == (10, 0.5)


def test_afresh(tmp_path):
    for _ in range(2):
        with runlog.RunLog(tmp_path) as log:
            log.scalars(0, {"loss": 0})
            log.scalars(1, {"loss": 1})
    assert steps(tmp_path) == [0, 1]
    assert event_steps(tmp_path) == [0, 1]


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path):
    # A trainer in small: logs steps, every 7 makes the log durable, then saves the step.
    trainer = """
import os, pathlib, sys
from dah_tf.runs import runlog
folder = pathlib.Path(sys.argv[1])
saved = folder / "saved"
step = int(saved.read_text()) if saved.exists() else 0
log = runlog.RunLog(folder, resume_step=step)
print("ready", flush=True)
last = step + int(sys.argv[2])
while step < last:
    step += 1
    log.scalars(step, {"loss": step})
    if step % 7 == 0 or step == last:
        log.flush(fsync=True)
        (folder / "aside").write_text(str(step))
        os.replace(folder / "aside", saved)
"""
    rng = random.Random(0)
    for _ in range(8):
        process = child(trainer, tmp_path, 10**9)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.04))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        last = int((tmp_path / "saved").read_text()) if (tmp_path / "saved").exists() else 0
        assert set(range(1, last + 1)) <= set(steps(tmp_path))
    with child(trainer, tmp_path, 100) as process:
        process.communicate()
    assert process.returncode == 0
    end = int((tmp_path / "saved").read_text())
    assert end >= 100
    assert steps(tmp_path) == list(range(1, end + 1))
    assert event_steps(tmp_path) == list(range(1, end + 1))


@pytest.mark.parametrize("limit", [3000, 3001, 3017, 3050])
def test_full_disk_loses_nothing(tmp_path, limit):
    # A file size limit stands for the full disk: the write that crosses it is cut short, as there.
    writer = """
import resource, sys
from dah_tf.runs import runlog
log = runlog.RunLog(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
step = 0
try:
    while True:
        log.scalars(step + 1, {"loss": step, "w1": 1.25})
        step += 1
except OSError as error:
    print(step, type(error).__name__)
try:
    log.scalars(step + 1, {"loss": step, "w1": 1.25})
except OSError:
    log.flush(fsync=True)
    log.close()
    print("closed")
"""
    with child(writer, tmp_path, limit) as process:
        first, second = process.communicate()[0].splitlines()
    done = int(first.split()[0])
    assert (first.split()[1], second) == ("OSError", "closed")
    assert done > 20
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")
    assert steps(tmp_path)[:done] == list(range(1, done + 1))
    assert event_steps(tmp_path)[:done] == list(range(1, done + 1))
    with runlog.RunLog(tmp_path, resume_step=done) as log:
        log.scalars(done + 1, {"loss": 0})
    assert steps(tmp_path) == list(range(1, done + 2))


def test_without_tensorboard(tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with runlog.RunLog(tmp_path) as log:
        log.scalars(1, {"loss": 1})
        log.histogram(1, "bits", np.zeros(3))
        log.image(1, "examples", np.zeros([2, 2, 3], np.uint8))
        log.hparams({"bits": 36}, {"map": 1})
        log.flush(fsync=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        "metrics.jsonl",
        "validation.jsonl",
    ]
    assert steps(tmp_path) == [1]


def test_one_process_a_folder(tmp_path):
    holder = """
import sys
from dah_tf.runs import runlog
log = runlog.RunLog(sys.argv[1])
log.scalars(1, {"loss": 1})
print("ready", flush=True)
sys.stdin.read()
"""
    with child(holder, tmp_path, stdin=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(UserError, match=rf"already being trained \(pid {process.pid}\)"):
            runlog.RunLog(tmp_path)
        assert steps(tmp_path) == [1]  # the refused one touched nothing
        process.kill()
    message = rf"already being trained \(pid {os.getpid()}\)"
    with runlog.RunLog(tmp_path, resume_step=1), pytest.raises(UserError, match=message):
        runlog.RunLog(tmp_path)
    runlog.RunLog(tmp_path).close()


def test_lock_of_the_caller(tmp_path):
    lock = runlog.Lock(tmp_path / "new" / "run")
    with runlog.RunLog(tmp_path / "new" / "run", lock=lock) as log:
        log.scalars(1, {"loss": 1})
    with pytest.raises(UserError, match="already being trained"):
        runlog.Lock(tmp_path / "new" / "run")
    lock.close()
    runlog.Lock(tmp_path / "new" / "run").close()


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to workdir"):
        runlog.RunLog(tmp_path / "file" / "run")
