"""Lists labelled image files, from folders that stand for classes or from a table."""

import collections
import csv
import os
import pathlib
import typing

from dah_tf import images
from dah_tf.data.dataset import UNLABELLED
from dah_tf.errors import UserError

PARTS = ("train", "test")


class Found(typing.NamedTuple):
    """Labelled image files.

    Attributes:
        rows: list of `(path, labels, part)`, which are a str, a list of str, and "train" or
            "test".
        ignored: `collections.Counter` of the files that are not images, by `images.name_kind`.
        warnings: list of str, which are sentences.
    """

    rows: list
    ignored: collections.Counter
    warnings: list


def from_folder(root):
    """Finds the images of `root/CLASS/...`, or of `root/train/CLASS/...` and `root/test/CLASS/...`.

    Every image in a class folder and in its subfolders counts (`images_below`). If neither `train`
    nor `test` contains a folder, they are classes themselves. A folder without images is not a
    class.

    Args:
        root: path of the folder.

    Returns:
        `Found`, sorted by path.

    Raises:
        UserError: the folder does not exist, cannot be read, or does not contain a class.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; folder:PATH takes a folder of PATH/CLASS/IMAGE")
    bases = {part: root / part for part in PARTS if (root / part).is_dir()}
    found = Found([], collections.Counter(), [])
    try:
        # Folders with these names are classes if they hold images themselves.
        if not any(path.is_dir() for base in bases.values() for path in _visible(base)):
            bases = {"train": root}
        for part, base in bases.items():
            for folder in filter(pathlib.Path.is_dir, _visible(base)):
                rows = [(path, [folder.name], part) for path in images_below(folder, found.ignored)]
                if not rows:
                    found.warnings.append(
                        f"The folder {folder} contains no images and is left out."
                    )
                found.rows.extend(rows)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    if not any(part == "train" for _, _, part in found.rows):
        base = bases.get("train", root / "train")
        raise UserError(
            f"{base} contains no folders of images; name the images {base / 'CLASS' / 'IMAGE'}"
        )
    return found


def without_classes(root):
    """Finds every image of a folder and of its subfolders, whatever their names.

    Args:
        root: path of the folder.

    Returns:
        `Found`, sorted by path. All images belong to one class and to the training part.

    Raises:
        UserError: the folder does not exist, cannot be read, or does not contain an image.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; folder:PATH takes the path of a folder of images")
    found = Found([], collections.Counter(), [])
    try:
        found.rows.extend(
            (path, [UNLABELLED], "train") for path in images_below(root, found.ignored)
        )
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    if not found.rows:
        raise UserError(f"{root} contains no images; name another folder")
    return found


def _visible(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def images_below(folder, ignored):
    """Yields the images among `files_below` of a folder, readable or not (`images.is_image`).

    Args:
        folder: path of the folder.
        ignored: `collections.Counter`. Every other file is added to it, by its kind.

    Yields:
        str, the path of each image.

    Raises:
        OSError: the folder itself cannot be read.
    """
    for path in files_below(folder):
        if images.is_image(path):
            yield path
        else:
            ignored[images.name_kind(path)] += 1


def files_below(folder):
    """Yields the files of a folder and of its subfolders, sorted folder by folder.

    Names that begin with a dot are left out, and so are pipes and devices. Links are followed,
    except links to a folder that contains the link. A link to nothing and a folder that cannot be
    read are treated as files, so that the code that reads them reports them.

    Args:
        folder: path of the folder.

    Yields:
        str, the path of each file. It begins with `folder`.

    Raises:
        OSError: the folder itself cannot be read.
    """
    folder = os.fspath(folder)
    # For each open folder this holds the entries that are left, and the real paths of the folder
    # and of its parents.
    stack = [(iter(_entries(folder)), [os.path.realpath(folder)])]
    while stack:
        entries, above = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
        elif not _is(entry.is_dir):
            if _is(entry.is_file) or not os.path.exists(entry.path):
                yield entry.path
        else:
            real = os.path.join(above[-1], entry.name)
            real = os.path.realpath(real) if entry.is_symlink() else real
            if real in above:
                continue
            try:
                stack.append((iter(_entries(entry.path)), [*above, real]))
            except OSError:
                yield entry.path


def _entries(folder):
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(found, key=lambda entry: entry.name)


def _is(question):
    """Returns the answer of a `DirEntry`, or False if it fails, as for a link to itself."""
    try:
        return question()
    except OSError:
        return False


def from_csv(path):
    """Lists the files of a table that has rows `path,label[;label...][,train|test]`.

    Relative paths start at the folder of the table. If the first row begins with `path`, it is a
    heading.

    Args:
        path: path of the table, which is encoded in UTF-8.

    Returns:
        `Found`, with the training rows first and each part sorted by path. All files count as
        images.

    Raises:
        UserError: the table does not exist, a row is wrong, or a file is named twice.
    """
    path, rows, lines = pathlib.Path(path), [], {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as table:
            reader = csv.reader(table)
            for row in reader:
                cells = [cell.strip() for cell in row]
                first = reader.line_num == 1 and cells and cells[0].lower() == "path"
                if first or not any(cells):
                    continue
                rows.append(_row(f"{path}:{reader.line_num}", path.parent, cells, lines))
    except FileNotFoundError:
        raise UserError(
            f"{path} is not there; csv:FILE takes a file with rows path,label"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a list of images: {error}") from None
    if not any(part == "train" for _, _, part in rows):
        raise UserError(
            f"{path} names no training images; its rows must be path,label[;label...][,train|test]"
        )
    rows = sorted(rows, key=lambda row: (row[2] != "train", row[0]))
    return Found(rows, collections.Counter(), [])


def _row(where, folder, cells, lines):
    """Checks one row. `lines` stores the line in which each file was named."""
    labels = sorted({label.strip() for label in "".join(cells[1:2]).split(";")} - {""})
    part = "".join(cells[2:3]) or "train"
    if not labels:
        raise UserError(
            f"{where}: the row has no label; it must be path,label[;label...][,train|test]"
        )
    if not cells[0] or part not in PARTS or len(cells) > 3:
        raise UserError(
            f"{where}: the row must be path,label[;label...][,train|test], but it is "
            f"{','.join(cells)!r}"
        )
    name = str(folder / cells[0])
    if lines.setdefault(name, where) != where:
        raise UserError(f"{where}: {name} was already named at {lines[name]}; remove one row")
    return name, labels, part
