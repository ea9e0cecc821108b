"""An encoding that was stopped goes on, and only the same one does."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_model import BITS, encode, export_model, full_disk, write_folder
from waiting import until

from dah_tf.codes import archive
from dah_tf.encoding import Codes, Encoder, job, listing
from dah_tf.errors import UserError
from dah_tf.files import durable

ROOT = Path(__file__).parents[2]


def test_the_same_command_again_does_nothing(encoder, photos, capsys):
    encode(encoder, "photos", "codes")
    before = {path: path.stat().st_mtime_ns for path in Path("codes").rglob("*.*")}
    os.remove("photos/cat/0000.png")
    capsys.readouterr()
    manifest = job.run(encoder.path, "photos", "codes", work=lambda _: pytest.fail("encodes"))
    assert manifest["items"] == 50
    said = capsys.readouterr().out
    assert said == "codes is complete; to encode new images, name another folder and --skip=codes\n"
    after = {path: path.stat().st_mtime_ns for path in Path("codes").rglob("*.*")}
    assert {k: v for k, v in after.items() if k.name != ".lock"} == {
        k: v for k, v in before.items() if k.name != ".lock"
    }


def test_without_work_this_process_encodes(encoder, photos):
    job.run(encoder.path, "photos", "codes", shard_items=16)
    encode(encoder, "photos", "wanted")
    for found, expected in zip(
        Codes.open("codes").read(), Codes.open("wanted").read(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_refuses_another_job(encoder, photos, tmp_path):
    encode(encoder, "photos", "codes")
    with pytest.raises(UserError, match="other images.*photos.*not photos/cat"):
        encode(encoder, "photos/cat", "codes")
    with pytest.raises(UserError, match="other settings"):
        encode(encoder, "photos", "codes", labels="none")
    other = export_model(tmp_path / "other", seed=2)
    with pytest.raises(UserError, match="another model"):
        job.run(other, "photos", "codes", work=None)
    with pytest.raises(UserError, match="photos contains other files"):
        encode(encoder, "photos", "photos")
    with durable.Lock("codes"), pytest.raises(UserError, match=f"pid {os.getpid()}"):
        encode(encoder, "photos", "codes")


def test_shards_of_an_unknown_job_are_refused(encoder, photos, tmp_path):
    """Without a manifest nothing but the shards says what they are of."""
    encode(encoder, "photos", "codes")
    before = Codes.open("codes").read()
    manifest = Path("codes/manifest.json")
    content = manifest.read_bytes()
    manifest.unlink()
    other = export_model(tmp_path / "other", seed=2)
    refused = (
        "was made with another model, other images or other settings.*delete codes and encode again"
    )
    with pytest.raises(UserError, match=refused):
        job.run(other, "photos", "codes", work=None, shard_items=16)
    with pytest.raises(UserError, match=refused):
        encode(encoder, "photos/cat", "codes")
    Path("photos/cat/new.png").write_bytes(Path("photos/cat/0003.png").read_bytes())
    with pytest.raises(UserError, match=refused):
        encode(encoder, "photos", "codes")
    assert not manifest.exists() and not Path("codes/.work").exists()
    # The same job goes on with what there is.
    Path("photos/cat/new.png").unlink()
    job.run(encoder.path, "photos", "codes", work=lambda _: pytest.fail("encodes"), shard_items=16)
    for found, expected in zip(Codes.open("codes").read(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert manifest.read_bytes() == content


def test_a_format_that_is_not_there_begins_nothing(encoder, photos):
    with pytest.raises(UserError, match="has no model.onnx; export the model with format=onnx"):
        job.run(encoder.path, "photos", "codes", runtime="onnx", work=None)
    assert not Path("codes").exists()


def test_keeps_the_folders_of_others(encoder, photos):
    for name in ("work", "shards"):
        Path("mine", name).mkdir(parents=True)
        Path("mine", name, "thesis.txt").write_text("years")
        with pytest.raises(UserError, match="mine contains other files, such as"):
            encode(encoder, "photos", "mine")
        assert Path("mine", name, "thesis.txt").read_text() == "years"
        Path("mine", name, "thesis.txt").unlink()
        Path("mine", name).rmdir()


def test_the_same_folder_by_another_name(encoder, photos, monkeypatch):
    encode(encoder, "photos/", "codes")
    assert Codes.open("codes").read()[1][0] == "photos/cat/0000.png"
    assert encode(encoder, "./photos", "codes")["items"] == 50
    # Keys begin at the working directory: another's `photos` are other images.
    Path("other/photos").mkdir(parents=True)
    Path("other/photos/a.png").write_bytes(Path("photos/cat/0003.png").read_bytes())
    monkeypatch.chdir("other")
    with pytest.raises(UserError, match="other settings"):
        encode(encoder, "photos", "../codes")


def test_a_model_exchanged_meanwhile_is_refused(encoder, photos, tmp_path):
    other = Encoder(export_model(tmp_path / "other", seed=2))

    def work(begun):
        begun.encode_missing(other)

    with pytest.raises(UserError, match="other is not the model with which codes was begun"):
        job.run(encoder.path, "photos", "codes", work=work)
    assert not archive.done("codes")


class Recorded:
    """An encoder that knows the answers: no TensorFlow in what is stopped a hundred times."""

    bits = BITS

    def __init__(self, encoder):
        self.path, self.fingerprint = encoder.path, encoder.fingerprint
        found = encoder.files("photos")
        _, keys = zip(*enumerate(sorted(found.keys + [key for key, _ in found.broken])))
        self.rows = np.searchsorted(keys, found.keys)
        self.labels, self.codes = np.array(found.labels, "S"), found.codes

    def stream(self, spans, contents, batch_size):
        for first, last in spans:
            at = slice(*np.searchsorted(self.rows, [first, last]))
            yield self.rows[at], self.labels[at], {"codes": self.codes[at]}

    def once_more(self, contents, what):
        return None, "broken"


class Killed(BaseException):
    """As if the process ended here: no handler may tidy up after it."""


@pytest.mark.slow
def test_stopped_at_any_write_it_goes_on(encoder, photos, monkeypatch):
    """Every call that changes the disk fails once, and the next run goes on from there."""
    encode(encoder, "photos", "whole", shard_items=10)
    expected = Codes.open("whole").read()
    encoder = Recorded(encoder)
    spans = listing.Source.span
    monkeypatch.setattr(
        listing.FileSource, "dataset", lambda self, shards: [spans(self, each) for each in shards]
    )
    calls = stop_at = 0

    def failing(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise Killed
            return function(*arguments, **options)

        return call

    @contextlib.contextmanager
    def watched():
        nonlocal calls
        calls = 0
        with monkeypatch.context() as patch:
            for name in ("fsync", "rename", "replace", "mkdir"):
                patch.setattr(os, name, failing(getattr(os, name)))
            # A dead process tidies nothing up.
            patch.setattr(job.shutil, "rmtree", lambda *_, **__: None)
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            yield

    with watched():
        encode(encoder, "photos", "counted", shard_items=10)
    total = calls
    assert total > 40
    for stop_at in range(1, total + 1):
        output = f"codes{stop_at}"
        with watched(), pytest.raises(Killed):
            encode(encoder, "photos", output, shard_items=10)
        encode(encoder, "photos", output, shard_items=10)
        codes, keys, labels = Codes.open(output).read()
        np.testing.assert_array_equal(codes, expected[0])
        assert (keys, labels) == expected[1:]
        assert {path.name for path in Path(output).iterdir()} == {
            ".lock",
            "shards",
            "manifest.json",
            "broken.tsv",
        }


def test_a_full_disk_keeps_what_there_is(encoder, photos):
    with full_disk(shards=2):
        encode(encoder, "photos", "codes")
    assert archive.done("codes") == {0, 1}
    with pytest.raises(UserError, match="is not finished"):
        Codes.open("codes")
    assert encode(encoder, "photos", "codes")["items"] == 50


def command(model, *more, **options):
    words = [sys.executable, "-m", "dah_tf.encode", f"--model={model}", "--input=photos", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def wait_for_shards(process, folder, count):
    """Waits until so many shards are there, while the process runs."""
    shards = Path(folder, "shards")
    until(lambda: shards.is_dir() and len(archive.done(folder)) >= count, process)


@pytest.mark.slow
def test_killed_command_goes_on(encoder, photos):
    write_folder(photos / "photos", 3000)
    process = command(encoder.path, "--output=codes", "--shard_items=32")
    wait_for_shards(process, "codes", 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = archive.done("codes")
    assert 3 <= len(done) < 94
    stamps = {n: Path("codes", "shards", archive.shard_name(n)).stat().st_ino for n in done}
    process = command(encoder.path, "--output=codes", "--shard_items=32")
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"{len(done) * 32:,} of 3,003 images are encoded already; the others follow" in out
    assert "3,000 codes of 12 bits are in codes" in out
    assert "3 images could not be read; they are listed in codes/broken.tsv" in out
    assert "image 3,003/3,003 (100%)" in errors
    after = {n: Path("codes", "shards", archive.shard_name(n)).stat().st_ino for n in done}
    assert after == stamps  # none was encoded twice
    codes, keys, _ = Codes.open("codes").read()
    found = encoder.files("photos")
    assert keys == found.keys
    np.testing.assert_array_equal(codes, found.codes)
    assert not list(Path("codes").rglob("*.tmp"))


def test_command_refuses_in_one_line(encoder, photos):
    process = command(encoder.path, "--output=codes", "--workers=2")
    out, errors = process.communicate()
    assert process.returncode == 2 and out == ""
    assert errors == "error: --workers=2 needs --runner=ray\n"
    assert not Path("codes").exists()


@pytest.mark.slow
def test_ray_worker_killed(encoder, photos):
    """Two workers encode; one is killed in its work: nothing is lost, nothing is there twice."""
    pytest.importorskip("ray", reason="ray is not installed")
    write_folder(photos / "photos", 1000)
    process = command(
        encoder.path, "--output=codes", "--shard_items=50", "--runner=ray", "--workers=2"
    )
    wait_for_shards(process, "codes", 2)
    workers = [pid for pid in descendants(process.pid) if "ShardEncoder" in title(pid)]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "1,000 codes of 12 bits are in codes" in out
    codes, keys, _ = Codes.open("codes").read()
    found = encoder.files("photos")
    assert keys == found.keys
    np.testing.assert_array_equal(codes, found.codes)


def title(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def descendants(pid):
    """Process ids below a process."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(words[1])
    found, rest = [], [pid]
    while rest:
        rest = [child for child, parent in parents.items() if parent in rest]
        found += rest
    return found
