"""How the C library keeps the memory of tensors that are no longer needed."""

import ctypes
import sys

# Of glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed():
    """Keeps freed memory in the process, for the next tensor of that size.

    By default glibc gives every large array back to the system when it is freed, and the system
    clears each page when the next array touches it: on a CPU that takes longer than a ReLU over
    the array. Commands call this before the first tensor; a library leaves it to its program.
    Peak memory stays what it was, but between peaks it is not given back. Nothing happens where
    the C library is another.

    Returns:
        bool, whether it is kept from now on.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # One arena: the others are too small for large arrays, and map and unmap them.
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_ARENA_MAX: 1}
    done = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(done)
