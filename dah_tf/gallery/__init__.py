"""Queries and their neighbours as pictures, on one page (`.html`) or in one picture (`.png`)."""

import importlib
import os

from dah_tf.errors import UserError
from dah_tf.files import durable

WRITERS = {".html": "page", ".png": "sheet"}


def check(path):
    """Raises UserError where `write` could not put a file: to be asked before any long work."""
    folder = os.path.dirname(path) or "."
    if _ending(path) not in WRITERS:
        raise UserError(f"a gallery's name ends in .html or .png. Received: {path}")
    if os.path.isdir(path):
        raise UserError(f"cannot write {path}: it is a folder")
    if not os.path.isdir(folder):
        raise UserError(f"cannot write {path}: there is no folder {folder}")


def write(path, answers):
    """Writes a gallery, whole or not at all.

    A neighbour is wrong where its label and the query's are known and differ; of labels joined by
    ";" where they share none. A picture that cannot be read becomes a tile that says so.

    Args:
        path: str, ends in .html or .png.
        answers: list of dicts, one a query: "query", str, its name; "path", str of its image file
            or None; "label", str, "" where unknown; "neighbours", a list, nearest first, of dicts
            of ints "rank", "distance" and "id", str "key" and "label", and "path" as the query's.

    Raises:
        UserError: another ending, more than a `.png` holds, or the file cannot be written; a file
            that was there stays as it was.
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
