"""The images of items, in sizes for a screen and without their metadata. One folder is read."""

import collections
import io
import os
import stat
import threading
import typing

from dah_tf import images
from dah_tf.gallery import thumbnails
from dah_tf.web import encoders

FILE_BYTES = 256 << 20
CACHE_BYTES = 64 << 20
PIXEL_ART = 128
"""Images up to this longer side are sent as PNG, because a JPEG would blur them."""


class NoPicture(Exception):
    """There is no image to show. The message says why, without naming a path."""


class Picture(typing.NamedTuple):
    """An image that was encoded again.

    Attributes:
        data: bytes of the file.
        media_type: str.
    """

    data: bytes
    media_type: str


class Pictures:
    """Reads the images of items.

    A key names a file if, after all links are resolved, it lies below one of `folders`.

    Args:
        start: path of the folder in which relative keys start, or None.
        folders: paths of the only folders from which images are read.
        budget: `pipeline.Budget` of the decoders.
        max_pixels: int, as in `Settings`.
    """

    def __init__(self, start, folders, budget, max_pixels):
        self._start = start
        self._folders = [os.path.realpath(each) for each in folders]
        self._budget, self._max_pixels = budget, max_pixels
        self._cache, self._cached = collections.OrderedDict(), 0
        self._lock = threading.Lock()

    def version(self, key):
        """Returns a str that changes when the file of a key changes.

        Raises:
            NoPicture: the key names no image file that may be shown.
        """
        with self._open(key) as file:
            return _version(file)

    def show(self, key, side, enlarge, end):
        """Returns the image of an item.

        Args:
            key: str.
            side: int, the longest side in pixels.
            enlarge: bool, whether small images are enlarged by a whole factor.
            end: float, the time of `time.monotonic` until which it may wait for memory.

        Returns:
            `Picture`.

        Raises:
            NoPicture: the key names no image file that may be shown, or it is damaged.
            TimeoutError: there was no memory in time.
        """
        with self._open(key) as file:
            name = (key, side, enlarge, _version(file))
            with self._lock:
                if name in self._cache:
                    self._cache.move_to_end(name)
                    return self._cache[name]
            if os.fstat(file.fileno()).st_size > FILE_BYTES:
                raise NoPicture("the file is too large")
            contents = file.read(FILE_BYTES)
        try:
            needed = encoders.memory_of(contents, self._max_pixels)
            with self._budget.take(needed, end):
                picture = _encoded(*_small(contents, side, enlarge))
        except (images.ImageError, thumbnails.Unreadable) as error:
            raise NoPicture(str(error)) from None
        with self._lock:
            if name not in self._cache:
                self._cache[name] = picture
                self._cached += len(picture.data)
            while self._cached > CACHE_BYTES:
                self._cached -= len(self._cache.popitem(last=False)[1].data)
        return picture

    def path_of(self, key):
        """Returns the resolved path of a key, and the folder of `folders` above it.

        Raises:
            NoPicture: the key is empty or leaves the folders.
        """
        if not key or key.startswith("tfds:") or "\0" in key:
            raise NoPicture("the item has no image file")
        if not os.path.isabs(key) and self._start is None:
            raise NoPicture("the folder of the images is not known; start the service with --root")
        try:
            path = os.path.realpath(os.path.join(self._start or "/", key))
        except (OSError, ValueError):
            raise NoPicture("the item has no image file") from None
        for folder in self._folders:
            if path.startswith(folder.rstrip(os.sep) + os.sep):
                return path, folder
        raise NoPicture("the file is outside the folder of the images")

    def _open(self, key):
        """Opens the file of a key. No part of its resolved path may be a link any more."""
        path, folder = self.path_of(key)
        handle = None
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            *parents, name = os.path.relpath(path, folder).split(os.sep)
            for part in parents:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                inner = os.open(part, flags, dir_fd=handle)
                os.close(handle)
                handle = inner
            # Opening a pipe could wait for ever for a writer.
            found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
        except OSError:
            raise NoPicture("the file is not there, or may not be read") from None
        finally:
            if handle is not None:
                os.close(handle)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise NoPicture("it is not a regular file")
        return open(found, "rb")


def _version(file):
    facts = os.fstat(file.fileno())
    return f"{facts.st_ino:x}-{facts.st_size:x}-{facts.st_mtime_ns:x}"


def _small(contents, side, enlarge):
    """Returns a Pillow image in RGB without metadata, and whether its pixels must stay sharp."""
    if images.kind_of(contents[: images.HEAD]) == "JPEG":
        longer = max(images.size_in(contents) or (side,))
        file = io.BytesIO(contents)
        return thumbnails.of_file(file, side if enlarge else 0, min(side, longer))
    pixels = images.decode(contents)
    longer = max(pixels.shape[:2])
    return thumbnails.of_pixels(pixels, side if enlarge else 0, min(side, longer))


def _encoded(image, crisp):
    file = io.BytesIO()
    if crisp or max(image.size) <= PIXEL_ART:
        image.save(file, "PNG")
        return Picture(file.getvalue(), "image/png")
    image.save(file, "JPEG", quality=85)
    return Picture(file.getvalue(), "image/jpeg")
