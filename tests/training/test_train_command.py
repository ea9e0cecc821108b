"""Training as users run it: the command, resuming after kill -9, and refused input.

DAH_TF_TRAIN_KILLS=20 kills a training 20 times. Each kill costs a start of several seconds.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from waiting import until

from dah_tf.training import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("DAH_TF_TRAIN_KILLS", "3"))
TINY = (
    "--dataset=npz:{data} --backbone=compact:attention --bits=12 --groups=2 --epochs=12 "
    "--optimizer=muon:adam_ratio=0.2 --learning_rate=0.02 --shift=1 --cutout=4 "
    "--cutout_epochs=7 --flip=alternate --method=dah:class_scale=8 --validation=0 --checkpoint_steps=3 "
    "--precision=float32 --train_sizes=16:0.5,20:0.5 --noexport --classes_per_group=9"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Writes 80 noisy images of 4 classes, which are 20 pixels wide."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 25)
    x = (
        rng.integers(0, 120, (100, 20, 20, 1))
        + 40 * y[:, None, None, None] * (np.arange(20)[:, None] > 9)[None, :, :, None] / 3
    )
    rows = rng.permutation(100)
    x, y = x.astype(np.uint8)[rows], y[rows]
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(path, x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    return path


def command(module, *arguments, **options):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", f"dah_tf.{module}", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(module, *arguments):
    process = command(module, *arguments)
    out, err = process.communicate()
    return process.returncode, out, err


def flags(data, workdir, extra=""):
    return [*TINY.format(data=data).split(), f"--workdir={workdir}", *extra.split()]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "whole"
    code, out, err = run("train", *flags(data, workdir))
    assert code == 0, err
    return workdir, out


def last_arrays(workdir):
    _, meta, arrays = checkpoint.read(workdir / "checkpoints")
    return meta, arrays


def steps(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def size(path):
    """Returns the size of a file in bytes, or 0 if it does not exist yet."""
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
def test_a_run_says_what_it_does_and_leaves_its_results(finished):
    workdir, out = finished
    for word in (
        "tiny.npz",
        "full",
        "compact:widths=64/256/256,depth=2,attention=true",
        "12 bits",
        "float32",
        "MAP",
    ):
        assert word in out
    told = re.search(r"^recipe    (.*(?:\n {10}.*)*)$", out, re.MULTILINE).group(1).split("\n")
    assert len(told) <= 3
    told = " ".join(line.strip() for line in told)
    assert told == (
        "fast, chosen by auto. Left open and decided by it: mirror=true, images_per_class=2, "
        "warmup=0.04, decay=linear, validate_epochs=4, without freeze_epochs"
    )
    given = json.loads((workdir / "flags.json").read_text())["given"]
    assert given["epochs"] == 12 and "decay" not in given and "recipe" not in given
    result = json.loads((workdir / "evaluation.json").read_text())
    assert result["protocol"]["counts"] == {
        "train": 80,
        "validation": 0,
        "query": 20,
        "database": 80,
    }
    assert 0 <= result["map"]["worst"] <= result["map"]["expected"] <= result["map"]["best"] <= 1
    assert steps(workdir) == list(range(1, last_arrays(workdir)[0]["step"] + 1))
    # A step has two groups with two images of each of the four classes.
    assert result["run"]["images_seen"] == 16 * len(steps(workdir))
    assert result["run"]["precision"] == "float32"


@pytest.mark.slow
def test_evaluate_repeats_the_runs_own_figures(finished, tmp_path):
    workdir, _ = finished
    output = tmp_path / "again.json"
    code, out, err = run("evaluate", f"--workdir={workdir}", f"--output={output}")
    assert code == 0, err
    ours, again = (
        json.loads((workdir / "evaluation.json").read_text()),
        json.loads(output.read_text()),
    )
    assert ours["map"] == again["map"] and "MAP" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--protocol=own"], "; name another file: --output=FILE.json"),
        (
            ["--protocol=own", "--output={}/x.json"],
            "queries of --protocol=own, because it used --protocol=full",
        ),
    ],
)
def test_evaluate_refuses_what_would_mislead(finished, tmp_path, arguments, message):
    arguments = [each.format(tmp_path) for each in arguments]
    before = (finished[0] / "evaluation.json").read_bytes()
    code, _, err = run("evaluate", f"--workdir={finished[0]}", *arguments)
    assert code == 2 and message in err and err.count("\n") == 1
    assert (finished[0] / "evaluation.json").read_bytes() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_other_data_needs_no_validation_images(finished, data, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    content = json.loads((workdir / "flags.json").read_text())
    content["flags"]["validation"] = 70  # more than half of the 80 training images
    (workdir / "flags.json").write_text(json.dumps(content))
    other, output = tmp_path / "other.npz", tmp_path / "run" / "other.json"
    with np.load(data) as content:
        np.savez(other, **{**content, "x_test": 255 - content["x_test"]})
    pictures = (workdir / "examples.npz").read_bytes()
    code, _, err = run(
        "evaluate", f"--workdir={workdir}", f"--dataset=npz:{other}", f"--output={output}"
    )
    assert code == 0, err
    assert json.loads(output.read_text())["protocol"]["counts"]["validation"] == 0
    # The retrieval examples of the run are not replaced either.
    assert (workdir / "examples.npz").read_bytes() == pictures
    assert (workdir / "other.examples.npz").read_bytes() != pictures


@pytest.mark.slow
def test_the_runs_data_by_another_name(finished, data, tmp_path):
    """The content of the data decides on which images the run was trained."""
    other, output = shutil.copy(data, tmp_path / "same.npz"), tmp_path / "same.json"
    arguments = f"--workdir={finished[0]}", f"--dataset=npz:{other}", f"--output={output}"
    code, _, err = run("evaluate", *arguments, "--protocol=own")
    assert code == 2 and "queries of --protocol=own, because it used --protocol=full" in err
    assert not output.exists()
    more = f"--dataset=npz:{other} --protocol=own --epochs=1 --backbone_weights={finished[0]}"
    code, _, err = run("train", *flags(data, tmp_path / "run", more))
    assert code == 2 and err.count("\n") == 1 and not (tmp_path / "run" / "flags.json").exists()
    assert re.search(
        r"was trained on \d+ of the \d+ queries of --protocol=own, because it used --protocol=full",
        err,
    )


@pytest.mark.slow
def test_data_that_changed_since_the_training(finished, data, tmp_path):
    changed, workdir = tmp_path / "changed.npz", shutil.copytree(finished[0], tmp_path / "run")
    with np.load(data) as content:
        rows = slice(5, None)
        parts = {"x_train": content["x_train"][rows], "y_train": content["y_train"][rows]}
        np.savez(changed, **{**content, **parts})
    recorded = json.loads((workdir / "flags.json").read_text())
    before = (workdir / "evaluation.json").read_bytes()
    for protocol, message in [
        ("own", "has changed since the run was trained, and --protocol=own would choose other"),
        ("full", "would replace that of the run; name another file: --output=FILE.json"),
    ]:
        recorded["flags"] |= {"dataset": f"npz:{changed}", "protocol": protocol}
        (workdir / "flags.json").write_text(json.dumps(recorded))
        code, _, err = run("evaluate", f"--workdir={workdir}")
        assert code == 2 and message in err and err.count("\n") == 1
        assert (workdir / "evaluation.json").read_bytes() == before
    output = tmp_path / "full.json"
    code, _, err = run("evaluate", f"--workdir={workdir}", f"--output={output}")
    assert code == 0, err
    assert json.loads(output.read_text())["protocol"]["counts"]["database"] == 75


@pytest.mark.slow
def test_a_damaged_model_is_one_line(finished, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    content = (workdir / "model.keras").read_bytes()
    (workdir / "model.keras").write_bytes(content[: len(content) // 2])
    code, _, err = run("evaluate", f"--workdir={workdir}")
    assert code == 2 and "model.keras is damaged" in err and err.count("\n") == 1


@pytest.mark.slow
def test_logs_that_cannot_be_written_are_one_line(finished, data, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    (workdir / "metrics.jsonl").unlink()
    (workdir / "metrics.jsonl").mkdir()
    code, _, err = run("train", *flags(data, workdir))
    assert code == 2 and f"cannot write to {workdir} (Is a directory)" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_disk_that_fails_at_the_end_keeps_the_run(finished, data, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    (workdir / ".model.tmp.keras").mkdir()  # the model cannot be written
    code, _, err = run("train", *flags(data, workdir))
    assert code == 2 and "trained to its end and kept in its checkpoint" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_nothing(finished, data, tmp_path):
    whole, _ = finished
    workdir = tmp_path / "killed"
    rng = random.Random(0)
    arguments = flags(data, workdir)
    kills = 0
    for attempt in range(200):
        process = command("train", *arguments)
        if kills < KILLS:
            # Half of the kills happen while a checkpoint is being written, and half at any time.
            folder = workdir / "checkpoints"
            seen = len(checkpoint.files(folder)) and checkpoint.files(folder)[-1].name
            if attempt % 2:
                while process.poll() is None and not any(folder.glob(".step-*.tmp")):
                    pass
            else:
                while process.poll() is None:
                    found = checkpoint.files(folder)
                    if found and found[-1].name != seen:
                        break
                    time.sleep(0.002)
                time.sleep(rng.random() * 0.05)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        _, err = process.communicate()
        if process.returncode == 0 and kills == KILLS:
            break
        if process.returncode == 0:  # the run ended before the kill, so it begins again
            shutil.rmtree(workdir)
        else:
            assert process.returncode == -signal.SIGKILL, err
    assert process.returncode == 0 and kills == KILLS
    (ours, a), (theirs, b) = last_arrays(whole), last_arrays(workdir)
    assert ours == theirs and len(a) == len(b) > 50
    for name, x, y in zip(ours["names"], a, b, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)
    assert steps(workdir) == steps(whole)


@pytest.mark.slow
def test_a_backbone_starts_from_a_runs(finished, data, tmp_path):
    from dah_tf.training import build

    source, workdir = finished[0], tmp_path / "shorter"
    more = (
        f"--backbone_weights={source} --bits=8 --epochs=1 --freeze_epochs=1 "
        "--precision=mixed_bfloat16"
    )
    code, _, err = run("train", *flags(data, workdir, more))
    assert code == 0, err
    theirs, ours = (build.load_run(folder)[0] for folder in (source, workdir))
    assert ours.bits == 8 and theirs.bits == 12
    for one, other in zip(ours.backbone.weights, theirs.backbone.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    # The model that is stored and evaluated computes in float32, whatever the training used.
    assert ours.in_float32() is ours


@pytest.mark.slow
def test_only_the_same_backbone_of_an_ended_run_is_taken(finished, data, tmp_path):
    from dah_tf.errors import UserError
    from dah_tf.model import backbones
    from dah_tf.training import build

    with pytest.raises(UserError, match=r"holds another backbone \(compact, [\d,]+ parameters"):
        build.take_backbone(backbones.get("compact", channels=3), finished[0])
    process = command("train", *flags(data, tmp_path / "begun", "--epochs=2000"))
    until(lambda: checkpoint.files(tmp_path / "begun" / "checkpoints"), process)
    process.kill()
    process.communicate()
    same = backbones.get("compact:attention", channels=1)
    with pytest.raises(UserError, match="the run has not ended"):
        build.take_backbone(same, tmp_path / "begun")
    with pytest.raises(UserError, match="no ready-made model 'nothing'"):
        build.take_backbone(same, "pretrained:nothing")


@pytest.mark.slow
def test_sigterm_saves_and_exits_0(data, tmp_path):
    from dah_tf.training import build

    workdir = tmp_path / "stopped"
    more = "--epochs=2000 --checkpoint_steps=1000000 --precision=mixed_float16"
    process = command("train", *flags(data, workdir, more))
    until(lambda: size(workdir / "metrics.jsonl"), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "stopped at step" in out
    assert last_arrays(workdir)[0]["step"] == steps(workdir)[-1]
    model, step = build.load_run(workdir)
    assert step == steps(workdir)[-1] and model.in_float32() is model


@pytest.mark.slow
def test_files_that_vanish_end_a_run_in_one_line(data, tmp_path):
    folder, away, workdir = (tmp_path / name for name in ("photos", "away", "run"))
    with np.load(data) as content:
        images, labels = content["x_train"], content["y_train"]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / f"class {label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"class {label}" / f"{number}.png")
    more = "--protocol=own --image_size=20 --cache_gib=0 --epochs=2000 --checkpoint_steps=1000000"
    arguments = [*flags(data, workdir, more), f"--dataset=folder:{folder}"]
    process, log = command("train", *arguments), workdir / "metrics.jsonl"
    until(lambda: size(log), process)
    folder.rename(away)
    _, err = process.communicate()
    assert process.returncode == 2
    line = rf"error: {folder}/class \d/\d+\.png was readable .* \(no such file\); restore .*"
    assert re.fullmatch(line, err.splitlines()[-1]) and "Traceback" not in err, err
    done = steps(workdir)[-1]
    assert last_arrays(workdir)[0]["step"] == done > 0
    away.rename(folder)
    before = size(log)
    process = command("train", *arguments)
    until(lambda: size(log) > before, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 0 and f"resumes at step {done}" in out, err
    assert steps(workdir) == list(range(1, last_arrays(workdir)[0]["step"] + 1))
    assert len(steps(workdir)) > done


@pytest.mark.slow
def test_other_flags_are_refused_with_the_difference(finished, data):
    workdir, _ = finished
    code, _, err = run("train", *flags(data, workdir, "--phi1=0.25"))
    assert code == 2 and "method.phi1 was 1.0, now 0.25" in err.splitlines()[-1]


@pytest.mark.slow
def test_nan_stops_the_run_and_names_the_term(data, tmp_path):
    code, _, err = run("train", *flags(data, tmp_path / "nan", "--learning_rate=1e30"))
    assert code == 2 and "last good checkpoint" in err
    assert "loss became" in err or "kernel is not finite" in err
    assert "in another --workdir" in err
    assert err.splitlines()[-1].startswith("error: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--bits=none"], "bits"),
        (["--nonsense=1"], "nonsense"),
        (["--attention", "false"], "unexpected argument 'false'"),
        (["--dataset=folder:/nowhere"], "/nowhere"),
        (["--dataset=npz:/nowhere.npz"], "/nowhere.npz"),
        (["--dataset=digits", "--protocol=most"], "--protocol=most is unknown"),
        (["--dataset=digits", "--backbone=resnet30"], "--image_size=32"),
        (["--dataset=digits", "--backbone=nothing", "--image_size=32"], "there is no backbone"),
        (["--dataset=digits", "--train_sizes=16:0.4"], "--train_sizes"),
        (["--dataset=digits", "--backbone=compact", "--train_sizes=16:.7,8:.3"], "of 8 pixels"),
        (["--dataset=digits", "--seed=-1"], "--seed"),
        (["--dataset=digits", "--train_sizes=16:nan"], "--train_sizes"),
        (["--dataset=digits", "--train_sizes=16:1.5,20:-0.5"], "--train_sizes"),
        (
            ["--dataset=digits", "--freeze_epochs=inf"],
            "--freeze_epochs=inf must be a finite number",
        ),
        (["--dataset=digits", "--epochs=nan"], "--epochs=nan must be a finite number"),
        (["--dataset=digits", "--cutout=16"], "would cover images of 16 pixels"),
        (
            ["--dataset=digits", "--backbone=compact:widths=a/b", "--image_size=16"],
            "widths=a/b is not a whole number",
        ),
        (["--widths=1,2,3"], "--widths is an option of --backbone=compact, not of resnet30"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    code, _, err = run("train", *arguments, "--validation=0", f"--workdir={tmp_path / 'w'}")
    assert code == 2 and message in err
    assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("module", ["train", "evaluate", "export"])
def test_help_exits_0_without_tensorflow(module):
    code, out, _ = run(module, "--help")
    assert code == 0 and "--workdir" in out
    source = "import importlib, sys; sys.argv = ['x', '--help']; "
    source += f"m = importlib.import_module('dah_tf.{module}'); "
    source += (
        "m.define_flags(); from dah_tf.terminal import cli\ntry: cli.launch(m.main, m.__doc__)"
    )
    source += "\nexcept SystemExit: print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "False False"


@pytest.mark.slow
def test_describe(tmp_path):
    code, out, _ = run("train", "--describe", "--bits=12")
    assert code == 0 and "3,210,516" in out
    code, out, _ = run("train", "--describe", "--json", "--bits=12")
    assert json.loads(out)["trainable_parameters"] == 3_210_516


@pytest.mark.slow
def test_describe_a_keras_application_for_a_folder(tmp_path):
    """Every image is damaged, because describing does not need any."""
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    code, out, err = run(
        "train", "--describe", f"--dataset=folder:{tmp_path}", "--backbone=MobileNetV2"
    )
    assert code == 0, err
    assert "block_16_project" in out and "36 bits, 5 bytes; 3 classes" in out
    assert "for an image of 32x32x3" in out
    code, _, err = run("train", "--describe", f"--dataset=folder:{tmp_path}", "--backbone=vgg99")
    assert code == 2 and "no backbone 'vgg99'" in err and err.count("\n") == 1
    code, _, err = run(
        "train", "--describe", f"--dataset=folder:{tmp_path}", "--backbone=inceptionv3"
    )
    assert code == 2 and "cannot take images of 32 pixels" in err and err.count("\n") == 1
