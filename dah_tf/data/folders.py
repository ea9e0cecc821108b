"""Lists of labelled image files: a folder a class, or a table."""

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
        rows: list of `(path, labels, part)`: str, list of str, "train" or "test".
        ignored: `collections.Counter` of the files that are no images, by `images.name_kind`.
        warnings: list of str, sentences.
    """

    rows: list
    ignored: collections.Counter
    warnings: list


def from_folder(root):
    """The images of `root/CLASS/...`, or of `root/train/CLASS/...` and `root/test/CLASS/...`.

    Every image of a class' folder and of the folders in it counts (`images_below`). `train` and
    `test` are classes themselves where neither holds a folder. A folder without an image makes no
    class.

    Args:
        root: path.

    Returns:
        `Found`, sorted by path.

    Raises:
        UserError: no such folder, one that cannot be read, or no class in it.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is no folder; folder:PATH takes PATH/CLASS/IMAGE")
    bases = {part: root / part for part in PARTS if (root / part).is_dir()}
    found = Found([], collections.Counter(), [])
    try:
        # Folders of these names that hold images themselves are classes.
        if not any(path.is_dir() for base in bases.values() for path in _visible(base)):
            bases = {"train": root}
        for part, base in bases.items():
            for folder in filter(pathlib.Path.is_dir, _visible(base)):
                rows = [(path, [folder.name], part) for path in images_below(folder, found.ignored)]
                if not rows:
                    found.warnings.append(f"The folder {folder} holds no images and is left out.")
                found.rows.extend(rows)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    if not any(part == "train" for _, _, part in found.rows):
        base = bases.get("train", root / "train")
        raise UserError(f"{base} holds no folders of images; wanted: {base / 'CLASS' / 'IMAGE'}")
    return found


def without_classes(root):
    """Every image of a folder and of the folders in it, whatever their names.

    Args:
        root: path.

    Returns:
        `Found`, sorted by path; the images are of one class and in the training part.

    Raises:
        UserError: no such folder, one that cannot be read, or no image in it.
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
        raise UserError(f"{root} holds no images")
    return found


def _visible(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def images_below(folder, ignored):
    """The images among `files_below` of a folder, readable or not (`images.is_image`).

    Args:
        folder: path.
        ignored: `collections.Counter`, to which each other file is added by its kind.

    Yields:
        str, the path of each.

    Raises:
        OSError: the folder itself cannot be read.
    """
    for path in files_below(folder):
        if images.is_image(path):
            yield path
        else:
            ignored[images.name_kind(path)] += 1


def files_below(folder):
    """The files of a folder and of the folders in it, sorted folder by folder.

    What begins with a dot is left out, and pipes and devices are. Links are followed, but not to
    a folder that the link is in; a link to nothing and a folder that cannot be read count as
    files, so that whoever reads them tells of them.

    Args:
        folder: path.

    Yields:
        str, the path of each, beginning with `folder`.

    Raises:
        OSError: the folder itself cannot be read.
    """
    folder = os.fspath(folder)
    # Of each open folder its entries not yet looked at, and the real paths of it and those above.
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
    """What `DirEntry` answers; no where it cannot, as of a link to itself."""
    try:
        return question()
    except OSError:
        return False


def from_csv(path):
    """The files that a table names: rows `path,label[;label...][,train|test]`.

    Relative paths start at the table's folder. A first row that begins with `path` is a heading.

    Args:
        path: path of the table, UTF-8.

    Returns:
        `Found`: training rows first, each part sorted by path. All files count as images.

    Raises:
        UserError: no such table, a bad row, or a file named twice.
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
        raise UserError(f"{path} is not there; csv:FILE takes rows path,label") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a list of images: {error}") from None
    if not any(part == "train" for _, _, part in rows):
        raise UserError(f"{path} names no training images; want rows path,label[;label...]")
    rows = sorted(rows, key=lambda row: (row[2] != "train", row[0]))
    return Found(rows, collections.Counter(), [])


def _row(where, folder, cells, lines):
    """Checks one row; `lines` holds where each file was named."""
    labels = sorted({label.strip() for label in "".join(cells[1:2]).split(";")} - {""})
    part = "".join(cells[2:3]) or "train"
    if not labels:
        raise UserError(f"{where}: no label; want path,label[;label...][,train|test]")
    if not cells[0] or part not in PARTS or len(cells) > 3:
        raise UserError(
            f"{where}: want path,label[;label...][,train|test], found {','.join(cells)!r}"
        )
    name = str(folder / cells[0])
    if lines.setdefault(name, where) != where:
        raise UserError(f"{where}: {name} was already named at {lines[name]}; remove one row")
    return name, labels, part
