"""Images to folders of codes: what is written, what is broken, and going on after a kill."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_tfds import CLASSES as CLASS_NAMES
from test_tfds import encoded, prepare
from tiny_model import BITS, export_model, pictures, write_folder

from dah_tf import durable
from dah_tf.encoding import Codes, Encoder, find_model, job, sources, store
from dah_tf.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", name="model")
def make_model(tmp_path_factory):
    return export_model(tmp_path_factory.mktemp("models") / "dah" / "1")


@pytest.fixture(scope="module", name="encoder")
def make_encoder(model):
    return Encoder(model)


@pytest.fixture(name="photos")
def make_photos(tmp_path, monkeypatch):
    """50 pictures in `photos`, three more files that are none; the working directory."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos", 50)
    (tmp_path / "photos" / "cat" / "0000.txt").write_text("no image")
    (tmp_path / "photos" / "dog" / "\udcffempty\n.png").write_bytes(b"")
    good = (tmp_path / "photos" / "owl" / "0002.png").read_bytes()
    (tmp_path / "photos" / "owl" / "half.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "photos" / ".hidden").write_text("not looked at")
    return tmp_path


def encode(encoder, spec, output, batch_size=8, shard_items=16, **options):
    """Encodes in this process; returns the manifest."""

    def work(begun):
        for _ in begun.encode(encoder, begun.missing(), batch_size):
            pass

    return job.run(encoder.path, spec, output, work=work, shard_items=shard_items, **options)


def served(model, paths):
    """Codes and validity by the signature that TensorFlow Serving serves."""
    import tensorflow as tf

    function = tf.saved_model.load(str(model)).signatures["serving_default"]
    outputs = function(image_bytes=tf.constant([Path(path).read_bytes() for path in paths]))
    return outputs["codes"].numpy(), outputs["valid"].numpy()


def test_codes_are_those_that_the_model_serves(encoder, photos):
    manifest = encode(encoder, "photos", "codes")
    paths = sorted(
        (os.fspath(path) for path in Path("photos").glob("*/*")), key=lambda p: p.split("/")
    )
    codes, valid = served(encoder.path, paths)
    folder = Codes.open("codes")
    found, keys, labels = folder.read()
    assert keys == [path for path, good in zip(paths, valid, strict=True) if good]
    np.testing.assert_array_equal(found, codes[valid])
    assert len(np.unique(found, axis=0)) > 10  # or equality would mean little
    assert labels == [key.split("/")[1] for key in keys]
    assert (len(folder), folder.bits, folder.fingerprint) == (50, BITS, encoder.fingerprint)
    assert manifest["broken"] == 3 and len(manifest["shards"]) == 4  # ceil(53 / 16)
    lines = Path("codes", "broken.tsv").read_bytes().split(b"\n")
    names = [line.split(b"\t")[0] for line in lines[:-1]]
    assert names == [b"photos/cat/0000.txt", b"photos/dog/\xffempty\\n.png", b"photos/owl/half.png"]
    reasons = [line.split(b"\t")[1] for line in lines[:-1]]
    assert reasons == [
        b"Unknown image file format. One of JPEG, JPEG XL, PNG, GIF, BMP, WebP required.",
        b"Input is empty.",
        b"Invalid PNG data, size %d" % os.path.getsize("photos/owl/half.png"),
    ]


def test_numpy_reads_the_shards(encoder, photos):
    encode(encoder, "photos", "codes")
    folder = Path("codes", "shards", "000003")
    codes, keys, labels = (np.load(folder / f"{name}.npy") for name in store.ARRAYS)
    assert codes.dtype == np.uint8 and codes.shape == (4, 2)  # rows 48 to 52 but half.png
    assert keys[-1] == b"photos/owl/0047.png" and labels.tolist() == [b"owl"] * 4


def test_in_memory_equals_on_disk(encoder, photos):
    encode(encoder, "photos", "codes")
    codes, keys, labels = Codes.open("codes").read()
    found = encoder.files("photos", batch_size=7)
    np.testing.assert_array_equal(found.codes, codes)
    assert (found.keys, found.labels) == (keys, labels)
    assert next(key for key, _ in found.broken) == "photos/cat/0000.txt"
    # The bits are the hash values above 1/2.
    np.testing.assert_array_equal(np.packbits(found.hash > 0.5, axis=1), found.codes)
    one = encoder.files("photos/owl/0047.png", "photos/cat/0000.png")
    assert one.keys == ["photos/owl/0047.png", "photos/cat/0000.png"]
    assert one.labels == ["owl", "cat"]
    np.testing.assert_array_equal(one.codes[0], codes[keys.index(one.keys[0])])
    nothing = encoder.files("photos/cat/0000.txt")
    assert nothing.codes.shape == (0, 2) and nothing.hash.shape == (0, BITS)
    assert nothing.broken == [("photos/cat/0000.txt", nothing.broken[0][1])]


def test_batches_are_full_across_shards_and_broken_images(encoder, photos, monkeypatch):
    sizes = []
    call = Encoder.__call__
    monkeypatch.setattr(
        Encoder, "__call__", lambda self, images: (sizes.append(len(images)), call(self, images))[1]
    )
    encode(encoder, "photos", "codes", batch_size=8, shard_items=5)
    assert sizes == [8] * 6 + [2]


def test_labels(encoder, photos):
    os.rename("photos/owl", "photos/summer")
    encode(encoder, "photos", "auto")
    labels = Codes.open("auto").read()[2]
    assert sorted(set(labels)) == ["", "cat", "dog"]  # summer is no class of the model
    encode(encoder, "photos", "folder", labels="folder")
    assert sorted(set(Codes.open("folder").read()[2])) == ["cat", "dog", "summer"]
    encode(encoder, "photos", "none", labels="none")
    assert set(Codes.open("none").read()[2]) == {""}


def test_lists(encoder, photos):
    Path("lists").mkdir()
    lines = ["../photos/cat/0000.png\tcat;pet", "", "../photos/dog/0001.png", "gone.png\tdog"]
    Path("lists", "a.txt").write_text("\r\n".join(lines))
    assert encode(encoder, "list:lists/a.txt", "a")["broken"] == 1
    _, keys, labels = Codes.open("a").read()
    assert keys == ["lists/../photos/cat/0000.png", "lists/../photos/dog/0001.png"]
    assert labels == ["cat;pet", ""]
    assert Path("a", "broken.tsv").read_text() == "lists/gone.png\tno such file\n"
    odd = Path("photos", "tab\tline\n.png")
    os.rename("photos/cat/0000.png", odd)
    Path("nul.txt").write_bytes(os.fsencode(odd.absolute()) + b"\0photos/dog/0001.png\0")
    encode(encoder, "list:nul.txt", "b")
    assert Codes.open("b").read()[1] == [str(odd.absolute()), "photos/dog/0001.png"]


def test_splits_of_tensorflow_datasets(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(encoded(i, "PNG"), i % 3) for i in range(20)]
    rows[7] = (b"no image", 1)
    rows[9] = (rows[9][0], -1)  # without a label
    prepare(tmp_path / "tfds", "Cifar10", (32, 32, 3), CLASS_NAMES, {"test": rows})
    options = {"data_dir": "tfds", "shard_items": 6}
    assert encode(encoder, "tfds:cifar10/test", "codes", **options)["broken"] == 1
    codes, keys, labels = Codes.open("codes").read()
    # TFDS shuffles the examples when it prepares them; the order on disk counts.
    assert len(keys) == 19 and len(set(keys)) == 19
    assert all(key.startswith("tfds:cifar10/test#") for key in keys)
    gone = set(range(20)) - {int(key.partition("#")[2]) for key in keys}
    assert len(gone) == 1
    files = [tmp_path / f"{i}.png" for i in range(20) if i != 7]
    for path, row in zip(files, [row for i, row in enumerate(rows) if i != 7], strict=True):
        path.write_bytes(row[0])
    names = [*CLASS_NAMES, ""]
    wanted = {
        (code.tobytes(), names[label])
        for code, label in zip(
            served(encoder.path, files)[0],
            [label for i, (_, label) in enumerate(rows) if i != 7],
            strict=True,
        )
    }
    assert {(code.tobytes(), label) for code, label in zip(codes, labels, strict=True)} == wanted
    for spec, message in [
        ("tfds:cifar10/train", "no such split; there are test"),
        ("tfds:none_such/test", "TensorFlow Datasets knows no none_such"),
    ]:
        with pytest.raises(UserError, match=message):
            encode(encoder, spec, "other", **options)


def test_a_split_of_several_files_goes_on(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(encoded(i, "PNG"), i % 10) for i in range(60)]
    prepare(tmp_path / "tfds", "Cifar10", (32, 32, 3), CLASS_NAMES, {"test": rows}, files=4)
    assert len(list(Path("tfds").rglob("*.tfrecord*"))) == 4
    options = {"data_dir": "tfds", "shard_items": 7}
    encode(encoder, "tfds:cifar10/test", "whole", **options)
    write, count = store.write_shard, 0

    def stopping(*arguments):
        nonlocal count
        count += 1
        if count == 4:
            raise OSError(28, "No space left on device")
        write(*arguments)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="No space"):
        patch.setattr(store, "write_shard", stopping)
        encode(encoder, "tfds:cifar10/test", "codes", **options)
    encode(encoder, "tfds:cifar10/test", "codes", **options)
    for found, expected in zip(Codes.open("codes").read(), Codes.open("whole").read(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_list_is_read_in_blocks(tmp_path):
    # 40,000 lines are more than one block of 1 MiB, whatever its border cuts.
    path = tmp_path / "list"
    names = [f"{'long' * 10}/{number:06d}.png" for number in range(40_000)]
    path.write_text("\n".join(names))
    found = [os.fsdecode(name) for name, _ in sources.listed(path)]
    assert found == [str(tmp_path / name) for name in names]


def test_known_images_are_skipped(encoder, photos):
    encode(encoder, "photos", "codes")
    Image.fromarray(pictures(1, seed=9)[0]).save("photos/cat/new.png")
    encode(encoder, "photos", "more", skip=["codes"])
    assert Codes.open("more").read()[1] == ["photos/cat/new.png"]  # the broken ones stay broken
    Path("known.txt").write_text("photos/cat/new.png")
    with pytest.raises(UserError, match="all is in --skip"):
        encode(encoder, "list:known.txt", "none", skip=["more"])


def test_the_same_command_again_does_nothing(encoder, photos):
    encode(encoder, "photos", "codes")
    before = {path: path.stat().st_mtime_ns for path in Path("codes").rglob("*.*")}
    os.remove("photos/cat/0000.png")
    manifest = job.run(encoder.path, "photos", "codes", work=lambda _: pytest.fail("encodes"))
    assert manifest["items"] == 50
    after = {path: path.stat().st_mtime_ns for path in Path("codes").rglob("*.*")}
    assert {k: v for k, v in after.items() if k.name != ".lock"} == {
        k: v for k, v in before.items() if k.name != ".lock"
    }


def test_refuses_another_job(encoder, photos, tmp_path):
    encode(encoder, "photos", "codes")
    with pytest.raises(UserError, match="another images.*photos.*not photos/cat"):
        encode(encoder, "photos/cat", "codes")
    with pytest.raises(UserError, match="another settings"):
        encode(encoder, "photos", "codes", labels="none")
    other = export_model(tmp_path / "other", seed=2)
    with pytest.raises(UserError, match="another model"):
        job.run(other, "photos", "codes", work=None)
    with pytest.raises(UserError, match="photos holds other files"):
        encode(encoder, "photos", "photos")
    with durable.Lock("codes"), pytest.raises(UserError, match=f"pid {os.getpid()}"):
        encode(encoder, "photos", "codes")


def test_keeps_the_folders_of_others(encoder, photos):
    for name in ("work", "shards"):
        Path("mine", name).mkdir(parents=True)
        Path("mine", name, "thesis.txt").write_text("years")
        with pytest.raises(UserError, match="mine holds other files, such as"):
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
    with pytest.raises(UserError, match="another settings"):
        encode(encoder, "photos", "../codes")


def test_a_model_exchanged_meanwhile_is_refused(encoder, photos, tmp_path):
    other = Encoder(export_model(tmp_path / "other", seed=2))

    def work(begun):
        begun.encode_missing(other)

    with pytest.raises(UserError, match="other is another model than that which codes was begun"):
        job.run(encoder.path, "photos", "codes", work=work)
    assert not store.done("codes")


def test_an_image_that_failed_only_once_is_encoded(encoder, photos, monkeypatch):
    encode(encoder, "photos", "whole")
    dataset = sources.Source.dataset
    monkeypatch.setattr(
        sources.FileSource,
        "dataset",
        lambda self, shards: dataset(self, shards).filter(lambda row, *_: row % 17 != 3),
    )
    encode(encoder, "photos", "codes")
    for found, expected in zip(Codes.open("codes").read(), Codes.open("whole").read(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_error_of_the_source_is_none_of_the_images(encoder, photos, monkeypatch):
    rows, count = sources.FileSource._read, 0

    def failing(self, shard):
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(5, "Input/output error")
        return rows(self, shard)

    monkeypatch.setattr(sources.FileSource, "_read", failing)
    with pytest.raises(UserError, match="Input/output error; what was encoded is kept"):
        encode(encoder, "photos", "codes")
    monkeypatch.undo()
    os.chdir(photos)
    manifest = encode(encoder, "photos", "codes")
    assert (manifest["items"], manifest["broken"]) == (50, 3)


def test_what_is_no_file(encoder, photos):
    os.mkfifo("photos/cat/pipe.png")
    os.symlink("nowhere", "photos/cat/dangling.png")
    os.symlink("loop.png", "photos/cat/loop.png")
    os.symlink("..", "photos/cat/up")
    encode(encoder, "photos", "codes")
    report = Path("codes", "broken.tsv").read_bytes()
    assert b"photos/cat/dangling.png\tno such file\n" in report
    assert b"photos/cat/loop.png\tToo many levels of symbolic links\n" in report
    assert len(report.splitlines()) == 3 + 2
    Path("list").write_text("photos/cat/pipe.png\nphotos/cat\nphotos/cat/0003.png\n")
    assert encode(encoder, "list:list", "listed")["items"] == 1  # and it ends
    assert Path("listed", "broken.tsv").read_text() == (
        "photos/cat/pipe.png\tnot a regular file\nphotos/cat\ta folder that cannot be read\n"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "nothing is no file or folder"),
        ("empty", "nothing to encode"),
        ("list:nothing", "cannot read --input=list:nothing: No such file"),
        ("list:empty.txt", "nothing to encode"),
        ("tfds:cifar10", "names no split"),
    ],
)
def test_bad_input_leaves_nothing(encoder, photos, spec, message):
    Path("empty").mkdir()
    Path("empty.txt").write_text("\n\n")
    before = sorted(os.listdir())
    with pytest.raises(UserError, match=message) as error:
        encode(encoder, spec, "codes")
    assert "\n" not in str(error.value) and sorted(os.listdir()) == before


def test_finds_models(model, tmp_path):
    assert find_model(model)[0] == model
    assert find_model(model.parent)[0] == model
    run = tmp_path / "run"
    run.mkdir()
    os.symlink(model.parent, run / "export")
    assert find_model(run)[1]["bits"] == BITS
    with pytest.raises(UserError, match=r"has no dah.json; make one with"):
        find_model(tmp_path)
    (run / "dah.json").write_text('{"bits": 3}')
    with pytest.raises(UserError, match=r"dah.json is damaged"):
        find_model(run)


def test_damage_is_found(encoder, photos):
    encode(encoder, "photos", "codes")
    path = Path("codes", "shards", "000001", "codes.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 16
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"000001/codes.npy has changed"):
        Codes.open("codes").read()
    os.remove(path)
    with pytest.raises(UserError, match=r"cannot read .*000001/codes.npy: No such file"):
        Codes.open("codes").read()
    manifest = Path("codes", "manifest.json")
    manifest.write_text(manifest.read_text().replace('"broken": 3', '"broken": 2'))
    with pytest.raises(UserError, match="checksum does not fit"):
        Codes.open("codes")
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(UserError, match="has codes format 9, this dah_tf reads format 1"):
        Codes.open("codes")
    os.remove(manifest)
    with pytest.raises(UserError, match="is not finished; run the same"):
        Codes.open("codes")


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


def test_stopped_at_any_write_it_goes_on(encoder, photos, monkeypatch):
    """Every call that changes the disk fails once, and the next run goes on from there."""
    encode(encoder, "photos", "whole", shard_items=10)
    expected = Codes.open("whole").read()
    encoder = Recorded(encoder)
    spans = sources.Source.span
    monkeypatch.setattr(
        sources.FileSource, "dataset", lambda self, shards: [spans(self, each) for each in shards]
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


def test_a_full_disk_keeps_what_there_is(encoder, photos, monkeypatch):
    write, count = store.write_shard, 0

    def full(*arguments):
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(28, "No space left on device")
        write(*arguments)

    message = "codes: No space left on device; what was encoded is kept"
    with monkeypatch.context() as patch, pytest.raises(UserError, match=message):
        patch.setattr(store, "write_shard", full)
        encode(encoder, "photos", "codes")
    assert store.done("codes") == {0, 1}
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
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        shards = Path(folder, "shards")
        if shards.is_dir() and len(store.done(folder)) >= count:
            return
        time.sleep(0.005)
    pytest.fail(f"ended or hangs: {process.communicate()}")


def test_killed_command_goes_on(model, encoder, photos):
    write_folder(photos / "photos", 3000)
    process = command(model, "--output=codes", "--shard_items=32")
    wait_for_shards(process, "codes", 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = store.done("codes")
    assert 3 <= len(done) < 94
    stamps = {n: Path("codes", "shards", store.shard_name(n)).stat().st_ino for n in done}
    process = command(model, "--output=codes", "--shard_items=32")
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert f"{len(done) * 32:,} of 3,003 images are encoded; going on" in out
    assert "3,000 codes of 12 bits in codes" in out
    assert "3 images could not be read: codes/broken.tsv" in out
    assert "image 3,003/3,003 (100%)" in errors
    after = {n: Path("codes", "shards", store.shard_name(n)).stat().st_ino for n in done}
    assert after == stamps  # none was encoded twice
    codes, keys, _ = Codes.open("codes").read()
    found = encoder.files("photos")
    assert keys == found.keys
    np.testing.assert_array_equal(codes, found.codes)
    assert not list(Path("codes").rglob("*.tmp"))


def test_command_refuses_in_one_line(model, photos):
    process = command(model, "--output=codes", "--workers=2")
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ""
    assert errors == "error: --workers is for --runner=ray\n"
    assert not Path("codes").exists()


def test_ray_worker_killed(model, encoder, photos):
    """Two workers encode; one is killed in its work: nothing is lost, nothing is there twice."""
    pytest.importorskip("ray", reason="ray is not installed")
    write_folder(photos / "photos", 1000)
    process = command(model, "--output=codes", "--shard_items=50", "--runner=ray", "--workers=2")
    wait_for_shards(process, "codes", 2)
    workers = [pid for pid in descendants(process.pid) if "ShardEncoder" in title(pid)]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "1,000 codes of 12 bits in codes" in out
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
