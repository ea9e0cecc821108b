"""The format of OpenVINO that computes convolutions in int8."""

import pathlib
import tempfile

from dah_tf.runtimes import onnx_runtime, open_vino

TITLE = "OpenVINO int8"
FILES = ("openvino_int8.xml", "openvino_int8.bin")
EXTRA, PACKAGES = open_vino.EXTRA, open_vino.PACKAGES
WRITING = (*open_vino.WRITING, "onnxruntime")
EXACT = False


def write(function, folder, images):
    """Writes `openvino_int8.xml` and `openvino_int8.bin`.

    The weights have 7 bits, and each channel has a scale. The reason is that processors without
    VNNI keep the sum of two products of 8-bit numbers in 16 bits, where it may not fit.

    Args:
        function: the same as for `onnx_runtime.write`.
        folder: `pathlib.Path` of the folder.
        images: uint8 array of shape `(n, size, size, channels)`, which calibrates the ranges.
    """
    import openvino
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches = ({"pixels": images[row : row + 1]} for row in range(len(images)))

        def get_next(self):
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as name:
        onnx_runtime.write(function, pathlib.Path(name), images)
        plain, folded, quantised = (
            str(pathlib.Path(name, file))
            for file in (onnx_runtime.FILES[0], "folded.onnx", "quantised.onnx")
        )
        quant_pre_process(plain, folded, skip_symbolic_shape=True)
        quantize_static(
            folded,
            quantised,
            Reader(),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        openvino.save_model(
            openvino.convert_model(quantised), folder / FILES[0], compress_to_fp16=False
        )


def load(folder, threads):
    return open_vino.load(folder, threads, file=FILES[0])
