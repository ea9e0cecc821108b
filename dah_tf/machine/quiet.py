"""Keeps messages that libraries write themselves, past every log level, off the user's screen."""

import contextlib
import os
import sys
import warnings


@contextlib.contextmanager
def quiet(*, stdout: bool = False):
    """Sends what is written to stderr meanwhile nowhere, by C++ code too.

    The whole process is quiet, its other threads as well; an exception is still raised, and what
    it says is not lost. Warnings of Python are left out.

    Args:
        stdout: whether stdout is quiet too.
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
