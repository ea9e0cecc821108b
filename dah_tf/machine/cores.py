"""The number of processor cores of this process. Standard library only."""

import os


def cores() -> int:
    """Returns the number of CPU cores on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
