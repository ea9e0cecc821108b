"""The least effort at which an approximate search reaches a recall, measured on stored codes."""

import warnings

import numpy as np

from dah_tf import codes as packed

SAMPLE, NEIGHBOURS = 256, 10


class RecallWarning(UserWarning):
    """An approximate backend finds a smaller share of the nearest than it was asked for."""


def queries(codes, distances, bits, rng):
    """Codes that lie as far from the stored ones as a stored one lies from the others.

    A stored code as a query would find itself, and a graph leads from it to its neighbours: the
    measured recall would be that of no other query. So would be that of a code with a bit or two
    flipped, where the stored ones are ten bits apart.

    Args:
        codes: uint8 array of shape `(n, ceil(bits / 8))`, some stored codes.
        distances: int array of shape `(n, m)`, from each to the nearest stored codes, ascending.
        bits: int, code length.
        rng: `numpy.random.Generator`.

    Returns:
        uint8 array like `codes`: of each as many random bits are flipped as the nearest code that
        is not equal is away; one bit where only equal ones are known.
    """
    other = np.where(distances > 0, distances, bits + 1).min(axis=1, initial=bits + 1)
    flipped = np.where(other > bits, 1, other)
    order = rng.random((len(codes), bits)).argsort(axis=1).argsort(axis=1)
    return codes ^ packed.pack(order < flipped[:, None])


def found_share(found, truth):
    """Which share of the nearest was found.

    Args:
        found: int distances of shape `(q, k)`; -1 for none.
        truth: the exact ones.

    Returns:
        float.
    """
    last = truth.max(axis=1, keepdims=True, initial=0)
    # Anything as near as the true last one is right: which of equals is found is chance.
    right = ((found >= 0) & (found <= last)).sum()
    return float(right / max(1, (truth >= 0).sum()))


def least_effort(search, truth, efforts, recall):
    """The least effort at which a search finds the wanted share.

    Args:
        search: function of an effort to int distances of shape `(q, k)`, -1 for none.
        truth: the exact ones.
        efforts: list of int, ascending.
        recall: float, share of the nearest.

    Returns:
        int, one of the efforts, the last one where none is enough; and the share that it finds.
    """
    for effort in efforts:
        reached = found_share(search(effort), truth)
        if reached >= recall:
            break
    return effort, reached


def warn(backend, recall, reached):
    """Says that a recall was not reached."""
    warnings.warn(
        f"{backend} finds {reached:.3f} of the nearest {NEIGHBOURS} at its largest effort, "
        f"not the {recall:g} asked for; flat finds all of them",
        RecallWarning,
        stacklevel=2,
    )
