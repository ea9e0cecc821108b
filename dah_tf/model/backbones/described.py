"""This module offers the hand-made features of `baselines` as backbones made of layers.

The backbones are `gist`, `hog` and `pixels`, and they have no weights. Their values equal those of
`baselines.features` up to float32 rounding, and the tests compare the two. A method that was
fitted on those features therefore finds the same values in the exported model.
"""

import keras
import numpy as np
from keras import ops

from dah_tf.baselines.features import gist as numpy_gist
from dah_tf.baselines.features import hog as numpy_hog
from dah_tf.errors import UserError
from dah_tf.layers import PACKAGE
from dah_tf.model.backbones.facts import Facts

FACTS = Facts(smallest=16, fixed=True)


def gist(channels: int = 3, *, size: int = 32) -> keras.Model:
    """Builds a backbone that computes the 512 GIST values of `baselines.features.gist.Gist`.

    Args:
        channels: int, 1 or 3.
        size: int, the side in pixels that images are first resized to.

    Returns:
        `keras.Model`.

    Raises:
        UserError: the size is too small.
    """
    return _backbone("gist", channels, Gist, size)


def hog(
    channels: int = 3, *, size: int = 32, orientations: int = 9, cell: int = 8, block: int = 2
) -> keras.Model:
    """Builds a backbone that computes histograms of oriented gradients.

    The arguments are explained at `baselines.features.hog.HOG`.

    Raises:
        UserError: one of the arguments is too small.
    """
    return _backbone("hog", channels, HOG, size, orientations, cell, block)


def pixels(channels: int = 3, *, size: int = 32) -> keras.Model:
    """Builds a backbone that returns all pixel values, scaled to the range from 0 to 1.

    The values are those of `baselines.features.pixels.Pixels`. The arguments, the result and the
    errors are the same as for `gist`.
    """
    return _backbone("pixels", channels, Pixels, size)


def _backbone(name, channels, kind, *options):
    try:
        layer = kind(*options, name=f"{name}_values")
    except ValueError as error:
        raise UserError(f"backbone {name}: {error}") from error
    # === Functional Model ===
    inputs = keras.Input((None, None, channels), name="pixels")
    return keras.Model(inputs, layer(inputs), name=name)


class Described(keras.layers.Layer):
    """Turns each square image into a row of numbers, in float32.

    Images may have any side. They are first resized to the same side.

    Args:
        size: int, the side in pixels that images are resized to.

    Call arguments:
        inputs: uint8 or float tensor of shape `(n, side, side, 1 or 3)` with values from 0 to
            255.

    Returns:
        float32 tensor of shape `(n, d)`.

    Raises:
        ValueError: the size is too small.
    """

    smallest = 1

    def __init__(self, size, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)
        if size < self.smallest:
            raise ValueError(f"size={size} must be at least {self.smallest} pixels")
        self.size = size

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        if x.shape[1] != self.size:
            ways = _resizing(x.shape[1], self.size)
            x = ops.einsum("ay,nyxc,bx->nabc", ways, x, ways)
        return self._describe(x)

    def _describe(self, x):
        raise NotImplementedError

    def _length(self, channels):
        raise NotImplementedError

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((inputs.shape[0], self._length(inputs.shape[-1])), "float32")

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(PACKAGE)
class Pixels(Described):
    """Returns every pixel value, row by row, scaled to the range from 0 to 1.

    The arguments, the call arguments and the result are those of `Described`.
    """

    def _length(self, channels):
        return self.size**2 * channels

    def _describe(self, x):
        return ops.reshape(x / 255.0, (-1, self._length(x.shape[-1])))


@keras.saving.register_keras_serializable(PACKAGE)
class Gist(Described):
    """Computes the spatial envelope of an image, which has 512 values.

    The arguments, the call arguments and the result are those of `Described`. Every Fourier
    transform is a product with a constant matrix, so that the layer runs under every back end
    and in every exported format.

    References:
        Oliva and Torralba, IJCV 2001; `baselines.features.gist`.
    """

    smallest = numpy_gist.CELLS

    def _length(self, channels):
        return numpy_gist.SCALES * numpy_gist.ORIENTATIONS * numpy_gist.CELLS**2

    def _describe(self, x):
        x = ops.mean(x, axis=-1)
        low, high = (each(x, axis=(1, 2), keepdims=True) for each in (ops.min, ops.max))
        x = _quotient(x - low, high - low) * 255.0
        x = self._normalised(x)
        n = self.size + 2 * numpy_gist.FILTER_PAD
        pad = _symmetric(self.size, numpy_gist.FILTER_PAD)
        cells = np.float32(numpy_gist.cell_means(self.size))
        found = []
        for each in numpy_gist.bank(self.size):
            # The matrices include the padding and hold only the frequencies that matter.
            rows, columns = (_parts(_waves(f, n) @ pad) for f in (each.rows, each.columns))
            part = _product(_product(rows, (x, None)), tuple(half.T for half in columns))
            part = tuple(half * each.gains for half in part)
            part = _product(_product(_parts(each.back_rows), part), _parts(each.back_columns))
            strength = ops.sqrt(part[0] * part[0] + part[1] * part[1])
            found.append(ops.matmul(ops.matmul(cells, strength), cells.T))
        found = ops.reshape(ops.stack(found, axis=1), (-1, self._length(None)))
        return _quotient(found, ops.sqrt(ops.sum(found * found, axis=1, keepdims=True)))

    def _normalised(self, x):
        """Removes local mean and contrast, as `baselines.features.gist.normalised` does."""
        pad, side = numpy_gist.LOCAL_PAD, self.size
        wide = _symmetric(side, pad)
        if side % 2:
            wide = _symmetric(len(wide), 1)[1:] @ wide
        n = len(wide)
        gains = np.exp(-(np.fft.fftfreq(n, 1 / n) ** 2) * np.log(2) / numpy_gist.LOCAL_CYCLES**2)
        smooth = np.float32(
            np.fft.ifft(gains[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0).real
        )
        wide = np.float32(wide)

        def both(matrix, image):
            return ops.matmul(ops.matmul(matrix, image), matrix.T)

        o = both(wide, ops.log(1.0 + x))
        o = o - both(smooth, o)
        o = o / (numpy_gist.LOCAL_OFFSET + ops.sqrt(ops.absolute(both(smooth, o * o))))
        return o[:, pad : pad + side, pad : pad + side]


@keras.saving.register_keras_serializable(PACKAGE)
class HOG(Described):
    """Computes histograms of oriented gradients.

    The call arguments and the result are those of `Described`.

    Args:
        size, orientations, cell, block: ints, which are explained at `hog`.

    Raises:
        ValueError: one of the arguments is too small.

    References:
        Dalal and Triggs, CVPR 2005; `baselines.features.hog`.
    """

    def __init__(self, size, orientations, cell, block, **kwargs):
        super().__init__(size, **kwargs)
        if min(orientations, cell, block) < 1 or size < cell * block:
            raise ValueError(
                f"orientations, cell and block must be at least 1, and size at least cell * block. "
                f"Received: {orientations}, {cell}, {block} and {size}"
            )
        self.orientations, self.cell, self.block = orientations, cell, block

    def _length(self, channels):
        return (self.size // self.cell - self.block + 1) ** 2 * self.block**2 * self.orientations

    def _describe(self, x):
        count, used = self.size // self.cell, self.size // self.cell * self.cell
        down = ops.pad(x[:, 2:] - x[:, :-2], ((0, 0), (1, 1), (0, 0), (0, 0)))
        right = ops.pad(x[:, :, 2:] - x[:, :, :-2], ((0, 0), (0, 0), (1, 1), (0, 0)))
        length = ops.sqrt(down * down + right * right)
        longest = ops.one_hot(ops.argmax(length, axis=-1), x.shape[-1], dtype="float32")
        down, right, length = (ops.sum(each * longest, axis=-1) for each in (down, right, length))
        direction = ops.mod(ops.arctan2(down, right), np.float32(np.pi))
        bins = ops.floor(direction * np.float32(self.orientations / np.pi))
        bins = ops.mod(ops.minimum(bins, float(self.orientations)), float(self.orientations))
        shares = ops.cast(
            bins[..., None] == np.arange(self.orientations, dtype="float32"), "float32"
        )
        shares = (shares * length[..., None])[:, :used, :used]
        shape = (-1, count, self.cell, count, self.cell, self.orientations)
        cells = ops.mean(ops.reshape(shares, shape), axis=(2, 4))
        blocks, last = [], count - self.block + 1
        for row in range(self.block):
            blocks += [cells[:, row : row + last, c : c + last] for c in range(self.block)]
        blocks = ops.reshape(
            ops.stack(blocks, axis=3), (-1, last, last, len(blocks) * self.orientations)
        )
        blocks = _unit(ops.minimum(_unit(blocks), numpy_hog.CLIP))
        return ops.reshape(blocks, (-1, self._length(None)))

    def get_config(self):
        names = ("orientations", "cell", "block")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _resizing(old, new):
    """Makes the matrix that resizes a column by antialiased bilinear interpolation.

    The matrix is float32 and has the shape `(new, old)`.
    """
    wide = max(1.0, old / new)
    at = (np.arange(new) + 0.5) * old / new
    weights = np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(old) - 0.5) / wide)
    return np.float32(weights / weights.sum(axis=1, keepdims=True))


def _quotient(x, by):
    """Returns `x / by`, and 0 where `by` is 0."""
    return ops.where(by > 0, x / ops.where(by > 0, by, 1.0), 0.0)


def _unit(blocks):
    return blocks / ops.sqrt(ops.sum(blocks * blocks, axis=-1, keepdims=True) + numpy_hog.SMALL**2)


def _symmetric(side, pad):
    """Makes a matrix of shape `(side + 2 pad, side)` that pads a column symmetrically."""
    return np.eye(side)[np.pad(np.arange(side), pad, "symmetric")]


def _waves(frequencies, n):
    """Returns rows of the Fourier matrix for a signal of length n.

    The result is complex and has the shape `(frequencies, n)`.
    """
    return np.exp(-2j * np.pi * np.outer(frequencies, np.arange(n)) / n)


def _parts(matrix):
    return np.float32(matrix.real), np.float32(matrix.imag)


def _product(a, b):
    """Multiplies complex matrices. Each one is a pair of its real and its imaginary part."""
    if b[1] is None:
        return ops.matmul(a[0], b[0]), ops.matmul(a[1], b[0])
    real = ops.matmul(a[0], b[0]) - ops.matmul(a[1], b[1])
    return real, ops.matmul(a[0], b[1]) + ops.matmul(a[1], b[0])
