"""Reports the results of many runs on one page, with tables and plots, in HTML and Markdown."""

import contextlib
import os
import pathlib
import re
import shutil

from dah_tf.errors import UserError
from dah_tf.reporting import blocks, canvas, chapters, collection

__all__ = ["write"]

HTML, MARKDOWN = "report.html", "report.md"


def write(paths, output, detailed=16):
    """Writes a report on runs to a folder: `report.html`, `report.md` and PNG files.

    Args:
        paths: list of str. They name run folders, result files, or folders that hold several.
        output: path of the folder, which is created if it is missing. Files of an earlier report
            are replaced, and other files are left alone.
        detailed: int, the number of runs in each section for which separate pictures are drawn.

    Returns:
        The number of runs, and a list of str that says what could not be reported and why.

    Raises:
        UserError: there is no run, the folder cannot be written, or matplotlib is missing. Nothing
            has been written in these cases.
    """
    folder = pathlib.Path(os.path.realpath(output))
    _check_output(folder, output)
    canvas.check()
    runs, problems = collection.find(paths)
    content = chapters.build(runs, problems, detailed)
    files = {block.name: block.png for block in content if isinstance(block, blocks.Picture)}
    # The pages are written last, so that the pictures they show exist already.
    files[MARKDOWN] = blocks.to_markdown(content).encode()
    files[HTML] = blocks.to_html(content, chapters.TITLE).encode()
    try:
        _replace(folder, files)
    except OSError as error:
        raise UserError(f"cannot write to output={output}: {error.strerror}") from error
    return len(runs), problems


def _check_output(folder, output):
    """Raises errors early that would otherwise appear after minutes of drawing."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output={output} is a file; name a folder")
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to output={output}; choose another folder")
    for name in (HTML, MARKDOWN):
        path = folder / name
        if path.exists() and blocks.MARK not in _start(path):
            raise UserError(f"{path} is not from an earlier report; choose another output")


def _start(path):
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(500)
    except OSError:
        return ""


def _replace(folder, files):
    """Writes all files to a temporary place, then moves them to their final place.

    If the folder exists, the temporary place is inside it, because the folder may be on a separate
    file system.
    """
    new = not folder.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = (folder.parent if new else folder) / f".{folder.name}.{os.getpid()}.tmp"
    try:
        aside.mkdir()
        for name, content in files.items():
            (aside / name).write_bytes(content)
        if new:
            aside.rename(folder)
            return
        old = _pictures(folder / MARKDOWN) - set(files)
        for name in files:
            os.replace(aside / name, folder / name)
        for name in old:
            (folder / name).unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(aside)


def _pictures(path):
    """Returns the names of the picture files that an earlier report's Markdown shows."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return set()
    return set(re.findall(r"^!\[.*\]\(([a-z0-9-]+\.png)\)$", text, re.MULTILINE))
