"""Killing writers: whatever the moment, the index is as before or as after.

Kills happen in a process of their own, `python tests/index/test_crash.py MODE FOLDER`, that forks
the writers: a few milliseconds each. DAH_TF_KILLS=5000 kills so many at random moments.
"""

import functools
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dah_tf.errors import UserError
from dah_tf.index import Index, disk

BITS = 36
KILLS = int(os.environ.get("DAH_TF_KILLS", "60"))


def content(index):
    """Dict of id to code and key, of everything in an index."""
    found = {}
    for segment in index._segments:
        items = segment.items()
        keys = segment.strings("keys", np.flatnonzero(segment.living()))
        found |= dict(
            zip(items.ids.tolist(), zip(map(bytes, items.codes), keys, strict=True), strict=True)
        )
    assert len(found) == len(index)
    return found


def act(index, number):
    """The change with this number, on any index: all that it does follows from both."""
    rng = np.random.default_rng(number)
    codes = rng.integers(0, 4, (int(rng.integers(1, 60)), 5), np.uint8) << np.uint8(4)
    keys = [f"{number}/{i}" for i in range(len(codes))]
    kind = rng.choice(["add", "add", "add", "remove", "remove", "compact", "replace"])
    ids = sorted(content(index))
    if kind == "compact":
        index.compact()
    elif kind == "replace" and number % 5 == 0:
        index.replace(codes, keys=keys)
    elif kind == "remove" and ids:
        index.remove(rng.choice(ids, len(ids) // 2 + 1, replace=False))
    else:
        index.add(codes, keys=keys)


class Steps:
    """Counts what a writer asks of the system, and does something else at one of them.

    Args:
        at: int, the step, from 0; None only counts.
        action: function called there, after half of what is to be written.
        lasting: bool; at all later steps too, as when a disk stays full.
    """

    NAMES = ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir")

    def __init__(self, at=None, action=None, lasting=False):
        self.at, self.action, self.lasting, self.count = at, action, lasting, 0
        self.original = {name: getattr(os, name) for name in self.NAMES}

    def __enter__(self):
        for name, function in self.original.items():
            setattr(os, name, self.wrapped(name, function))
        return self

    def __exit__(self, *_):
        for name, function in self.original.items():
            setattr(os, name, function)

    def wrapped(self, name, function):
        def step(*arguments, **options):
            here = self.count == self.at or (self.lasting and self.count > self.at)
            self.count += 1
            if here:
                if name == "write":
                    half = len(arguments[1]) // 2
                    self.original["write"](arguments[0], arguments[1][:half])
                self.action()
            return function(*arguments, **options)

        return step


def die():
    os._exit(9)


def fail():
    raise OSError(28, "No space left on device")


def die_at(step, folder, number=None):
    """Makes a change, or an index, and dies at a step of it."""
    index = None if number is None else Index.open(folder)
    with Steps(step, die):
        if number is None:
            Index.create(folder, BITS, codes=np.zeros((50, 5), np.uint8))
        else:
            act(index, number)


def in_child(function):
    """Runs a function in a forked process; returns its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - nothing may leave the forked child
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def result_of(folder, number):
    """What an index holds after a change, tried on a copy."""
    shutil.copytree(folder, f"{folder}-copy")
    index = Index.open(f"{folder}-copy")
    act(index, number)
    after = content(index)
    shutil.rmtree(f"{folder}-copy")
    return after


def kill_at_every_step(folder):
    """Kills each of many changes at each of its steps in turn, then lets it through."""
    kills = 0
    Index.create(folder, BITS)
    for number in range(14):
        before, after = content(Index.open(folder)), result_of(folder, number)
        for at in itertools.count():
            status = in_child(functools.partial(die_at, at, folder, number))
            index = Index.open(folder)
            found = content(index)
            assert found in (before, after), (number, at)
            assert not index.verify(), (number, at)
            if status == 0:
                assert found == after
                break
            assert status == 9
            kills += 1
            if found == after:  # the kill came after the rename
                break
    folder = pathlib.Path(f"{folder}-new")
    for at in itertools.count():
        status = in_child(functools.partial(die_at, at, folder))
        assert not folder.exists() or len(Index.open(folder)) == 50, at
        kills += status == 9
        if folder.exists():
            break
    assert [p for p in folder.parent.iterdir() if p.name.startswith(f".{folder.name}")] == []
    print(kills)


def kill_at_random(folder, count):
    """Kills a process that changes an index without end, again and again."""
    rng = np.random.default_rng()
    Index.create(folder, BITS)
    number, changed = 0, 0
    for trial in range(count):
        states = [content(Index.open(folder))]
        shutil.rmtree(f"{folder}-twin", ignore_errors=True)
        shutil.copytree(folder, f"{folder}-twin")
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            index = Index.open(folder)
            for following in itertools.count(number):
                act(index, following)
                os.write(writer, b".")
        os.close(writer)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        done = len(os.read(reader, 1 << 16))
        os.close(reader)
        index = Index.open(folder)
        found = content(index)
        problems = index.verify()
        # What the changes that returned, and the one that was under way, should have left.
        twin = Index.open(f"{folder}-twin")
        for following in range(number, number + done + 1):
            act(twin, following)
            states.append(content(twin))
        assert found in states[done:], f"trial {trial}: after {done} changes from {number}"
        assert not problems, f"trial {trial}: {problems}"
        number += done + (found != states[done])
        changed += done
    print(changed)


def two_writers(folder):
    """Two processes add to one index as fast as they can, while this one reads."""
    Index.create(folder, BITS)

    def writer(first):
        index, added = Index.open(folder), 0
        while added < 15:
            try:
                index.add(np.zeros((10, 5), np.uint8), first + np.arange(10) + 10 * added)
                added += 1
            except UserError as error:
                assert "is being written by another process" in str(error), error
                time.sleep(0.001)
        index.compact() if first else None

    pids = []
    for first in (0, 1000):
        pids.append(os.fork())
        if pids[-1] == 0:
            os._exit(in_child(functools.partial(writer, first)))
    sizes, waiting = [], set(pids)
    while waiting:
        sizes.append(len(content(Index.open(folder))))
        waiting -= {pid for pid in waiting if os.waitpid(pid, os.WNOHANG)[0]}
    assert sizes == sorted(sizes) and not any(size % 10 for size in sizes), sizes
    index = Index.open(folder)
    assert len(index) == 300 and not index.verify()
    print(len(sizes))


def run(mode, folder, *arguments):
    done = subprocess.run(
        [sys.executable, __file__, mode, str(folder), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_killed_at_every_step(tmp_path):
    assert run("steps", tmp_path / "index") > 150


@pytest.mark.slow
def test_killed_at_random(tmp_path):
    run("random", tmp_path / "index", KILLS)


@pytest.mark.slow
def test_two_writers_and_a_reader(tmp_path):
    run("writers", tmp_path / "index")


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True])
def test_a_failing_disk_changes_nothing(tmp_path, lasting):
    folder, failures = tmp_path / "index", 0
    Index.create(folder, BITS)
    for number in range(12):
        before, after = content(Index.open(folder)), result_of(folder, number)
        for at in itertools.count():
            index = Index.open(folder)
            try:
                with Steps(at, fail, lasting):
                    act(index, number)
                failed = False
            except UserError as error:
                assert "No space left on device" in str(error)
                failed = True
                failures += 1
            found = content(Index.open(folder))
            # A failure to make the rename durable is told, though the rename is done.
            assert found in ((before, after) if failed else (after,)), (number, at)
            assert not Index.open(folder).verify()
            if found == after:
                break
    assert failures > 50
    with Steps() as steps:
        Index.create(tmp_path / "other", BITS, codes=np.zeros((3, 5), np.uint8))
    for at in range(steps.count):
        try:
            with Steps(at, fail, lasting):
                Index.create(tmp_path / "new", BITS, codes=np.zeros((3, 5), np.uint8))
        except UserError as error:
            assert "No space left on device" in str(error)
        if (tmp_path / "new").exists():
            assert len(Index.open(tmp_path / "new")) == 3
            shutil.rmtree(tmp_path / "new")
        shutil.rmtree(tmp_path / f".new.{os.getpid()}.tmp", ignore_errors=True)


def test_all_is_synced_before_it_is_named(tmp_path):
    folder = tmp_path / "index"
    index = Index.create(folder, BITS)
    synced, events = set(), []
    originals = {name: getattr(os, name) for name in ("write", "fsync", "replace")}

    def path_of(handle):
        return os.readlink(f"/proc/self/fd/{handle}")

    def write(handle, block):
        synced.discard(path_of(handle))
        synced.discard(os.path.dirname(path_of(handle)))
        return originals["write"](handle, block)

    def fsync(handle):
        synced.add(path_of(handle))
        events.append(("fsync", path_of(handle)))
        return originals["fsync"](handle)

    def replace(source, target):
        assert str(source) in synced
        originals["replace"](source, target)
        events.append(("replace", str(target)))
        parts = disk.read_manifest(folder)["segments"]
        for name, *_ in itertools.chain(*(part["files"].values() for part in parts)):
            path = folder / disk.SEGMENTS / name
            assert str(path) in synced or path in old, f"{name} is named before it is on the disk"
        assert str(folder / disk.SEGMENTS) in synced

    old = set()
    patched = {"write": write, "fsync": fsync, "replace": replace}
    for number in range(12):
        old = set((folder / disk.SEGMENTS).iterdir())
        synced.clear()
        with pytest.MonkeyPatch.context() as patch:
            for name, function in patched.items():
                patch.setattr(os, name, function)
            act(index, number)
        named = events.index(("replace", str(folder / disk.MANIFEST)))
        assert ("fsync", str(folder)) in events[named:]
        events.clear()


def main(mode, folder, *arguments):
    if mode == "steps":
        kill_at_every_step(folder)
    elif mode == "writers":
        two_writers(folder)
    else:
        kill_at_random(folder, int(arguments[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
