"""Results of many runs as one page: tables, plots, HTML and Markdown."""

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
    """Reports runs: `report.html`, `report.md` and PNG files in a folder.

    Args:
        paths: list of str: run folders, result files, or folders of many.
        output: path of the folder; made if missing. Files of an earlier report there are replaced,
            others are left alone.
        detailed: int, runs of a section that get pictures of their own.

    Returns:
        Number of runs, and list of str: what could not be reported and why.

    Raises:
        UserError: no run, a folder that cannot be written, matplotlib missing; nothing was
            written.
    """
    folder = pathlib.Path(os.path.realpath(output))
    _check_output(folder, output)
    canvas.check()
    runs, problems = collection.find(paths)
    content = chapters.build(runs, problems, detailed)
    files = {block.name: block.png for block in content if isinstance(block, blocks.Picture)}
    # The pages come last: what they show is there when they are.
    files[MARKDOWN] = blocks.to_markdown(content).encode()
    files[HTML] = blocks.to_html(content, chapters.TITLE).encode()
    try:
        _replace(folder, files)
    except OSError as error:
        raise UserError(f"cannot write to output={output}: {error.strerror}") from error
    return len(runs), problems


def _check_output(folder, output):
    """Refuses early what would fail after minutes of drawing."""
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
    """Writes all files aside, then moves them into place.

    A folder that exists is written aside inside itself: it may be a file system of its own.
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
    """Names of the files that an earlier report's Markdown shows."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return set()
    return set(re.findall(r"^!\[.*\]\(([a-z0-9-]+\.png)\)$", text, re.MULTILINE))
