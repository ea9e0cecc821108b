"""How tests wait: for an event, however busy the machine is, and never for a time.

What would wait for ever is ended by `faulthandler_timeout` in setup.cfg, after an hour.
"""

import time

import pytest


def until(condition, process=None):
    """Asks for a condition again and again until it holds.

    Args:
        condition: function without arguments.
        process: `subprocess.Popen` that brings the condition about. The test fails with what it
            wrote where it ends before.

    Returns:
        The first true value that the condition returns.
    """
    while True:
        ended = process is not None and process.poll() is not None
        if found := condition():
            return found
        if ended:
            pytest.fail(f"ended with {process.returncode} too early: {process.communicate()}")
        time.sleep(0.002)
