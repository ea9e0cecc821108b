"""Codes against strings of 0 and 1."""

import numpy as np
import pytest

from dah_tf import codes


def test_a_bit_is_one_above_zero():
    np.testing.assert_array_equal(codes.binarize([[-1.0, 0.0, 1e-30]]), [[0, 0, 1]])


def test_bit_order_by_hand():
    # 1000 0001 | 0110 .... -> 0x81, 0x60
    bits = [[1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 0]]
    packed = codes.pack(bits)
    np.testing.assert_array_equal(packed, [[0x81, 0x60]])
    np.testing.assert_array_equal(codes.unpack(packed, 12), bits)


@pytest.mark.parametrize("bits", [1, 8, 12, 36, 48, 64, 65, 200])
def test_hamming_counts_differing_bits(bits):
    rng = np.random.default_rng(bits)
    a, b = rng.integers(0, 2, (7, bits)), rng.integers(0, 2, (5, bits))
    expected = (a[:, None] != b[None]).sum(axis=-1)
    np.testing.assert_array_equal(codes.hamming(codes.pack(a), codes.pack(b)), expected)
    np.testing.assert_array_equal(codes.unpack(codes.pack(a), bits), a)


def test_no_codes():
    empty = np.zeros((0, 5), np.uint8)
    assert codes.hamming(empty, np.zeros((3, 5), np.uint8)).shape == (0, 3)
    assert codes.unpack(empty, 36).shape == (0, 36)


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 4), np.uint8), np.zeros((2, 5), np.int32), np.full((2, 5), 255, np.uint8)],
)
def test_what_are_no_codes_of_36_bits(array):
    with pytest.raises(ValueError):
        codes.unpack(array, 36)


def test_widths_must_agree():
    with pytest.raises(ValueError, match="width"):
        codes.hamming(np.zeros((1, 4), np.uint8), np.zeros((1, 5), np.uint8))
