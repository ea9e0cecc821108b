"""The format of LiteRT, which was formerly named TensorFlow Lite."""

import tempfile

from dah_tf.runtimes.opening import opening

TITLE = "LiteRT"
FILES = ("model.tflite",)
EXTRA, PACKAGES = "litert", ("ai_edge_litert",)
WRITING = ("tensorflow", "ai_edge_litert")
EXACT = True

SIGNATURE = "pixels"


def write(function, folder, images):
    """Writes `model.tflite`. The arguments are those of `onnx_runtime.write`."""
    (folder / FILES[0]).write_bytes(convert(function))


def convert(function, images=None):
    """Converts a `tf.function` to a LiteRT model, which is returned as bytes.

    Args:
        function: `tf.function` with an input signature.
        images: uint8 array of shape `(n, size, size, channels)`, or None. If it is given,
            convolutions and matrix products are computed in int8, and the value ranges are
            calibrated with these images.
    """
    import tensorflow as tf

    class Holder(tf.Module):
        @tf.function(input_signature=function.input_signature)
        def serve(self, pixels):
            return frozen(pixels)

    frozen = _frozen(function)
    holder = Holder()
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(holder, folder, signatures={SIGNATURE: holder.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        if images is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                (SIGNATURE, {"pixels": images[row : row + 1]}) for row in range(len(images))
            )
        return converter.convert()


def _frozen(function):
    """Returns the function with its variables as constants and with named outputs."""
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    concrete = function.get_concrete_function()
    names = sorted(concrete.structured_outputs)
    frozen = convert_variables_to_constants_v2(concrete)

    def run(pixels):
        return dict(zip(names, frozen(pixels), strict=True))

    return run


def load(folder, threads, file=FILES[0]):
    from ai_edge_litert.interpreter import Interpreter

    # A `RuntimeError` means that this version of LiteRT lacks an operation.
    with opening(folder / file, OSError, ValueError, RuntimeError):
        content = (folder / file).read_bytes()
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()  # It prints a message, so it is called here.
        runner = interpreter.get_signature_runner(SIGNATURE)

    def run(pixels):
        return dict(runner(pixels=pixels))

    run.interpreter = interpreter
    return run
