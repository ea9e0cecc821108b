"""Keeping other programs' messages off the screen."""

import os

import pytest

from dah_tf.machine.quiet import quiet


def test_only_what_is_written_meanwhile_is_lost(capfd):
    os.write(2, b"before ")
    with quiet():
        os.write(2, b"meanwhile ")
        os.write(1, b"out ")
    os.write(2, b"after")
    assert capfd.readouterr() == ("out ", "before after")
    with quiet(stdout=True):
        os.write(1, b"meanwhile")
    assert capfd.readouterr() == ("", "")


def test_an_exception_gives_the_screen_back(capfd):
    files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match="wrong"), quiet(stdout=True):
        raise ValueError("wrong")
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"
    assert len(os.listdir("/proc/self/fd")) == files
