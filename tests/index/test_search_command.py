"""The command, by its files, flags, output and exit codes."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from dah_tf import codes as packed
from dah_tf import search
from dah_tf.index import BACKENDS, Index

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(name="folder")
def make_folder(tmp_path):
    """Files of 40 codes of 36 bits; ids are 100, 101, ..."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "codes.npy", packed.pack(rng.integers(0, 2, (40, 36))))
    np.save(tmp_path / "other.npy", packed.pack(rng.integers(0, 2, (10, 36))))
    np.save(tmp_path / "ids.npy", np.arange(100, 140))
    np.save(tmp_path / "labels.npy", np.arange(40) % 2)
    np.save(tmp_path / "keys.npy", np.array([f"photos/{i}\n.png" for i in range(40)]))
    return tmp_path


BUILD = "build --index=ix --codes=codes.npy --bits=36 --ids=ids.npy --labels=labels.npy"


def command(line, cwd, code=0):
    """Runs `python -m dah_tf.search LINE`; returns its stdout, or its stderr where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "dah_tf.search", *line.split()],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == code, done.stdout + done.stderr
    if code:
        assert done.stderr.count("\n") == 1 or code == 1
        assert "Traceback" not in done.stderr
        return done.stderr
    return done.stdout


def test_from_codes_to_answers(folder):
    assert command(f"{BUILD} --keys=keys.npy", folder) == "40 items of 36 bits are in ix\n"
    lines = command("query --index=ix --codes=codes.npy --k=3", folder).splitlines()
    assert lines[0].split() == ["query", "rank", "distance", "id", "key", "label"]
    assert lines[1].split() == ["0", "1", "0", "100", r"photos/0\n.png", "0"]
    # A row more where further items stand at the third neighbour's distance.
    ties = [line for line in lines if line.split()[4:5] == ["more"]]
    assert len(lines) - len(ties) == 1 + 40 * 3 and ties
    found = json.loads(
        command("query --index=ix --codes=codes.npy --radius=0 --json --label=1", folder)
    )
    assert [each["query"] for each in found] == list(range(40))
    assert [len(each["neighbours"]) for each in found] == [0, 1] * 20
    nearest = {"rank": 1, "distance": 0, "id": 103, "key": "photos/3\n.png", "label": "1"}
    assert found[3]["neighbours"] == [nearest]
    assert "10 items were added" in command("add --index=ix --codes=other.npy", folder)
    assert command("remove 103 149 --index=ix", folder) == (
        "2 items were removed from ix, which has 48 items now\n"
    )
    lines = command("query --index=ix --codes=codes.npy --k=1 --max_distance=0", folder)
    assert lines.splitlines()[4].split() == ["3", "-", "-", "no", "match"]
    stats = json.loads(command("stats --index=ix --json", folder))
    assert (stats["items"], stats["removed"], stats["bits"]) == (48, 2, 36)
    assert "items           48\n" in command("stats --index=ix", folder)
    command("compact --index=ix --backend=numpy", folder)
    assert command("verify --index=ix", folder) == "ix has no faults: 48 items\n"
    assert json.loads(command("stats --index=ix --json", folder))["removed"] == 0
    assert command("rebuild --index=ix --codes=other.npy --bits=36", folder) == (
        "10 items of 36 bits are in ix\n"
    )


def test_strings_of_any_kind_of_array(tmp_path):
    for array, strings in (
        (np.array([b"a.png", b"\xff.png"]), ["a.png", "\udcff.png"]),
        (np.array(["ä", ""]), ["ä", ""]),
        (np.array([3, -1]), ["3", "-1"]),
    ):
        np.save(tmp_path / "strings.npy", array)
        assert search.read_strings(tmp_path / "strings.npy") == strings


def test_damage_is_exit_code_1(folder):
    command(BUILD, folder)
    path = next((folder / "ix" / "segments").glob("*-ids.npy"))
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert path.name in command("verify --index=ix", folder, code=1)


# Runs commands in one process, many times faster; prints what each says or raises.
DRIVER = """
import contextlib, io, json, sys
from dah_tf import search
from dah_tf.terminal import cli
search.define_flags()
answers = []
for line in json.load(sys.stdin):
    for name in cli.own_flags():
        search.FLAGS[name].unparse()
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            search.FLAGS.set_gnu_getopt(True)
            search.main(search.FLAGS(["search", *line.split()])[1:])
        answers.append(output.getvalue())
    except (search.UserError, search.flags.Error) as error:
        answers.append(f"error: {error}")
print(json.dumps(answers))
"""


def commands(lines, cwd):
    """Runs several commands; returns what each prints, or its error."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT)},
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


BAD = [
    ("", "name a command: build, add"),
    ("find --index=ix", "Received: find"),
    ("query --codes=codes.npy", "name the index"),
    ("query --index=ix", "name the queries"),
    ("query photo.png --index=ix", "name the model"),
    ("query photo.png --index=ix --model=none", "none is not a model that dah_tf exported"),
    ("query photo.png --index=ix --codes=codes.npy", "name the queries"),
    ("query --index=ix --codes=codes.npy --model=none", "leave out --model"),
    ("query photo.png --index=ix --model=none --fingerprint=a", "leave out --fingerprint"),
    ("rebuild --index=ix --codes=codes.npy --root=.", "leave out --root"),
    ("build --index=new --codes=codes.npy --bits=36 --keys=codes.npy", "codes.npy has shape"),
    ("query --index=ix --codes=codes.npy --rerank=9", "--rerank needs images"),
    ("query --index=ix --codes=codes.npy --gallery=a.pdf", "a.pdf"),
    ("stats photo.png --index=ix", "unexpected argument 'photo.png'"),
    ("rebuild --index=ix --model=none --codes=codes.npy", "leave out --codes"),
    ("rebuild --index=ix --model=none", "none is not a model that dah_tf exported"),
    ("query --index=none --codes=codes.npy", "none is not an index"),
    ("query --index=ix --codes=none.npy", "cannot read none.npy: No such file"),
    ("query --index=ix --codes=.", ". is not a folder of codes"),
    ("query --index=ix --codes=bad.npy", "bad.npy is not a .npy array"),
    ("query --index=ix --codes=two.npz", "contains several arrays"),
    ("query --index=ix --codes=objects.npy", "objects.npy is not a .npy array"),
    ("query --index=ix --codes=ids.npy", "codes need shape (n, bytes)"),
    ("query --index=ix --codes=codes.npy --k=0", "k must be at least 1"),
    ("query --index=ix --codes=codes.npy --radius=1 --k=2", "--radius cannot be combined"),
    ("query --index=ix --codes=codes.npy --radius=-1", "radius must be at least 0"),
    ("query --index=ix --codes=codes.npy --fingerprint=b", "codes of model a"),
    ("query --index=ix --codes=codes.npy --backend=none", "no backend 'none'"),
    ("query --index=ix --codes=codes.npy --bits=36", "the command query has no flag --bits"),
    ("stats --index=ix --nojson --k=2", "the command stats has no flag --k"),
    ("build --index=ix --codes=codes.npy", "exists already"),
    ("build --index=new --codes=codes.npy --bits=48", "Codes of 48 bits"),
    ("build --index=new --codes=codes.npy --bits=7", "8 to 256 bits"),
    ("build --index=new --codes=ids.npy", "codes need shape (n, bytes)"),
    ("build --index=new --codes=codes.npy --recall=0 --bits=36", "recall must be a share"),
    ("build --index=new --codes=other.npy --bits=36 --ids=ids.npy", "10 codes and 40 ids"),
    ("build --index=new --codes=other.npy --bits=36 --labels=ids.npy", "10 codes and 40 labe"),
    ("build --index=codes.npy/x --codes=other.npy --bits=36", "cannot write"),
    ("add --index=ix --codes=codes.npy --ids=ids.npy", "37 more are already in the index"),
    ("add --index=ix --codes=codes.npy --fingerprint=b", "codes of model a"),
    ("remove --index=ix", "name what to remove"),
    ("remove 1 --ids=ids.npy --index=ix", "name what to remove"),
    ("remove x --index=ix", "'x' is not an id"),
    ("remove 99 --index=ix", "id 99 is not in the index"),
    ("build --index=new --codes=other.npy --bits=36 --keys=half.npy", "half of a surrogate pair"),
    ("remove 99999999999999999999999 --index=ix", "from 0 to 2**63 - 1"),
]


def test_bad_input_is_one_line_and_changes_nothing(folder):
    assert "40 items" in commands([f"{BUILD} --fingerprint=a"], folder)[0]
    (folder / "bad.npy").write_bytes(b"not an array")
    np.save(folder / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    np.savez(folder / "two.npz", np.zeros(2))
    np.save(folder / "half.npy", np.array(["\ud83d"] * 10))

    def state():
        paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
        return {path: path.read_bytes() for path in paths}

    before = state()
    errors = commands([line for line, _ in BAD], folder)
    for (line, message), error in zip(BAD, errors, strict=True):
        assert message in error and error.startswith("error: "), (line, error)
        assert "\n" not in error, (line, error)
    assert state() == before


def test_numpy_backend_answers_alike(folder):
    line = "query --index=ix --codes=other.npy --k=40 --json --backend="
    _, first, second, third = commands([BUILD, line + "numpy", line + "flat", line + "mih"], folder)
    assert first == second == third
    assert len(json.loads(first)) == 10 and len(Index.open(folder / "ix")) == 40


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        (
            "utf-8",
            "b\udcff",
        ),
        ("ascii", r"b\udcff"),
    ],
)
def test_names_that_the_screen_cannot_show(folder, encoding, shown):
    """What is done is said, whatever the name: nothing fails after the change."""
    name = "b\udcff"
    os.rename(folder / "codes.npy", folder / "c.npy")
    Index.create(folder / name, 36, codes=np.load(folder / "c.npy"))
    done = subprocess.run(
        [sys.executable, "-m", "dah_tf.search", "remove", "3", f"--index={name}"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": f"{encoding}:strict"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert os.fsdecode(done.stdout) == (
        f"1 items were removed from {shown}, which has 39 items now\n"
    )


def test_a_bad_command_is_exit_code_2(folder):
    assert command("stats --index=none", folder, code=2).startswith("error: none is not an index")
    assert "Unknown command line flag" in command("stats --index=x --colour=1", folder, code=2)


def test_help_is_complete():
    shown = command("--help", ROOT)
    assert all(f"  {name} " in shown for name in search.COMMANDS)
    assert all(name in shown for name in BACKENDS)


def test_querying_loads_no_framework(folder):
    command(BUILD, folder)
    code = (
        "import sys; from dah_tf.index import Index; import numpy as np\n"
        "Index.open('ix').search(np.load('codes.npy'), 3)\n"
        "sys.exit(len({'tensorflow', 'keras', 'jax'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", ["query --index=ix --codes=codes.npy --k=40", "--help"])
def test_a_reader_that_goes_early_is_no_error(folder, line):
    command(BUILD, folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "dah_tf.search", *line.split()],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()
