"""Files that are whole or absent, whatever is killed or full meanwhile. Standard library only."""

import contextlib
import os
import pathlib


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
