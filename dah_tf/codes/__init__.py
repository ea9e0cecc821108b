"""Binary codes: bits, packed bytes, Hamming distances, codebooks, folders of codes. NumPy only.

A packed code of k bits has `ceil(k / 8)` bytes. Bit i is in byte `i // 8`, with the most
significant bit first. Unused low bits of the last byte are 0.
"""

from dah_tf.codes.archive import Codes
from dah_tf.codes.packing import binarize, check, hamming, pack, unpack, words

__all__ = ["Codes", "binarize", "check", "hamming", "pack", "unpack", "words"]
