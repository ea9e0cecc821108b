"""The folder of an index: its files, its manifest and its lock. No index logic.

    INDEX/manifest.json                 names the files of the index; replaced in one rename
    INDEX/segments/NUMBER-ARRAY.npy     arrays; after the manifest names them, they never change
    INDEX/.lock                         locked by the process that writes

Before the manifest names a file, the file and its folder are fsynced. The manifest does not name
what a killed writer leaves behind. Readers therefore never see it, and the next writer deletes it.
"""

import contextlib
import glob
import io
import math
import os
import pathlib
import shutil
import zlib

import numpy as np

from dah_tf.errors import UserError
from dah_tf.files import durable, sealed
from dah_tf.index.failure import IndexBusyError

FORMAT = "dah_tf index"
VERSION = 1
MANIFEST = "manifest.json"
SEGMENTS = "segments"
BLOCK = 1 << 24


def write_array(folder, name, array):
    """Writes a new `.npy` file into the segments of an index.

    The content is durable, but the entry of the folder is not yet.

    Args:
        folder: path of the index.
        name: str, the name of a file that does not exist yet.
        array: ndarray.

    Returns:
        List for the manifest: name, size in bytes, CRC-32, dtype and shape.

    Raises:
        OSError: the disk is full or not writable.
    """
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    parts = [header.getbuffer(), array.reshape(-1).view(np.uint8).data]
    written = write_new(pathlib.Path(folder) / SEGMENTS / name, parts)
    return [name, *written, array.dtype.str, list(array.shape)]


def read_array(folder, record):
    """Maps an array into memory, read-only.

    Args:
        folder: path of the index.
        record: list that `write_array` returned.

    Raises:
        UserError: the file has another size.
        FileNotFoundError: the file is missing.
    """
    name, size, _, dtype, shape = record
    path = pathlib.Path(folder) / SEGMENTS / name
    found = path.stat().st_size
    if found != size:
        raise UserError(f"{path} is damaged: {found} bytes instead of {size}; restore it")
    # The header need not be read: the manifest has the same facts, and a checksum.
    start = size - np.dtype(dtype).itemsize * math.prod(shape)
    return np.asarray(np.memmap(path, dtype, "r", start, tuple(shape)))


def is_whole(folder, record):
    """Says whether a file still has the content that `write_array` wrote."""
    size = crc = 0
    with open(pathlib.Path(folder) / SEGMENTS / record[0], "rb") as file:
        while block := file.read(BLOCK):
            crc = zlib.crc32(block, crc)
            size += len(block)
    return [size, crc] == record[1:3]


def write_new(path, parts):
    """Writes buffers to a new file and fsyncs it; returns its size and CRC-32."""
    size = crc = 0
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for part in parts:
            for start in range(0, len(part), BLOCK):
                block = part[start : start + BLOCK]
                crc = zlib.crc32(block, crc)
                size += len(block)
                while block:
                    block = block[os.write(handle, block) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return size, crc


def write_manifest(folder, content):
    """Replaces the manifest in one rename.

    Args:
        folder: path of the index. The caller holds its lock.
        content: dict that JSON can hold.
    """
    temporary = pathlib.Path(folder) / f".{MANIFEST}.tmp"
    temporary.unlink(missing_ok=True)
    write_new(temporary, [sealed.seal(FORMAT, VERSION, content)])
    os.replace(temporary, temporary.with_name(MANIFEST))
    durable.sync(folder)


def read_manifest(folder):
    """Returns the content of the manifest.

    Raises:
        UserError: the folder is not an index, or the manifest is damaged or has another format
            version.
    """
    try:
        return sealed.read(
            pathlib.Path(folder) / MANIFEST,
            FORMAT,
            VERSION,
            "restore it, or build it again from its codes",
        )
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder} is not an index, because it has no {MANIFEST}; make one with "
            f"python -m dah_tf.search build --index={folder}"
        ) from None


@contextlib.contextmanager
def lock(folder):
    """Locks the index for this writer. The lock ends with the process, even by kill -9.

    Raises:
        IndexBusyError: another process writes.
        UserError: the folder cannot be written or locked.
    """
    try:
        held = durable.Lock(folder)
    except durable.Busy as busy:
        raise IndexBusyError(
            f"{folder} is being written by another process (pid {busy.pid}); try again when it has "
            "ended (you can search in the meantime)"
        ) from None
    except OSError as error:
        # Without a lock, two writers could each drop what the other one added.
        raise UserError(f"cannot lock {folder}: {error.strerror}") from error
    with held:
        yield


def sweep(folder):
    """Deletes what the manifest does not name. The caller holds the lock.

    Readers keep what they have mapped: a deleted file lives as long as its mapping.
    """
    folder = pathlib.Path(folder)
    # Were the manifest's rename undone by a loss of power, the files before it would be needed.
    durable.sync(folder)
    named = {
        file[0] for part in read_manifest(folder)["segments"] for file in part["files"].values()
    }
    for path in (folder / SEGMENTS).iterdir():
        if path.name not in named:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path):
    """Makes a folder whose content appears all at once: yields a folder beside it to fill.

    Raises:
        UserError: `path` exists and is not an empty folder, or cannot be made.
    """
    path = pathlib.Path(path).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists already; choose another folder, or delete it")
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_abandoned(path)
        (aside / SEGMENTS).mkdir(parents=True)
        with lock(aside):
            yield aside
            os.rename(aside, path)
            durable.sync(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _drop_abandoned(path):
    """Deletes what killed builders of the same folder left beside it."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(UserError, OSError), lock(folder):
            shutil.rmtree(folder, ignore_errors=True)
