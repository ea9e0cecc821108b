"""A model's folder as TensorFlow Serving will see it: found, loaded and run by its C++ loader."""

import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from dah_tf import codes
from dah_tf.serving import layout, messages, warmup
from dah_tf.serving.c_api import SavedModel
from dah_tf.serving.failure import ServingError

TAG = "serve"

SIGNATURES = {
    "serving_default": (["image_bytes"], ["codes", "probabilities", "valid"]),
    "pixels": (["pixels"], ["codes", "hash", "probabilities"]),
}

STEADY_SECONDS, STEADY_RUNS = 0.5, 5  # what a batch size is timed for, whichever ends first


def check(model):
    """Loads the version that would be served and runs its warm-up requests.

    Args:
        model: path of the model's folder, which holds a folder a version.

    Returns:
        Dict that JSON can hold: `model`, `versions`, `served` (the version, or None), `faults`
        (list of str, one line each; empty where the model can be served), `load_seconds`,
        `signatures` (name to `inputs` and `outputs`, each a dict of name to `dtype` and `shape`)
        and `latency` (list of dicts: `signature`, `batch`, `first_ms`, `steady_ms`).

    Raises:
        UserError: no such folder; TensorFlow is not installed.
    """
    model = Path(model)
    numbers = layout.versions(model)
    report = {
        "model": str(model),
        "versions": list(numbers),
        "served": max(numbers, default=None),
        "faults": [],
        "load_seconds": None,
        "signatures": {},
        "latency": [],
    }
    if not numbers:
        report["faults"].append(_no_version(model))
        return report
    _check_version(numbers[report["served"]], report)
    return report


def _no_version(model):
    if (model / layout.GRAPH).exists():
        return (
            f"{model} has no version folder: it is a SavedModel itself; TensorFlow Serving wants "
            f"its parent, and a whole number as its name, such as {model}/1"
        )
    return f"{model} has no version folder, such as {model}/1"


def _check_version(folder, report):
    unloadable = _files(folder)
    description, wrong = _description(folder)
    requests, lacking = _warmup(folder)
    faults = report["faults"]
    faults += unloadable + wrong + lacking
    if unloadable:
        return
    start = time.perf_counter()
    try:
        model = SavedModel(folder, TAG)
    except ServingError as error:
        faults.append(f"{folder} cannot be loaded: {_short(error)}")
        return
    report["load_seconds"] = time.perf_counter() - start
    with model:
        report["signatures"] = _plain(model.signatures)
        faults += _names(folder, model.signatures)
        faults += _channels(folder, model.signatures, description)
        faults += _run(folder, model, requests, description, report["latency"])


def _files(folder):
    """Faults of the graph and of the variables' files."""
    graph = folder / layout.GRAPH
    try:
        saved = messages.SavedModel.FromString(graph.read_bytes())
    except OSError as error:
        return [f"{graph} cannot be read: {error.strerror}"]
    except DecodeError:
        return [f"{graph} is no SavedModel, or cut short"]
    tags = [list(meta.meta_info_def.tags) for meta in saved.meta_graphs]
    if [TAG] not in tags:
        return [f"{graph} has no graph with the tag {TAG!r}, only {tags}"]
    if not (folder / layout.VARIABLES).is_file():
        return [f"{folder / layout.VARIABLES} is missing: the model has no variables"]
    return []


def _description(folder):
    """What `dah.json` says, or None, and its faults."""
    path = folder / layout.DESCRIPTION
    try:
        description = json.loads(path.read_text())
    except OSError as error:
        return None, [f"{path} cannot be read: {error.strerror}"]
    except ValueError:
        return None, [f"{path} is no JSON"]
    wanted = {"bits": int, "bytes_per_code": int, "classes": int, "channels": int}
    wanted |= {"class_names": list}
    wrong = [
        name
        for name, kind in wanted.items()
        if not isinstance(description, dict) or type(description.get(name)) is not kind
    ]
    if wrong:
        return None, [f"{path} lacks {', '.join(wrong)}"]
    faults = []
    if description["bytes_per_code"] != math.ceil(description["bits"] / 8):
        faults.append(
            f"{path} has {description['bytes_per_code']} bytes a code for "
            f"{description['bits']} bits"
        )
    if description["classes"] != len(description["class_names"]):
        faults.append(
            f"{path} has {len(description['class_names'])} names for "
            f"{description['classes']} classes"
        )
    return description, faults


def _warmup(folder):
    """The warm-up requests and the faults of their file."""
    path = folder / layout.WARMUP
    try:
        requests = warmup.read(folder)
    except OSError as error:
        return [], [f"{path} cannot be read, so the first answers are slow: {error.strerror}"]
    except ValueError as error:
        return [], [f"{path}: {error}"]
    if len(requests) > warmup.MAX_RECORDS:
        return requests[:1], [f"{path} has more than {warmup.MAX_RECORDS} requests"]
    signatures = {signature for signature, _ in requests}
    return requests, [
        f"{path} has no request for the signature {name}"
        for name in SIGNATURES
        if name not in signatures
    ]


def _names(folder, signatures):
    faults = []
    for name, expected in SIGNATURES.items():
        if name not in signatures:
            faults.append(f"{folder} has no signature {name}")
            continue
        for what, tensors, wanted in zip(
            ("takes", "gives"), signatures[name], expected, strict=True
        ):
            if sorted(tensors) != wanted:
                faults.append(f"{folder}: {name} {what} {sorted(tensors)}, not {wanted}")
    return faults


def _channels(folder, signatures, description):
    if description is None or "pixels" not in signatures:
        return
    for _, _, shape in signatures["pixels"][0].values():
        if shape and shape[-1] != description["channels"]:
            yield (
                f"{folder / layout.DESCRIPTION} does not fit the model: pixels takes images of "
                f"{shape[-1]} channels, not {description['channels']}"
            )


def _run(folder, model, requests, description, latency):
    """Runs every request, notes its times in `latency`, and returns the faults."""
    faults = {}  # as an ordered set: the same one often comes with every request
    path = folder / layout.WARMUP
    for number, (signature, inputs) in enumerate(requests, 1):
        if signature not in model.signatures:
            fault = f"{path}: request {number} is for {signature!r}, which the model does not have"
            faults[fault] = None
            continue
        try:
            start = time.perf_counter()
            reply = model.run(signature, inputs)
            first = time.perf_counter() - start
        except ServingError as error:
            faults[f"{path}: request {number}, for {signature}, fails: {_short(error)}"] = None
            continue
        batch = len(np.atleast_1d(next(iter(inputs.values()))))
        faults |= dict.fromkeys(_answer(folder, signature, batch, reply, description))
        latency.append(
            {
                "signature": signature,
                "batch": batch,
                "first_ms": first * 1000,
                "steady_ms": _steady(model, signature, inputs) * 1000,
            }
        )
    return list(faults)


def _answer(folder, signature, batch, reply, description):
    """Faults of one answer."""
    if "valid" in reply and not reply["valid"].all():
        yield f"{folder}: {signature} cannot decode the warm-up's images"
    if description is None:
        return
    expected = {
        "codes": (np.uint8, description["bytes_per_code"]),
        "probabilities": (np.float32, description["classes"]),
        "hash": (np.float32, description["bits"]),
    }
    path = folder / layout.DESCRIPTION
    for name, (dtype, width) in expected.items():
        if name not in reply:
            continue
        array = reply[name]
        if array.dtype != dtype or array.shape != (batch, width):
            yield (
                f"{path} does not fit the model: {signature} gives {name} of {array.dtype} and "
                f"{array.shape[1:]}, not of {np.dtype(dtype)} and {(width,)}"
            )
        elif name == "codes":
            try:
                codes.check(array, description["bits"])
            except ValueError as error:
                yield f"{path} does not fit the model's codes: {error}"


def _steady(model, signature, inputs):
    """Median seconds of a call that was made before."""
    times, end = [], time.perf_counter() + STEADY_SECONDS
    while not times or (len(times) < STEADY_RUNS and time.perf_counter() < end):
        start = time.perf_counter()
        model.run(signature, inputs)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _plain(signatures):
    def specs(tensors):
        return {
            name: {
                "dtype": "string" if dtype == np.object_ else str(dtype),
                "shape": None if shape is None else list(shape),
            }
            for name, (_, dtype, shape) in tensors.items()
        }

    return {
        name: {"inputs": specs(takes), "outputs": specs(gives)}
        for name, (takes, gives) in signatures.items()
    }


def _short(error, limit=300):
    text = str(error)
    return text if len(text) <= limit else text[:limit] + " ..."


def table(report):
    """The report as lines of text for people."""
    lines = [f"{report['model']}: {_versions_line(report)}"]
    for name, signature in report["signatures"].items():
        for arrow, side in (("takes", "inputs"), ("gives", "outputs")):
            for tensor, spec in signature[side].items():
                shape = spec["shape"]
                shape = "?" if shape is None else ", ".join("n" if d < 0 else str(d) for d in shape)
                lines.append(f"  {name:16} {arrow} {tensor:14} {spec['dtype']:8} ({shape})")
    if report["load_seconds"] is not None:
        lines.append(f"  loaded in {report['load_seconds']:.2f} s")
    if report["latency"]:
        lines.append(f"  {'signature':16} {'batch':>5} {'first, ms':>10} {'steady, ms':>11}")
    for row in report["latency"]:
        lines.append(
            f"  {row['signature']:16} {row['batch']:5} {row['first_ms']:10.1f} "
            f"{row['steady_ms']:11.1f}"
        )
    lines += [f"fault: {fault}" for fault in report["faults"]]
    lines.append("good" if not report["faults"] else f"{len(report['faults'])} found faulty")
    return lines


def _versions_line(report):
    if report["served"] is None:
        return "nothing would be served"
    others = [str(number) for number in report["versions"] if number != report["served"]]
    return f"version {report['served']} would be served" + (
        f" (there too: {', '.join(others)})" if others else ""
    )
