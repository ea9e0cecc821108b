"""Images of added items, stored under names that the service chooses.

UPLOADS/NAME.ENDING     an image; the key of its item is the path of this file
UPLOADS/.pending/NAME.ENDING
                        an empty file: the image may not have an item. It is there while an
                        item is added or removed, so that a killed service leaves no image
                        that nothing names.
UPLOADS/.lock           locked by the service
"""

import contextlib
import os
import pathlib
import secrets

from dah_tf import images
from dah_tf.errors import UserError
from dah_tf.files import durable

ENDINGS = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "GIF": ".gif",
    "BMP": ".bmp",
    "rare BMP": ".bmp",
    "WebP": ".webp",
    "animated WebP": ".webp",
    "TIFF": ".tif",
    "AVIF": ".avif",
    "HEIC": ".heic",
    "JPEG 2000": ".jp2",
    "PNM": ".pnm",
}


class Uploads:
    """A folder of stored images.

    Args:
        folder: path; it is made if it is missing.
        start: path of the folder in which relative keys start, or None.

    Raises:
        UserError: the folder cannot be written, or another service uses it.
    """

    def __init__(self, folder, start):
        self.folder = pathlib.Path(os.path.realpath(folder))
        self._start = start and os.path.realpath(start)
        self._pending = self.folder / ".pending"
        try:
            self._pending.mkdir(parents=True, exist_ok=True)
            self._lock = durable.Lock(self.folder)
        except durable.Busy as busy:
            raise UserError(f"uploads={folder} is used by process {busy.pid}") from None
        except OSError as error:
            raise UserError(f"cannot write to uploads={folder}: {error.strerror}") from None

    def key(self, name):
        """Returns the key of an item whose image has this name."""
        path = str(self.folder / name)
        if self._start and path.startswith(self._start.rstrip(os.sep) + os.sep):
            return os.path.relpath(path, self._start)
        return path

    def name(self, key):
        """Returns the name of the stored image that a key means, or None if it means none."""
        path = pathlib.Path(os.path.normpath(os.path.join(self._start or "/", key)))
        known = path.parent == self.folder and path.suffix in ENDINGS.values()
        return path.name if known else None

    def write(self, contents):
        """Stores images. They are durable, and pending until `settle`.

        Args:
            contents: list of bytes.

        Returns:
            List of str, the names.

        Raises:
            UserError: one of them is not an image of a known kind.
            OSError: the disk is full or not writable.
        """
        kinds = [images.kind_of(each[: images.HEAD]) for each in contents]
        if not set(kinds) <= ENDINGS.keys():
            raise UserError("an image of an unknown kind is not stored")
        names = [secrets.token_hex(16) + ENDINGS[kind] for kind in kinds]
        try:
            self.mark(names)
            for name, each in zip(names, contents, strict=True):
                with open(self.folder / name, "xb") as file:
                    file.write(each)
                    file.flush()
                    os.fsync(file.fileno())
            durable.sync(self.folder)
        except OSError:
            self.drop(names)
            raise
        return names

    def mark(self, names):
        """Marks images as pending before their items change."""
        for name in names:
            (self._pending / name).touch()
        durable.sync(self._pending)

    def settle(self, names):
        """Takes the marks of images away whose items are stored."""
        for name in names:
            with contextlib.suppress(OSError):
                (self._pending / name).unlink(missing_ok=True)

    def drop(self, names):
        """Deletes images that have no item, and their marks."""
        for name in names:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)
        self.settle(names)

    def recover(self, is_stored):
        """Deletes the images that a killed service left without an item.

        Args:
            is_stored: function from a key to whether an item has it.
        """
        for path in list(self._pending.iterdir()):
            if is_stored(self.key(path.name)):
                self.settle([path.name])
            else:
                self.drop([path.name])

    def close(self):
        """Lets another service use the folder."""
        self._lock.close()
