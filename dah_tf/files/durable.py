"""Writes of complete files that survive kills, full disks and power loss. Standard library only."""

import contextlib
import fcntl
import os
import pathlib


class Busy(Exception):
    """Another process holds the lock.

    Attributes:
        pid: str, the id of that process, or "unknown".
    """

    def __init__(self, pid):
        super().__init__(f"locked by process {pid}")
        self.pid = pid


class Lock:
    """Locks a folder for this process until `close` or the end of the process, even by kill -9.

    `close` does not delete the file `.lock`, because the next owner may have opened it already.

    Args:
        folder: path of an existing folder.

    Raises:
        Busy: another process holds it.
        OSError: the folder cannot be written, or its file system has no locks.
    """

    def __init__(self, folder):
        path = pathlib.Path(folder) / ".lock"
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            pid = self._file.read().strip() or "unknown"
            self._file.close()
            raise Busy(pid) from None
        except OSError:
            self._file.close()
            raise
        with contextlib.suppress(OSError):  # on a full disk the lock holds without the process id
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n")
            self._file.flush()

    def close(self):
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@contextlib.contextmanager
def replacing(path):
    """Replaces a file in one step, durably.

    The content goes to a temporary file, which is then renamed to `path`.

    Args:
        path: path of the file; its folder exists.

    Yields:
        A binary file to write to. If the block raises an error, `path` is not changed.

    Raises:
        OSError: the disk is full or not writable; `path` is not changed.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path):
    """Makes the content of a file durable, or the new and renamed entries of a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
