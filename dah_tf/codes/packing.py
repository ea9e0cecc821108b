"""Binary codes: how bits are packed into bytes, and Hamming distances. NumPy only.

A packed code of k bits has `ceil(k / 8)` bytes. Bit i is in byte `i // 8`, with the most
significant bit first. Unused low bits of the last byte are 0.
"""

import numpy as np


def binarize(logits):
    """Turns hash logits into bits.

    Args:
        logits: float array of shape `(n, bits)`.

    Returns:
        uint8 array of shape `(n, bits)`, 1 where the logit is above 0.

    References:
        DAH, eq. 5.
    """
    return (np.asarray(logits) > 0).astype(np.uint8)


def pack(bits):
    """Packs bits into bytes.

    Args:
        bits: 0/1 array of shape `(n, k)`.

    Returns:
        uint8 array of shape `(n, ceil(k / 8))`.
    """
    return np.packbits(np.asarray(bits, np.uint8), axis=1, bitorder="big")


def unpack(codes, bits):
    """Inverse of `pack`.

    Args:
        codes: uint8 array of shape `(n, ceil(bits / 8))`.
        bits: int, code length k.

    Returns:
        uint8 array of shape `(n, bits)`.

    Raises:
        ValueError: the shape or dtype of the codes does not fit, or a padding bit is not 0.
    """
    codes = check(codes, bits)
    return np.unpackbits(codes, axis=1, count=bits, bitorder="big")


def check(codes, bits):
    """Returns packed codes as a uint8 array, after checking that they fit `bits`.

    Raises:
        ValueError: the shape or dtype does not fit, or a padding bit is not 0.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.dtype != np.uint8 or codes.shape[1] != -(-bits // 8):
        raise ValueError(
            f"Codes of {bits} bits are uint8 of shape (n, {-(-bits // 8)}). "
            f"Received: {codes.dtype} of shape {codes.shape}"
        )
    padding = -bits % 8
    if padding and (codes[:, -1] & ((1 << padding) - 1)).any():
        raise ValueError(f"Padding bits of {bits}-bit codes must be 0")
    return codes


def words(codes):
    """Converts codes to 64-bit words, which compare fast.

    Args:
        codes: uint8 array of shape `(n, bytes)`.

    Returns:
        uint64 array of shape `(n, ceil(bytes / 8))`. Missing bytes are zeros.
    """
    codes = np.asarray(codes, np.uint8)
    n, width = codes.shape
    padded = np.zeros((n, -(-width // 8) * 8), np.uint8)
    padded[:, :width] = codes
    return padded.view(np.uint64)


def hamming(a, b):
    """Hamming distances between two sets of packed codes.

    Args:
        a: uint8 array of shape `(n, bytes)`.
        b: uint8 array of shape `(m, bytes)`.

    Returns:
        uint16 array of shape `(n, m)`.

    Raises:
        ValueError: the two sets have codes of different widths.
    """
    if np.shape(a)[1] != np.shape(b)[1]:
        raise ValueError(f"Codes differ in width. Received: {np.shape(a)} and {np.shape(b)}")
    a, b = words(a), words(b)
    distance = np.zeros((len(a), len(b)), np.uint16)
    for column in range(a.shape[1]):
        distance += np.bitwise_count(a[:, column, None] ^ b[None, :, column])
    return distance
