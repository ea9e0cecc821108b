"""Hides messages that libraries write to the screen in spite of every log level."""

import contextlib
import os
import sys
import warnings


@contextlib.contextmanager
def quiet(*, stdout: bool = False):
    """Discards what is written to stderr inside the block, also by C++ code.

    This applies to the whole process, including its other threads. Exceptions are raised as usual
    with their messages. Python's warnings are discarded too.

    Args:
        stdout: bool, whether to discard stdout too.
    """
    streams = {2: sys.stderr} | ({1: sys.stdout} if stdout else {})
    for stream in streams.values():
        stream.flush()
    saved = {number: os.dup(number) for number in streams}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in streams:
            os.dup2(nowhere, number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for stream in streams.values():
            stream.flush()
        for number, file in saved.items():
            os.dup2(file, number)
            os.close(file)
        os.close(nowhere)
