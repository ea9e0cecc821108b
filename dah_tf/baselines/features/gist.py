"""Computes GIST, the feature on which most published figures of shallow hash methods are based.

It needs NumPy, and threadpoolctl, which is installed with scikit-learn.
"""

import functools

import numpy as np
from threadpoolctl import threadpool_limits

from dah_tf.baselines.features import base

SCALES, ORIENTATIONS, CELLS = 4, 8, 4
LOCAL_PAD, LOCAL_CYCLES, LOCAL_OFFSET = 5, 4.0, 0.2
FILTER_PAD = 32
# Frequencies at which a filter is below this share of its largest value are left out. This changes
# the result by 1e-4 of a rounding error of float32, and saves three quarters of the work.
NEGLIGIBLE = 1e-7


class Gist(base.Feature):
    """The spatial envelope: 512 numbers, the mean strength of 32 Gabor filters in 4 x 4 cells.

    The number for scale s, orientation j, cell row u and cell column v is at position
    `((8 s + j) * 4 + u) * 4 + v`. Let x be the mean of the channels, stretched to 0..255 in each
    image, and let f be measured in cycles per padded image. These are the steps:

    1. y = ln(1 + x) is padded by 5 pixels symmetrically. Then o = y - y * g, where the Fourier
       transform of g is exp(-f² ln 2 / 16). The result is o / (0.2 + sqrt|o² * g|) with the padding
       cut off.
    2. The result is padded by 32 pixels symmetrically and filtered on the Fourier grid by
       exp(-3.5 (r / (0.3 * 1.85^-s) - 1)² - 2 pi a²). Here r is in cycles per pixel, and a is the
       polar angle + pi j / 8, wrapped to ±pi. The magnitudes are taken, and the padding is cut off.
    3. The means of the magnitudes over 4 x 4 cells are divided by the Euclidean norm of all 512.

    The constants are those of the authors' `createGabor`, `prefilt` and `LMgist`. Because each
    image is stretched, the feature does not depend on brightness and contrast. A constant image
    gives zeros. `LMgist` can first resize images to a chosen side, and papers on CIFAR-10 do not
    say whether they did so. Here images are not resized unless `size` is given.

    Args:
        size: int, the side in pixels to which images are first resized bilinearly. None keeps
            their size.

    Raises:
        ValueError: the size is below 8.

    References:
        Oliva and Torralba, "Modeling the shape of the scene: a holistic representation of the
        spatial envelope", IJCV 2001.
    """

    name = "gist"

    def __init__(self, *, size: int | None = None):
        if size is not None and size < 8:
            raise ValueError(f"size={size} must be at least 8 pixels")
        self.size = size

    def _describe(self, images):
        side = base.square(images, self.name)
        x = stretched(base.gray(images))
        if self.size not in (None, side):
            ways = _interpolation(side, self.size)
            x, side = stretched(ways @ x @ ways.T), self.size
        if side < CELLS:
            raise base.UserError(f"gist needs images of at least {CELLS} pixels a side")
        x = np.pad(normalised(x), _around(FILTER_PAD), "symmetric").astype(np.float32)
        spectrum = np.fft.fft2(x)
        # The products are too small for several threads, which would only wait for each other.
        with threadpool_limits(1, "blas"):
            result = filtered(spectrum, side).reshape(len(x), -1)
        norm = np.linalg.norm(result, axis=1, keepdims=True)
        return np.divide(result, norm, out=np.zeros_like(result), where=norm > 0)


def stretched(x):
    """Stretches the values of each image to 0..255. A constant image becomes 0."""
    low, high = (each(x, axis=(1, 2), keepdims=True) for each in (np.min, np.max))
    span = high - low
    return np.divide(x - low, span, out=np.zeros_like(x), where=span > 0) * 255


def normalised(x):
    """Removes local mean and contrast (step 1 of `Gist`): float64 `(n, side, side)`."""
    side = x.shape[1]
    o = np.pad(np.log1p(x), _around(LOCAL_PAD), "symmetric")
    odd = o.shape[1] % 2
    o = np.pad(o, ((0, 0), (0, odd), (0, odd)), "symmetric")
    f = np.fft.fftfreq(o.shape[1], 1 / o.shape[1])
    gains = np.exp(-(f[:, None] ** 2 + f**2) * np.log(2) / LOCAL_CYCLES**2)
    gains = gains[:, : o.shape[1] // 2 + 1]

    def smooth(image):
        return np.fft.irfft2(np.fft.rfft2(image) * gains, s=image.shape[1:])

    o = o - smooth(o)
    o = o / (LOCAL_OFFSET + np.sqrt(np.abs(smooth(o * o))))
    return o[:, LOCAL_PAD : LOCAL_PAD + side, LOCAL_PAD : LOCAL_PAD + side]


def gabor(n, scale, orientation):
    """Returns a filter of step 2 on the Fourier grid of n x n pixels: float64 `(n, n)`."""
    f = np.fft.fftfreq(n)
    radius = np.hypot(f[:, None], f)
    angle = np.arctan2(f[:, None], f) + np.pi * orientation / ORIENTATIONS
    angle = np.where(angle > np.pi, angle - 2 * np.pi, angle)
    angle = np.where(angle < -np.pi, angle + 2 * np.pi, angle)
    centre = 0.3 * 1.85**-scale
    return np.exp(-3.5 * (radius / centre - 1) ** 2 - 2 * np.pi * angle**2)


class Filter:
    """The frequencies of a filter that matter, and the inverse transform of only these."""

    def __init__(self, side, scale, orientation):
        n = side + 2 * FILTER_PAD
        gains = gabor(n, scale, orientation)
        matter = gains > NEGLIGIBLE * gains.max()
        self.rows, self.columns = (np.flatnonzero(matter.any(axis=axis)) for axis in (1, 0))
        self.gains = gains[np.ix_(self.rows, self.columns)].astype(np.float32)
        pixels = np.arange(FILTER_PAD, FILTER_PAD + side)

        def back(frequencies):
            waves = np.exp(2j * np.pi * np.outer(pixels, frequencies) / n) / n
            return waves.astype(np.complex64)

        self.back_rows, self.back_columns = back(self.rows), back(self.columns).T.copy()


def filtered(spectrum, side):
    """Returns mean magnitudes in cells: float32 `(n, 32, 4, 4)` for the padded images' spectrum."""
    result = np.empty((len(spectrum), SCALES * ORIENTATIONS, CELLS, CELLS), np.float32)
    cells = cell_means(side).astype(np.float32)
    for place, each in enumerate(bank(side)):
        # The inverse transform is computed only for the pixels and frequencies that matter.
        part = spectrum[:, each.rows][:, :, each.columns] * each.gains
        image = each.back_rows @ (part @ each.back_columns)
        magnitude = np.sqrt(np.square(image.real) + np.square(image.imag))
        result[:, place] = cells @ magnitude @ cells.T
    return result


@functools.lru_cache(maxsize=4)
def bank(side):
    """Returns the 32 filters for images with the given side, ordered by scale."""
    return [Filter(side, s, j) for s in range(SCALES) for j in range(ORIENTATIONS)]


def cell_means(side):
    """Returns a `(4, side)` matrix. Its product with a column gives the column's cell means."""
    edges = np.linspace(0, side, CELLS + 1).astype(int)
    result = np.zeros((CELLS, side))
    for cell in range(CELLS):
        result[cell, edges[cell] : edges[cell + 1]] = 1 / (edges[cell + 1] - edges[cell])
    return result


def _interpolation(old, new):
    """Returns a `(new, old)` matrix for bilinear resizing. Pixel centres are at halves."""
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    below = np.minimum(at.astype(int), max(old - 2, 0))
    result = np.zeros((new, old))
    result[np.arange(new), below] = 1 - (at - below)
    result[np.arange(new), np.minimum(below + 1, old - 1)] += at - below
    return result


def _around(width):
    return ((0, 0), (width, width), (width, width))
