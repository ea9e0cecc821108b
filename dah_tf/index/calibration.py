"""Measures with which effort an approximate search reaches a recall, on the stored codes."""

import warnings

import numpy as np

from dah_tf import codes as packed

SAMPLE, NEIGHBOURS = 256, 10


class RecallWarning(UserWarning):
    """An approximate backend finds a smaller share of the nearest codes than it should."""


def queries(codes, distances, bits, rng):
    """Makes query codes that are as far from the stored codes as these are from each other.

    A stored code is not a good query: the search finds the code itself, and a graph leads from it
    to its neighbours, so that the measured recall would be too high. The same holds for a code
    with one or two flipped bits if the stored codes are ten bits apart.

    Args:
        codes: uint8 array of shape `(n, ceil(bits / 8))`, some stored codes.
        distances: int array of shape `(n, m)`, the ascending distances from each of them to the
            nearest stored codes.
        bits: int, the code length.
        rng: `numpy.random.Generator`.

    Returns:
        uint8 array like `codes`. In each code, random bits are flipped, as many as the distance to
        the nearest different code. If only equal codes are known, one bit is flipped.
    """
    other = np.where(distances > 0, distances, bits + 1).min(axis=1, initial=bits + 1)
    flipped = np.where(other > bits, 1, other)
    order = rng.random((len(codes), bits)).argsort(axis=1).argsort(axis=1)
    return codes ^ packed.pack(order < flipped[:, None])


def found_share(found, truth):
    """Returns the share of the nearest codes that was found.

    Args:
        found: int distances of shape `(q, k)`, with -1 for missing ones.
        truth: the distances of the exact search.

    Returns:
        float.
    """
    last = truth.max(axis=1, keepdims=True, initial=0)
    # Every code that is as near as the last exact one is right. Which of several codes at the same
    # distance is found is a matter of chance.
    right = ((found >= 0) & (found <= last)).sum()
    return float(right / max(1, (truth >= 0).sum()))


def least_effort(search, truth, efforts, recall):
    """Returns the least effort with which a search finds the wanted share.

    Args:
        search: function that takes an effort and returns int distances of shape `(q, k)`, with -1
            for missing ones.
        truth: the distances of the exact search.
        efforts: list of int, ascending.
        recall: float, the wanted share of the nearest codes.

    Returns:
        One of the efforts, and the share that it finds. If none is enough, it is the last effort.
    """
    for effort in efforts:
        reached = found_share(search(effort), truth)
        if reached >= recall:
            break
    return effort, reached


def warn(backend, recall, reached):
    """Warns that a recall was not reached."""
    warnings.warn(
        f"{backend} finds a share of {reached:.3f} of the nearest {NEIGHBOURS} with its largest "
        f"effort, but {recall:g} was asked for; the backend flat finds all of them",
        RecallWarning,
        stacklevel=2,
    )
