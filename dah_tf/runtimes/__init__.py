"""What an exported model runs on: one module a format, which writes its file and runs it.

Every format but the SavedModel takes `pixels`, uint8 `(n, size, size, channels)` of the model's
own size, for n >= 1, and returns `codes`, uint8 `(n, ceil(bits / 8))`, `hash`, float32
`(n, bits)`, and `probabilities`, float32 `(n, classes)`. Hash and class layer compute in float32
but where a format says otherwise.
"""

import importlib
import importlib.metadata
import importlib.util

from dah_tf import parts
from dah_tf.errors import UserError
from dah_tf.machine import cores, quiet

BATCH = 32  # images; activations of larger ones leave the caches (tools/bench_encode.py)
SAVEDMODEL = "savedmodel"
FORMATS = {
    SAVEDMODEL: "saved_model",
    "onnx": "onnx_runtime",
    "openvino": "open_vino",
    "openvino_bf16": "open_vino_bf16",
    "openvino_int8": "open_vino_int8",
    "litert": "lite_rt",
    "litert_int8": "lite_rt_int8",
}


# Formats of one runtime that differ in their precision: `openvino:precision=int8`.
PRECISIONS = {
    "openvino": {"f32": "openvino", "bf16": "openvino_bf16", "int8": "openvino_int8"},
    "litert": {"f32": "litert", "int8": "litert_int8"},
}


def name_of(text: str) -> str:
    """The format that a text means.

    Args:
        text: a name of `FORMATS`, or a runtime and its precision, such as
            "openvino:precision=bf16".

    Returns:
        A name of `FORMATS`.

    Raises:
        UserError: no such format or option.
    """
    spec = parts.parse(text)
    if spec.name not in FORMATS:
        raise UserError(f"there is no format {spec.name!r}; there are {', '.join(FORMATS)}")
    known = PRECISIONS.get(spec.name, {})
    others = spec.arguments.keys() - ({"precision"} if known else set())
    if others:
        options = "its only option is precision" if known else "it has no options"
        raise UserError(f"format {spec.name} has no option {min(others)!r}; {options}")
    wanted = spec.arguments.get("precision")
    if wanted and wanted not in known:
        raise UserError(
            f"format {spec.name} has no precision={wanted}; there are {', '.join(known)}"
        )
    return known[wanted] if wanted else spec.name


def get(name):
    """The module of a format.

    It holds `TITLE`, the runtime's name; `FILES`, what it writes to a model's folder; `EXTRA`,
    the part of `dah_tf` to install and `PACKAGES`, what running needs; `EXACT`, whether codes
    are meant to equal the model's; `write(function, folder, images)` and `load(folder, threads)`,
    which returns a function from pixels to a dict of arrays, and raises `UserError` where the
    file is damaged (`opening`).

    Raises:
        UserError: no such format.
    """
    if name not in FORMATS:
        raise UserError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    return importlib.import_module(f"dah_tf.runtimes.{FORMATS[name]}")


def present(folder):
    """Names of the formats in a model's folder, in the order of `FORMATS`."""
    return [name for name in FORMATS if all((folder / file).exists() for file in get(name).FILES)]


def version(package):
    """A package's version, as str; "unknown" where it says none.

    A variant, such as onnxruntime-gpu, brings the same package under another name.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module(package), "__version__", "unknown"))


def missing(packages):
    """Those of some packages' names that cannot be imported."""
    return [name for name in packages if not _importable(name)]


def _importable(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def write(name, function, folder, images):
    """Writes a format of a model.

    Args:
        name: str, of `FORMATS`, but the SavedModel.
        function: `tf.function` with an input signature, from pixels to a dict of outputs.
        folder: `pathlib.Path`, there already.
        images: uint8 array of shape `(n, size, size, channels)`, what calibrates int8.

    Returns:
        Dict that JSON can hold: `files`, and `versions` of the packages.

    Raises:
        UserError: a package is not installed.
    """
    runtime = get(name)
    require(name, (*runtime.WRITING, *runtime.PACKAGES))
    with quiet.quiet(stdout=True):
        runtime.write(function, folder, images)
    versions = {each: version(each) for each in sorted(set(runtime.PACKAGES))}
    return {"files": list(runtime.FILES), "versions": versions}


def require(name, packages):
    """Raises `UserError` where one of a format's packages is not installed."""
    runtime = get(name)
    for package in missing(packages):
        raise UserError(
            f"{runtime.TITLE} needs {package}, which is not installed: "
            f"pip install 'dah_tf[{runtime.EXTRA}]'"
        )


def check_present(name, folder):
    """Raises `UserError` where a model was not exported to a format."""
    if name not in present(folder):
        raise UserError(
            f"{folder} has no {get(name).FILES[0]}; export it with format={name}, "
            f"here are {', '.join(present(folder)) or 'none'}"
        )


def load(name, folder, threads=None):
    """Opens a format of a model.

    Args:
        name: str, of `FORMATS`.
        folder: `pathlib.Path` of the model's version.
        threads: int, for one call; None: one a core.

    Returns:
        Function of uint8 pixels, to a dict of arrays.

    Raises:
        UserError: the format is not there, its runtime is not installed, or the file is damaged.
    """
    runtime = get(name)
    check_present(name, folder)
    require(name, runtime.PACKAGES)
    with quiet.quiet(stdout=True):
        return runtime.load(folder, threads or cores.cores())
