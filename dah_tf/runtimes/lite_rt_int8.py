"""The format of LiteRT that computes convolutions and matrix products in int8."""

from dah_tf.runtimes import lite_rt

TITLE = "LiteRT int8"
FILES = ("model.int8.tflite",)
EXTRA, PACKAGES, WRITING = lite_rt.EXTRA, lite_rt.PACKAGES, lite_rt.WRITING
EXACT = False


def write(function, folder, images):
    """Writes `model.int8.tflite`.

    Args:
        function: the same as for `lite_rt.write`.
        folder: `pathlib.Path` of the folder.
        images: uint8 array of shape `(n, size, size, channels)`, which calibrates the ranges.
    """
    (folder / FILES[0]).write_bytes(lite_rt.convert(function, images))


def load(folder, threads):
    return lite_rt.load(folder, threads, FILES[0])
