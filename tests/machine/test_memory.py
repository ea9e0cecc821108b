"""What commands set before TensorFlow starts: freed memory stays in the process, oneDNN is on."""

import os
import subprocess
import sys

import pytest

from dah_tf.terminal import cli

# Counts page faults: of touching each page of a 64 MiB array, ten times anew, on the main or another thread.
PROGRAM = """
import resource, sys, threading
import numpy as np
from dah_tf.machine import memory

if sys.argv[1] == "kept" and not memory.keep_freed():
    print("none")
    sys.exit()

def touch(times):
    for _ in range(times):
        np.ones(2**26, np.uint8)

def faults():
    touch(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    touch(10)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[2] == "main":
    faults()
else:
    thread = threading.Thread(target=faults)
    thread.start()
    thread.join()
"""


def faults(*arguments):
    command = [sys.executable, "-c", PROGRAM, *arguments]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return None if answer == "none" else int(answer)


@pytest.mark.parametrize("thread", ["main", "other"])
def test_pages_are_touched_once(thread):
    kept = faults("kept", thread)
    if kept is None:
        pytest.skip("the C library is not glibc")
    given_back = faults("default", thread)
    # NumPy may use huge pages: fewer faults, but still some for every array.
    assert given_back >= 10
    assert kept * 10 <= given_back


@pytest.mark.parametrize(("given", "found"), [(None, "1"), ("0", "0")])
def test_onednn_is_on_unless_told(monkeypatch, given, found):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given or "")
    if given is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    cli.import_quietly()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == found
