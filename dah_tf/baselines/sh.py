"""Implements SH, spectral hashing."""

from typing import ClassVar

import numpy as np

from dah_tf.baselines import base, linear
from dah_tf.baselines.rows import blocks


class SH(base.Cosine):
    """Spectral hashing: the smoothest eigenfunctions along the principal axes.

    It assumes that X is uniform in a box along its principal axes, where a_i and b_i are the ends
    of axis i. The eigenfunctions of the graph Laplacian are then `sin(pi / 2 + w (v_i - a_i))` with
    `w = j pi / (b_i - a_i)`, j = 1, 2, ... The n_bits eigenfunctions with the smallest w become the
    bits, so a long axis gives several bits. Because `sin(pi / 2 + t) = cos t`, the columns of
    `components_` are the axes times w.

    The ends are the smallest and the largest value in the training data, as in the authors' code.
    New rows may lie outside of them.

    Attributes:
        axes_: int array of shape `(n_bits,)`, the principal axis of each bit, counted from 0.
        frequencies_: float64 array of shape `(n_bits,)`, w in ascending order.

    References:
        Weiss, Torralba and Fergus, "Spectral hashing", NIPS 2008.
    """

    TITLE = "SH (2008)"
    SOURCE = "code"
    STATE: ClassVar = {**base.Cosine.STATE, "axes_": "k", "frequencies_": "k"}

    def _learn(self, X, supervision, rng):
        self.mean_, axes, _ = linear.principal(X, self.n_bits)
        low, high = np.full(axes.shape[1], np.inf), np.full(axes.shape[1], -np.inf)
        for _, block in blocks(X):
            values = (block - self.mean_) @ axes
            low = np.minimum(low, values.min(axis=0))
            high = np.maximum(high, values.max(axis=0))
        low, high = low - np.finfo(np.float64).eps, high + np.finfo(np.float64).eps
        self.axes_, self.frequencies_ = modes(high - low, self.n_bits)
        self.components_ = axes[:, self.axes_] * self.frequencies_
        self.phases_ = low[self.axes_] * self.frequencies_


def modes(ranges, count):
    """Returns the `count` smallest frequencies `j pi / range`, where j starts at 1.

    Args:
        ranges: float array of shape `(p,)`, the length of each axis, above 0.
        count: int, the number of frequencies.

    Returns:
        Two arrays of shape `(count,)`: the axis of each mode, and its frequency. The frequencies
        are in ascending order. If they are equal, the earlier axis comes first.
    """
    # The longest axis alone has `count` modes. Another axis needs fewer, by the ratio of the lengths.
    most = np.ceil(count * ranges / ranges.max()).astype(int)
    axes = np.repeat(np.arange(len(ranges)), most)
    j = np.concatenate([np.arange(1, each + 1) for each in most])
    frequencies = j * np.pi / ranges[axes]
    order = np.lexsort((axes, frequencies))[:count]
    return axes[order], frequencies[order]
