"""The ONNX format, for ONNX Runtime and for all other programs that read it."""

import numpy as np

from dah_tf.runtimes.opening import opening

TITLE = "ONNX Runtime"
FILES = ("model.onnx",)
EXTRA, PACKAGES = "onnx", ("onnxruntime",)
WRITING = ("tf2onnx", "onnx")
EXACT = True

OPSET = 18


def write(function, folder, images):
    """Writes `model.onnx`.

    Args:
        function: `tf.function` with an input signature.
        folder: `pathlib.Path` of the folder.
        images: this argument is not used.
    """
    (folder / FILES[0]).write_bytes(convert(function).SerializeToString())


def convert(function):
    """Converts a `tf.function` to an ONNX `ModelProto`."""
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(
        function,
        input_signature=function.input_signature,
        opset=OPSET,
        custom_op_handlers={"Erfc": (_erfc, [])},
    )
    # tf2onnx names the outputs Identity, Identity:1, ... Structured outputs are sorted by name.
    names = sorted(function.get_concrete_function().structured_outputs)
    for output, name in zip(proto.graph.output, names, strict=True):
        for node in proto.graph.node:
            for place, produced in enumerate(node.output):
                if produced == output.name:
                    node.output[place] = name
            for place, consumed in enumerate(node.input):
                if consumed == output.name:
                    node.input[place] = name
        output.name = name
    return proto


def _erfc(graph, node, name, _):
    """Computes 1 - erf(x), a part of GELU, which tf2onnx and ONNX do not support."""
    graph.remove_node(name)
    one = graph.make_const(f"{name}_one", np.array(1.0, np.float32))
    erf = graph.make_node("Erf", node.input)
    graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, name=name)


def load(folder, threads):
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait for the next batch would occupy cores that decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = folder / FILES[0]
    faults = raised.Fail, raised.InvalidArgument, raised.InvalidGraph, raised.InvalidProtobuf
    # `NotImplemented` is raised for an operation of a newer opset.
    with opening(path, *faults, raised.NoSuchFile, raised.NotImplemented):
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    names = [output.name for output in session.get_outputs()]
    return lambda pixels: dict(zip(names, session.run(None, {"pixels": pixels}), strict=True))
