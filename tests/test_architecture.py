"""Which module may import which, and what starts without TensorFlow."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "dah_tf"

# A file at the top of the package is a command; it may import anything of the library.
COMMANDS = {"app", "train", "evaluate", "encode", "export", "search", "report", "sweep"}
# Commands of a room: `python -m dah_tf.serving`.
ROOM_COMMANDS = {"serving.__main__"}

# A room, or a part of one that may do more or less, and the rooms that it may import beside
# itself. Anyone may import `errors`, `files`, `machine` and `parts`,
# which import nothing but `errors`.
ALLOWED = {
    "": set(),  # the front door: it names what it loads later
    "baselines": {"codes"},
    "codes": set(),
    "encoding": {"codes", "data", "images", "pretrained", "runtimes", "terminal"},
    "errors": set(),
    "evaluation": {"codes", "metrics"},
    "exporting": {"codes", "data", "metrics", "model", "runtimes", "serving"},
    "files": set(),
    "gallery": {"images"},
    "images": set(),
    "index": {"codes"},
    "layers": set(),
    "losses": set(),
    "machine": set(),
    "metrics": {"codes"},
    "data": {"images"},
    "model": {"baselines", "codes", "layers", "losses"},
    "parts": set(),
    "pretrained": set(),
    "reporting": {"gallery", "runs"},
    "runs": set(),
    "runtimes": set(),
    "serving": {"codes", "images"},
    "serving.in_process": {"codes", "pretrained"},
    "serving.__main__": {"pretrained", "terminal"},
    "terminal": {"runs"},
    "training": {"codes", "data", "evaluation", "exporting", "gallery", "layers", "metrics"}
    | {"model", "pretrained", "runs", "terminal"},
    "web": {"codes", "encoding", "gallery", "images", "index", "runtimes", "serving", "terminal"},
}

# Modules that never import TensorFlow, nor Keras, which would: searching starts at once.
LIGHT = {"baselines", "codes", "errors", "files", "gallery", "images", "index", "machine.memory"}
LIGHT |= {"metrics", "parts", "pretrained"}
LIGHT |= {"reporting", "runs", "serving", "terminal"}
LIGHT |= {"data.plan", "evaluation.retrieval", "evaluation.reference_points"}
LIGHT |= {"training.checkpoint"}


def name_of(path):
    """`data.plan` of dah_tf/data/plan.py, `data` of dah_tf/data/__init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def modules():
    return {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source, name, is_package=False):
    """Every module that a module's source imports anywhere, in full: `dah_tf.data.plan`."""
    found = set()
    package = ["dah_tf", *name.split(".")] if name else ["dah_tf"]
    if not is_package:
        package = package[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *base.split(".")])
                base = base.strip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def ours(found):
    """The modules of dah_tf among imports, `from dah_tf.codes import pack` being `codes`."""
    known = modules()
    result = set()
    for target in found:
        if target.split(".")[0] != "dah_tf":
            continue
        parts = target.split(".")[1:]
        while parts and ".".join(parts) not in known:
            parts = parts[:-1]
        result.add(".".join(parts))
    return result - {""}  # dah_tf itself holds the version


def imports_of(name):
    path = modules()[name]
    return imports(path.read_text(), name, path.name == "__init__.py")


def rule_of(name):
    """The row of the table for a module: the longest that fits."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        row = ".".join(parts[:length])
        if row in ALLOWED:
            return row
    return "" if name == "" else None


def test_every_module_has_its_place():
    library = set(modules()) - COMMANDS
    assert not [n for n in library if rule_of(n) is None], "add it to ALLOWED, on purpose"


def test_a_file_at_the_top_is_a_command():
    top = {path.stem for path in PACKAGE.glob("*.py")}
    assert top == COMMANDS | {"__init__", "errors"}


@pytest.mark.parametrize("name", sorted(set(modules()) - COMMANDS - {""}))
def test_arrows(name):
    row = rule_of(name)
    allowed = ALLOWED[row] | {"errors", "files", "machine", "parts", row.split(".")[0]}
    wrong = {t for t in ours(imports_of(name)) if t.split(".")[0] not in allowed}
    assert not wrong, f"dah_tf.{name} must not import {sorted(wrong)}"


def test_rooms_have_no_circle():
    allowed = {row: targets for row, targets in ALLOWED.items() if row not in ROOM_COMMANDS}
    graph = {}
    for row, targets in allowed.items():
        graph.setdefault(row.split(".")[0], set()).update(targets - {row.split(".")[0]})
    while graph:
        leaves = {row for row, targets in graph.items() if not targets}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {row: targets - leaves for row, targets in graph.items() if row not in leaves}


def test_nothing_imports_a_command():
    for name in modules():
        assert not ours(imports_of(name)) & ((COMMANDS | ROOM_COMMANDS) - {name}), name


def test_only_commands_read_flags():
    for name in modules():
        if name not in COMMANDS | ROOM_COMMANDS | {"terminal.cli", "terminal.settings"}:
            assert not [t for t in imports_of(name) if t.split(".")[0] == "absl"], name


def test_light_modules_name_no_framework():
    for name in modules():
        if (name.split(".")[0] in LIGHT or name in LIGHT) and name != "terminal.cli":
            heavy = {t.split(".")[0] for t in imports_of(name)} & {"tensorflow", "keras", "jax"}
            assert not heavy, f"dah_tf.{name} imports {sorted(heavy)}"


def test_no_cycles():
    # Imports inside functions count: a cycle is a question of design, not of start-up. The front
    # door names what it loads when it is asked for.
    graph = {name: ours(imports_of(name)) for name in modules() if name}
    done = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in graph[name]:
                # A package's __init__ re-exports its modules; they do not need it.
                if target != name:
                    visit(target, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def run_python(code, *arguments):
    """Runs code in a fresh interpreter; what it prints to stderr is the assertion's message."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "baselines.base",
        "baselines.features",
        "codes",
        "metrics",
        "data.plan",
        "runs.runlog",
        "terminal.cli",
        "reporting",
        "index",
        "encoding",
        "serving",
        "web",
        "app",
    ],
)
def test_starts_without_tensorflow(name):
    run_python(
        f"import sys, dah_tf.{name}\n"
        "heavy = {'tensorflow', 'keras', 'jax', 'tensorflow_datasets'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )


def test_logging_loads_no_tensorflow(tmp_path):
    # `EventFileWriter` would: it looks for the real TensorFlow when it opens its file.
    run_python(
        "import sys, numpy as np\n"
        "from dah_tf.runs import runlog\n"
        "with runlog.RunLog(sys.argv[1]) as log:\n"
        "    log.scalars(1, {'loss': 1.0})\n"
        "    log.histogram(1, 'bits', np.zeros(3))\n"
        "    log.image(1, 'picture', np.zeros([4, 4, 3], np.uint8))\n"
        "    log.hparams({'bits': 36}, {'map': 0.9})\n"
        "assert 'tensorboard.plugins.hparams.metadata' in sys.modules\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)",
        str(tmp_path),
    )


def test_reader_sees_every_form():
    source = (
        "import dah_tf.codes\nfrom dah_tf import errors\nfrom dah_tf.losses import dah\n"
        "def f():\n    from ..losses.dah import pairwise\n    from ..runs import runlog\n"
    )
    found = ours(imports(source, "model.hash_model"))
    assert found == {"codes", "errors", "losses.dah", "runs.runlog"}
    assert ours(imports("from ..codes import pack", "serving.export")) == {"codes"}
    assert ours(imports("from .dah import pairwise", "losses", True)) == {"losses.dah"}
