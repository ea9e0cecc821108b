"""Shows queries and their neighbours as pictures, on a page (`.html`) or in a picture (`.png`)."""

import importlib
import os

from dah_tf.errors import UserError
from dah_tf.files import durable

WRITERS = {".html": "page", ".png": "sheet"}


def check(path):
    """Raises UserError if `write` could not write the file. Call it before any long work."""
    folder = os.path.dirname(path) or "."
    if _ending(path) not in WRITERS:
        raise UserError(f"a gallery's name ends in .html or .png. Received: {path}")
    if os.path.isdir(path):
        raise UserError(f"cannot write {path}: it is a folder")
    if not os.path.isdir(folder):
        raise UserError(f"cannot write {path}: there is no folder {folder}")


def write(path, answers):
    """Writes a gallery, either completely or not at all.

    A neighbour is wrong if its label and the query's label are known and differ. If labels are
    joined by ";", it is wrong if the two have no label in common. If a picture cannot be read, its
    tile says so.

    Args:
        path: str, which ends in .html or .png.
        answers: list of dicts, one for each query. Its entries are "query", str, the query's name;
            "path", str, the path of its image file, or None; "label", str, which is "" if it is
            unknown; and "neighbours", a list of dicts, nearest first. A neighbour's entries are the
            ints "rank", "distance" and "id", the strs "key" and "label", and "path", which has the
            same form as for the query.

    Raises:
        UserError: the path has another ending, a `.png` cannot hold so much, or the file cannot be
            written. A file that existed before is then left unchanged.
    """
    check(path)
    writer = importlib.import_module(f"dah_tf.gallery.{WRITERS[_ending(path)]}")
    try:
        with durable.replacing(path) as file:
            writer.write(file, answers)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _ending(path):
    return os.path.splitext(path)[1].lower()
