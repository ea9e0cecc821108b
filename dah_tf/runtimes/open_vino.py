"""The format of OpenVINO."""

import pathlib
import tempfile

from dah_tf.runtimes import onnx_runtime
from dah_tf.runtimes.opening import opening

TITLE = "OpenVINO"
FILES = ("openvino.xml", "openvino.bin")
EXTRA, PACKAGES = "openvino", ("openvino",)
WRITING = ("openvino", *onnx_runtime.WRITING)
EXACT = True


def write(function, folder, images, file=FILES[0], compress=False):
    """Writes `openvino.xml` and `openvino.bin` in float32. For the arguments see `onnx_runtime`."""
    import openvino

    with tempfile.TemporaryDirectory() as name:
        onnx_runtime.write(function, pathlib.Path(name), images)
        model = openvino.convert_model(pathlib.Path(name, onnx_runtime.FILES[0]))
        openvino.save_model(model, folder / file, compress_to_fp16=compress)


def load(folder, threads, precision="f32", file=FILES[0]):
    """Runs the model in float32. By default OpenVINO uses bfloat16 if the processor has it."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }
    core = openvino.Core()
    with opening(folder / file, RuntimeError):  # OpenVINO raises no other error.
        compiled = core.compile_model(folder / file, "CPU", settings)
    request = compiled.create_infer_request()
    names = [output.any_name for output in compiled.outputs]

    def run(pixels):
        found = request.infer([pixels])
        return {name: found[place].copy() for place, name in enumerate(names)}

    return run
