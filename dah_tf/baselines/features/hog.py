"""Histograms of oriented gradients. NumPy only."""

import numpy as np

from dah_tf.baselines.features import base

CLIP, SMALL = 0.2, 1e-5


class HOG(base.Feature):
    """Histograms of oriented gradients: 324 numbers of an image of 32 x 32 pixels.

    The gradient of a pixel is the difference of its neighbours, 0 at the edge, in the channel
    where it is longest. A cell's histogram has the mean length of its gradients by unsigned
    direction. Blocks of `block` x `block` cells, one at each cell, are divided by their Euclidean
    norm, cut at 0.2 and divided again. The number of block row u, block column v, cell row a and
    cell column b within the block, and orientation j is at place
    `(((u * columns + v) * block + a) * block + b) * orientations + j`. Pixels beyond the last
    whole cell are left out. Directions are not shared between neighbouring bins, as scikit-image
    has it.

    Args:
        orientations: int, bins of a half turn.
        cell: int, a cell's side in pixels.
        block: int, a block's side in cells.

    Raises:
        ValueError: one of them is below 1.

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
                f"received {height} x {width}"
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
    """Length and direction, from 0 to below pi, of each pixel's gradient: float32 `(n, h, w)`."""
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
