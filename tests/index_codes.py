"""Codes for the tests of the index."""

from dah_tf import codes as packed


def make(rng, bits, n, distinct=None):
    """Packed codes; with `distinct`, only so many different ones, near a few centres."""
    if distinct is None:
        return packed.pack(rng.integers(0, 2, (n, bits)))
    centres = rng.integers(0, 2, (3, bits))
    near = centres[rng.integers(0, 3, distinct)] ^ (rng.random((distinct, bits)) < 0.1)
    return packed.pack(near)[rng.integers(0, distinct, n)]
