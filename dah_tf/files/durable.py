"""Files that are whole or absent, whatever is killed or full meanwhile. Standard library only."""

import contextlib
import fcntl
import os
import pathlib


class Busy(Exception):
    """Another process holds the lock.

    Attributes:
        pid: str, its process id, or "unknown".
    """

    def __init__(self, pid):
        super().__init__(f"locked by process {pid}")
        self.pid = pid


class Lock:
    """Holds a folder for this process, until `close` or the process' end, even by kill -9.

    Closing leaves the folder's file `.lock`: deleting it would race with the next owner.

    Args:
        folder: path; exists.

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
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only the name is missing
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
    """Writes a file aside; it takes the place of `path` in one rename, and then is durable.

    Args:
        path: path of the file; its folder exists.

    Yields:
        Binary file to write to. Where the block raises, `path` stays as it was.

    Raises:
        OSError: the disk is full or not writable; `path` stays as it was.
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
    """Makes a file's content durable, or a folder's new and renamed entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
