"""OpenVINO with convolutions and matrix products in bfloat16, from the same files as in float32.

Processors that do not multiply bfloat16 compute in float32.
"""

from dah_tf.runtimes import open_vino

TITLE = "OpenVINO bfloat16"
FILES = open_vino.FILES
EXTRA, PACKAGES, WRITING = open_vino.EXTRA, open_vino.PACKAGES, open_vino.WRITING
EXACT = False


def write(function, folder, images):
    """As `open_vino`, where that has not written them."""
    if not all((folder / file).exists() for file in FILES):
        open_vino.write(function, folder, images)


def load(folder, threads):
    return open_vino.load(folder, threads, precision="bf16")
