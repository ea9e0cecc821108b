"""The format of OpenVINO that computes convolutions and matrix products in bfloat16.

This includes the hash layer and the class layer. Processors that cannot multiply bfloat16 numbers
compute in float32.
"""

from dah_tf.runtimes import open_vino

TITLE = "OpenVINO bfloat16"
FILES = ("openvino_bf16.xml", "openvino_bf16.bin")
EXTRA, PACKAGES, WRITING = open_vino.EXTRA, open_vino.PACKAGES, open_vino.WRITING
EXACT = False


def write(function, folder, images):
    """Writes `openvino_bf16.xml` and `openvino_bf16.bin`. The weights have half precision."""
    open_vino.write(function, folder, images, FILES[0], compress=True)


def load(folder, threads):
    return open_vino.load(folder, threads, precision="bf16", file=FILES[0])
