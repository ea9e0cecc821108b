"""The runtimes of exported models. Each format has a module that writes its file and runs it.

Every format except the SavedModel takes `pixels`, uint8 `(n, size, size, channels)`, for n >= 1,
where `size` is the model's image size. It returns `codes`, uint8 `(n, ceil(bits / 8))`; `hash`,
float32 `(n, bits)`; and `probabilities`, float32 `(n, classes)`. The hash layer and the class layer
compute in float32 unless a format's documentation says otherwise.
"""

import importlib
import importlib.metadata
import importlib.util

from dah_tf import parts
from dah_tf.errors import UserError
from dah_tf.machine import cores, quiet

BATCH = 32  # Activations of larger batches exceed the caches (tools/bench_encode.py).
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


# These formats share a runtime and differ in precision. An example is `openvino:precision=int8`.
PRECISIONS = {
    "openvino": {"f32": "openvino", "bf16": "openvino_bf16", "int8": "openvino_int8"},
    "litert": {"f32": "litert", "int8": "litert_int8"},
}


def name_of(text: str) -> str:
    """Returns the format that a text names.

    Args:
        text: a name of `FORMATS`, or a runtime and its precision, such as
            "openvino:precision=bf16".

    Returns:
        A name of `FORMATS`.

    Raises:
        UserError: there is no such format or option.
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
    """Returns the module of a format.

    The module holds:
    - `TITLE`, the name of the runtime;
    - `FILES`, the files that it writes to a model's folder;
    - `EXTRA`, the extra of `dah_tf` to install, and `PACKAGES`, the packages that running needs;
    - `EXACT`, whether the codes are meant to equal those of the model;
    - `write(function, folder, images)`, which writes the files;
    - `load(folder, threads)`, which returns a function from pixels to a dict of arrays. It raises
      `UserError` if the file is damaged (`opening`).

    Raises:
        UserError: there is no such format.
    """
    if name not in FORMATS:
        raise UserError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    return importlib.import_module(f"dah_tf.runtimes.{FORMATS[name]}")


def present(folder):
    """Returns the names of the formats in a model's folder, in the order of `FORMATS`."""
    return [name for name in FORMATS if all((folder / file).exists() for file in get(name).FILES)]


def version(package):
    """Returns a package's version as str, or "unknown" if the package does not state one.

    A variant such as onnxruntime-gpu provides the same package under another name.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module(package), "__version__", "unknown"))


def missing(packages):
    """Returns the names among `packages` that cannot be imported."""
    return [name for name in packages if not _importable(name)]


def _importable(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # The parent package is missing.
        return False


def write(name, function, folder, images):
    """Writes a model in the given format.

    Args:
        name: str, a name in `FORMATS` other than the SavedModel.
        function: `tf.function` with an input signature. It maps pixels to a dict of outputs.
        folder: `pathlib.Path` of a folder that exists.
        images: uint8 array of shape `(n, size, size, channels)`. It calibrates int8 formats.

    Returns:
        Dict that JSON can store: `files`, and the `versions` of the packages.

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
    """Raises `UserError` if one of a format's packages is not installed."""
    runtime = get(name)
    for package in missing(packages):
        raise UserError(
            f"{runtime.TITLE} needs {package}, which is not installed: "
            f"pip install 'dah_tf[{runtime.EXTRA}]'"
        )


def check_present(name, folder):
    """Raises `UserError` if a model was not exported to a format."""
    if name not in present(folder):
        raise UserError(
            f"{folder} has no {get(name).FILES[0]}; export the model with format={name}, or use a "
            f"format that is there: {', '.join(present(folder)) or 'none'}"
        )


def load(name, folder, threads=None):
    """Opens a model in the given format.

    Args:
        name: str, a name in `FORMATS`.
        folder: `pathlib.Path` of the folder of the model's version.
        threads: int, the number of threads for one call. None uses one thread for each core.

    Returns:
        Function from uint8 pixels to a dict of arrays.

    Raises:
        UserError: the format is missing, its runtime is not installed, or the file is damaged.
    """
    runtime = get(name)
    check_present(name, folder)
    require(name, runtime.PACKAGES)
    with quiet.quiet(stdout=True):
        return runtime.load(folder, threads or cores.cores())
