"""Computes histograms of oriented gradients. NumPy only."""

import numpy as np

from dah_tf.baselines.features import base

CLIP, SMALL = 0.2, 1e-5


class HOG(base.Feature):
    """Histograms of oriented gradients: 324 numbers for an image of 32 x 32 pixels.

    The gradient of a pixel is the difference of its neighbours. It is 0 at the edge, and is taken
    from the channel in which it is longest. The histogram of a cell holds the mean length of its
    gradients for each unsigned direction. There is a block of `block` x `block` cells at each cell.
    Each block is divided by its Euclidean norm, cut at 0.2, and divided by its norm again. The
    number for block row u, block column v, cell row a and cell column b within the block, and
    orientation j is at position
    `(((u * columns + v) * block + a) * block + b) * orientations + j`. Pixels beyond the last whole
    cell are left out. A direction is counted in one bin only and is not shared with neighbouring
    bins, as in scikit-image.

    Args:
        orientations: int, the number of bins of a half turn.
        cell: int, the side of a cell in pixels.
        block: int, the side of a block in cells.

    Raises:
        ValueError: one of the arguments is below 1.

    References:
        Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005.
    """

    name = "hog"

    def __init__(self, *, orientations: int = 9, cell: int = 8, block: int = 2):
        if min(orientations, cell, block) < 1:
            raise ValueError("orientations, cell and block must be at least 1")
        self.orientations, self.cell, self.block = orientations, cell, block

    def _describe(self, images):
        n, height, width = images.shape[:3]
        rows, columns = height // self.cell, width // self.cell
        if min(rows, columns) < self.block:
            raise base.UserError(
                f"hog needs images of at least {self.cell * self.block} pixels a side, "
                f"but these have {height} x {width}"
            )
        length, direction = gradients(images)
        bins = np.minimum((direction * (self.orientations / np.pi)).astype(int), self.orientations)
        bins %= self.orientations
        cells = np.empty((n, rows, columns, self.orientations), np.float32)
        for each in range(self.orientations):
            part = np.where(bins == each, length, 0)[:, : rows * self.cell, : columns * self.cell]
            part = part.reshape(n, rows, self.cell, columns, self.cell)
            cells[..., each] = part.mean(axis=(2, 4))
        blocks = np.lib.stride_tricks.sliding_window_view(cells, (self.block,) * 2, axis=(1, 2))
        blocks = np.moveaxis(blocks, 3, 5).reshape(
            n, rows - self.block + 1, -1, cells[0, 0, 0].size * self.block**2
        )
        blocks = np.minimum(_unit(blocks), CLIP)
        return _unit(blocks).reshape(n, -1)


def gradients(images):
    """Returns the length and direction (from 0 to below pi) of gradients: float32 `(n, h, w)`."""
    images = images.astype(np.float32)
    down, right = np.zeros_like(images), np.zeros_like(images)
    down[:, 1:-1] = images[:, 2:] - images[:, :-2]
    right[:, :, 1:-1] = images[:, :, 2:] - images[:, :, :-2]
    length = np.hypot(down, right)
    longest = length.argmax(axis=3)[..., None]
    down, right, length = (
        np.take_along_axis(each, longest, axis=3)[..., 0] for each in (down, right, length)
    )
    return length, np.arctan2(down, right) % np.float32(np.pi)


def _unit(blocks):
    return blocks / np.sqrt(np.square(blocks).sum(axis=-1, keepdims=True) + SMALL**2)
