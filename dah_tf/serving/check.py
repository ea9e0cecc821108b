"""Checks the folder of a model as TensorFlow Serving would load and run it."""

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

STEADY_SECONDS, STEADY_RUNS = 0.5, 5  # the measurement of a batch size ends at the first of these


def check(model):
    """Loads the version that would be served, and runs its warm-up requests.

    Args:
        model: path of the model's folder, which contains a folder for each version.

    Returns:
        Dict that JSON can hold: `model`, `versions`, `served` (the version, or None), `faults`
        (list of str, one line each, which is empty for a good model), `load_seconds`, `signatures`
        (name to `inputs` and `outputs`, each a dict of name to `dtype` and `shape`) and `latency`
        (list of dicts with `signature`, `batch`, `first_ms` and `steady_ms`).

    Raises:
        UserError: the folder does not exist, or TensorFlow is not installed.
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
            f"{model} has no version folder, because it is a SavedModel itself; TensorFlow Serving "
            f"needs the SavedModel in a folder whose name is a whole number, such as {model}/1"
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
    """Returns the faults of the files of the graph and of the variables."""
    graph = folder / layout.GRAPH
    try:
        saved = messages.SavedModel.FromString(graph.read_bytes())
    except OSError as error:
        return [f"{graph} cannot be read: {error.strerror}"]
    except DecodeError:
        return [f"{graph} is not a SavedModel, or is cut short"]
    tags = [list(meta.meta_info_def.tags) for meta in saved.meta_graphs]
    if [TAG] not in tags:
        return [f"{graph} has no graph with the tag {TAG!r}, only {tags}"]
    if not (folder / layout.VARIABLES).is_file():
        return [f"{folder / layout.VARIABLES} is missing, so that the model has no variables"]
    return []


def _description(folder):
    """Returns the content of `dah.json`, or None, and its faults."""
    path = folder / layout.DESCRIPTION
    try:
        description = json.loads(path.read_text())
    except OSError as error:
        return None, [f"{path} cannot be read: {error.strerror}"]
    except ValueError:
        return None, [f"{path} is not valid JSON"]
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
            f"{path} has {description['bytes_per_code']} bytes for each code of "
            f"{description['bits']} bits"
        )
    if description["classes"] != len(description["class_names"]):
        faults.append(
            f"{path} has {len(description['class_names'])} names for "
            f"{description['classes']} classes"
        )
    return description, faults


def _warmup(folder):
    """Returns the warm-up requests, and the faults of their file."""
    path = folder / layout.WARMUP
    try:
        requests = warmup.read(folder)
    except OSError as error:
        return [], [f"{path} cannot be read, which makes the first answers slow: {error.strerror}"]
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
    """Runs all requests, records their times in `latency`, and returns the faults."""
    faults = {}  # used as an ordered set, because many requests can have the same fault
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
    """Yields the faults of an answer."""
    if "valid" in reply and not reply["valid"].all():
        yield f"{folder}: {signature} cannot decode the images of the warm-up"
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
                yield f"{path} does not fit the codes of the model: {error}"


def _steady(model, signature, inputs):
    """Returns the median seconds of a call that was made before."""
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
    """Returns the report as lines of text."""
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
    count = len(report["faults"])
    lines.append(f"the model has {count} fault(s)" if count else "the model is good")
    return lines


def _versions_line(report):
    if report["served"] is None:
        return "nothing would be served"
    others = [str(number) for number in report["versions"] if number != report["served"]]
    return f"version {report['served']} would be served" + (
        f" (other versions: {', '.join(others)})" if others else ""
    )
