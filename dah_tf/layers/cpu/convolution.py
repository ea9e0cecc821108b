"""3x3 convolutions with fewer multiplications, for training on CPUs."""

import functools

import keras
import numpy as np
from keras import ops

from dah_tf.layers.cpu.fusion import on_cpu
from dah_tf.layers.package import PACKAGE

# The points at which polynomials are evaluated, in the order of growing rounding errors. Infinity
# is one more point.
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, -0.25)
LARGEST_TILE = len(POINTS) - 1
# The transforms are made for these values, so that a layer does not have them as arguments.
FIXED = {
    "kernel_size": 3,
    "strides": 1,
    "padding": "same",
    "data_format": "channels_last",
    "dilation_rate": 1,
    "groups": 1,
    "activation": None,
    "use_bias": False,
}
# For smaller numbers the transforms cost more than the multiplications that they save.
FEWEST_CHANNELS, SMALLEST_SIDE = 64, 3


@keras.saving.register_keras_serializable(PACKAGE)
class Conv3x3(keras.layers.Conv2D):
    """A 3x3 convolution of stride 1 with zero padding, no bias and no activation.

    The weights and the values are those of
    `keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)`. In training on a CPU in
    float32 it uses Winograd's minimal filtering if that is faster. The convolution and both of its
    gradients then need three to five times fewer multiplications. The relative error is at most
    1e-4, which is a tenth of that of TensorFloat-32.

    Args:
        filters: int, the number of output channels.
        **kwargs: arguments of `keras.layers.Conv2D` that are not in `FIXED`.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.
        training: bool.

    Returns:
        Tensor of shape `(n, h, w, filters)`.

    Raises:
        TypeError: an argument of `FIXED` is given.

    References:
        Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016).
    """

    def __init__(self, filters, **kwargs):
        super().__init__(filters, **FIXED, **kwargs)

    def call(self, inputs, training=None):
        if training and self._pays(inputs.shape):
            return winograd(inputs, self.kernel)
        return super().call(inputs)

    def _pays(self, shape):
        _, *sides, channels = shape
        return (
            self.compute_dtype == "float32"
            and min(channels, self.filters) >= FEWEST_CHANNELS
            and None not in sides
            and min(sides) >= SMALLEST_SIDE
            and on_cpu()
        )

    def get_config(self):
        return {name: value for name, value in super().get_config().items() if name not in FIXED}


def winograd(inputs, kernel):
    """Computes the 3x3 convolution with zero padding by products in a transformed image.

    Each transform is a small matrix that is applied along the height or the width. Padding,
    overlapping tiles and cropping are part of that matrix.

    Args:
        inputs: float32 tensor of shape `(n, h, w, channels)`, with known h and w.
        kernel: float32 tensor of shape `(3, 3, channels, filters)`.

    Returns:
        float32 tensor of shape `(n, h, w, filters)`.
    """
    n, height, width, channels = ops.shape(inputs)
    filters = kernel.shape[-1]
    rows, columns = transforms(height), transforms(width)
    (a, u), (b, v) = rows.tiling, columns.tiling

    x = ops.reshape(ops.transpose(inputs, (1, 2, 0, 3)), (height, width * n * channels))
    x = ops.reshape(ops.matmul(rows.inputs, x), (a * u, width, n * channels))
    x = ops.reshape(ops.matmul(columns.inputs, x), (a, u, b, v * n, channels))

    g = ops.matmul(rows.kernel, ops.reshape(kernel, (3, 3 * channels * filters)))
    g = ops.matmul(columns.kernel, ops.reshape(g, (a, 3, channels * filters)))
    y = ops.matmul(x, ops.reshape(g, (a, 1, b, channels, filters)))

    y = ops.matmul(columns.outputs, ops.reshape(y, (a * u, b * v, n * filters)))
    y = ops.matmul(rows.outputs, ops.reshape(y, (a * u, width * n * filters)))
    return ops.transpose(ops.reshape(y, (height, width, n, filters)), (2, 0, 1, 3))


class Transforms:
    """Winograd's transforms along an axis that is divided into tiles.

    Attributes:
        tiling: pair of ints, the points of a tile and the number of tiles.
        inputs: float32 array `(points * tiles, size)`.
        kernel: float32 array `(points, 3)`.
        outputs: float32 array `(size, points * tiles)`.
    """

    def __init__(self, size):
        tile = min(range(1, LARGEST_TILE + 1), key=lambda tile: -(-size // tile) * (tile + 2))
        points, tiles = tile + 2, -(-size // tile)
        of_input, of_kernel, of_output = minimal_filtering(tile)
        # There is one pixel of padding before, and after as many as the last tile reads.
        inputs = np.zeros((points, tiles, 1 + tiles * tile + 1))
        outputs = np.zeros((tiles * tile, points, tiles))
        for t in range(tiles):
            inputs[:, t, t * tile : t * tile + points] = of_input
            outputs[t * tile : (t + 1) * tile, :, t] = of_output
        self.tiling = points, tiles
        self.inputs = inputs[:, :, 1 : 1 + size].reshape(-1, size).astype(np.float32)
        self.kernel = of_kernel.astype(np.float32)
        self.outputs = outputs[:size].reshape(size, -1).astype(np.float32)


transforms = functools.cache(Transforms)


def minimal_filtering(tile):
    """Returns the matrices of Winograd's F(tile, 3).

    They fulfil `outputs = of_output @ (of_kernel @ kernel * (of_input @ inputs))`.

    Args:
        tile: int, the number of outputs that are computed together, from `tile + 2` inputs.

    Returns:
        float64 arrays `of_input` `(tile + 2, tile + 2)`, `of_kernel` `(tile + 2, 3)` and
        `of_output` `(tile, tile + 2)`.
    """
    points = np.array(POINTS[: tile + 1])
    count = len(points)
    of_input = np.zeros((count + 1, count + 1))
    of_kernel = np.zeros((count + 1, 3))
    of_output = np.zeros((tile, count + 1))
    for row, point in enumerate(points):
        others = np.delete(points, row)
        of_input[row, :count] = np.poly(others)[::-1]
        of_kernel[row] = point ** np.arange(3) / np.prod(point - others)
        of_output[:, row] = point ** np.arange(tile)
    of_input[count] = np.poly(points)[::-1]
    of_kernel[count, 2] = 1.0
    of_output[tile - 1, count] = 1.0
    return of_input, of_kernel, of_output
