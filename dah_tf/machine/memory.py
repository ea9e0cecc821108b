"""Settings of the C library for the memory of tensors that are no longer needed."""

import ctypes
import sys

# These numbers are from <malloc.h> of glibc.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed():
    """Keeps freed memory in the process, so that the next tensor of that size can reuse it.

    By default glibc returns the memory of a large array to the system when the array is freed.
    The system then clears each page when the next array uses it, which on a CPU takes longer than
    a ReLU over the array. Commands call this function before the first tensor; a library should
    leave the decision to its program. The peak of the memory stays the same, but memory is not
    returned between peaks. With another C library than glibc the function does nothing.

    Returns:
        bool, whether freed memory is kept from now on.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # Only one arena is used. The others are too small for large arrays, so that they would ask
    # the system for memory and return it each time.
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_ARENA_MAX: 1}
    done = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(done)
