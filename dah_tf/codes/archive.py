"""Folders of packed codes on disk. NumPy only."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import zlib

import numpy as np

from dah_tf.codes import packing as packed
from dah_tf.errors import UserError
from dah_tf.files import durable, sealed

FORMAT = "dah_tf codes"
VERSION = 1
MANIFEST = "manifest.json"
SHARDS = "shards"
BROKEN = "broken.tsv"
ARRAYS = ("codes", "keys", "labels")
BLOCK = 1 << 24


class Codes:
    """A complete folder of codes. `Codes.open` makes it.

    Attributes:
        path: `pathlib.Path`.
        bits: int, the code length.
        fingerprint: str, the fingerprint of the model that made the codes.
        directory: str, the folder in which relative keys start; None if all keys are absolute.
        manifest: dict, the content of `manifest.json`.
    """

    def __init__(self, path, manifest):
        self.path, self.manifest = pathlib.Path(path), manifest
        self.bits, self.fingerprint = manifest["bits"], manifest["fingerprint"]
        self.directory = manifest.get("settings", {}).get("directory")

    @classmethod
    def open(cls, path):
        """Opens a folder of codes.

        Raises:
            UserError: the folder has no codes, is unfinished or damaged, or has another format
                version.
        """
        return cls(path, read_manifest(path))

    def __len__(self):
        return self.manifest["items"]

    def shards(self):
        """Yields the codes, keys and labels of each shard, after checking their checksums.

        Yields:
            A uint8 array of shape `(n, ceil(bits / 8))` and two lists of n str.

        Raises:
            UserError: a file is missing or its content has changed.
        """
        for shard in self.manifest["shards"]:
            arrays = [self._array(shard, name) for name in ARRAYS]
            yield arrays[0], *([os.fsdecode(each) for each in array] for array in arrays[1:])

    def read(self):
        """Returns all codes, keys and labels, in the same form as one shard of `shards`."""
        codes, keys, labels = [no_codes(self.bits)], [], []
        for shard in self.shards():
            codes.append(shard[0])
            keys += shard[1]
            labels += shard[2]
        return np.concatenate(codes), keys, labels

    def _array(self, shard, name):
        path = self.path / SHARDS / shard["name"] / f"{name}.npy"
        try:
            if [path.stat().st_size, checksum(path)] != shard["files"][name]:
                raise UserError(f"{path} has changed since it was written; {again(self.path)}")
            array = np.load(path, allow_pickle=False)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; {again(self.path)}") from None
        if name == "codes":
            packed.check(array, self.bits)
        return array


def again(folder):
    """Says what to do about a damaged folder of codes; `encode` would continue in it."""
    return f"delete {folder} and encode again"


def no_codes(bits):
    """uint8 array of shape `(0, ceil(bits / 8))`."""
    return np.zeros((0, -(-bits // 8)), np.uint8)


def place(key, directory=None):
    """Returns the absolute path that a key names. A key of a data set is returned unchanged.

    Args:
        key: str.
        directory: path, the folder in which relative keys start; None is the working directory.

    Returns:
        str.
    """
    if key.startswith("tfds:"):
        return key
    return os.path.normpath(os.path.join(directory or os.getcwd(), key))


def checksum(path):
    """Returns the CRC-32 of a file."""
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def write_shard(folder, number, codes, keys, labels, broken, job):
    """Writes a shard. It becomes visible only when it is complete and durable.

    Args:
        folder: path of the folder of codes; its subfolder `shards` exists.
        number: int, the position of the shard.
        codes: uint8 array of shape `(n, bytes)`.
        keys, labels: lists of n bytes objects.
        broken: list of pairs of str: the key of each image that could not be read, and the reason.
        job: str that identifies the model, the images and the settings; `check_shards` compares
            it.

    Raises:
        OSError: the disk is full or not writable.
    """
    name = shard_name(number)
    shards = pathlib.Path(folder) / SHARDS
    # Processes on different machines of a cluster may have the same id.
    aside = shards / f".{name}.{socket.gethostname()}.{os.getpid()}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        files = {}
        arrays = (codes, strings(keys), strings(labels))
        for array_name, array in zip(ARRAYS, arrays, strict=True):
            path = aside / f"{array_name}.npy"
            np.save(path, array)
            durable.sync(path)
            files[array_name] = [path.stat().st_size, checksum(path)]
        record = {"name": name, "items": len(codes), "broken": broken, "files": files, "job": job}
        with durable.replacing(aside / "shard.json") as file:
            file.write(json.dumps(record).encode())
        # If this worker seemed dead, another one got the same shard. The first that ends is kept.
        with contextlib.suppress(FileExistsError):
            _rename(aside, shards / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    durable.sync(shards)


def _rename(source, target):
    try:
        os.rename(source, target)
    except OSError:
        if target.is_dir():
            raise FileExistsError(target) from None
        raise


def strings(values):
    """Converts byte strings to an array of shape `(n,)`."""
    return np.array(values, "S") if len(values) else np.zeros(0, "S1")


def shard_name(number):
    return f"{number:06d}"


def done(folder):
    """Returns the numbers of the shards that exist: a set of int."""
    names = (path.name for path in (pathlib.Path(folder) / SHARDS).iterdir())
    return {int(name) for name in names if name.isdecimal()}


def check_shards(folder, job):
    """Refuses a folder with shards of another job, or with shards whose job is not known.

    Args:
        folder: path of the folder of codes; its subfolder `shards` exists.
        job: str, as in `write_shard`.

    Raises:
        UserError: there is such a shard.
    """
    for number in sorted(done(folder)):
        path = pathlib.Path(folder) / SHARDS / shard_name(number) / "shard.json"
        try:
            found = json.loads(path.read_bytes())["job"]
        except (OSError, ValueError, KeyError, TypeError):
            found = None
        if found != job:
            raise UserError(
                f"{path.parent} was made with another model, other images or other settings; "
                f"{again(folder)}, or name another folder"
            )


def drop_unfinished(folder):
    """Deletes what killed writers left behind. The caller must hold the lock of the folder."""
    for path in (pathlib.Path(folder) / SHARDS).glob(".*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    for path in pathlib.Path(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def finish(folder, count, facts):
    """Writes the manifest of all shards, and `broken.tsv`.

    Args:
        folder: path of the folder of codes.
        count: int, the number of shards.
        facts: dict, the other entries of the manifest besides `items`, `broken` and `shards`. It
            contains at least `bits` and `fingerprint`.

    Returns:
        Dict, the content of the manifest.
    """
    folder = pathlib.Path(folder)
    shards, broken = [], []
    for number in range(count):
        shard = json.loads((folder / SHARDS / shard_name(number) / "shard.json").read_bytes())
        broken += shard.pop("broken")
        shards.append({name: shard[name] for name in ("name", "items", "files")})
    (folder / BROKEN).unlink(missing_ok=True)
    if broken:
        with durable.replacing(folder / BROKEN) as file:
            for key, reason in broken:
                file.write(f"{_one_line(key)}\t{reason}\n".encode("utf-8", "surrogateescape"))
    items = sum(shard["items"] for shard in shards)
    content = {**facts, "items": items, "broken": len(broken), "shards": shards}
    with durable.replacing(folder / MANIFEST) as file:
        file.write(sealed.seal(FORMAT, VERSION, content))
    return content


def reopen(folder):
    """Deletes the shards with broken images, so that the same job encodes them again.

    Args:
        folder: path of a complete folder of codes. `broken.tsv` stays until the next `finish`.
    """
    folder = pathlib.Path(folder)
    (folder / MANIFEST).unlink()
    durable.sync(folder)
    for shard in (folder / SHARDS).iterdir():
        if json.loads((shard / "shard.json").read_bytes())["broken"]:
            shutil.rmtree(shard)


def _one_line(key):
    """Escapes the tabs, line ends and backslashes of a key, so that it fits on one line."""
    return key.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def read_manifest(folder):
    """Returns the content of the manifest.

    Raises:
        UserError: the folder has no codes, is unfinished or damaged, or has another format
            version.
    """
    folder = pathlib.Path(folder)
    try:
        return sealed.read(folder / MANIFEST, FORMAT, VERSION, again(folder))
    except (FileNotFoundError, NotADirectoryError):
        if (folder / SHARDS).is_dir():
            raise UserError(
                f"{folder} is not finished; run the same `python -m dah_tf.encode` again"
            ) from None
        raise UserError(
            f"{folder} is not a folder of codes, because it has no {MANIFEST}; make one with "
            f"python -m dah_tf.encode --output={folder}"
        ) from None
