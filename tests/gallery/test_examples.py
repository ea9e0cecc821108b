"""Example retrievals from arrays, and the one table of colours."""

import pathlib
import re

import numpy as np
import pytest

from dah_tf.gallery import captions, examples, palette, sheet

ROOT = pathlib.Path(__file__).parents[2]
VERMILION = (213, 94, 0)


def arrays(channels=3, side=32):
    rng = np.random.default_rng(0)
    relevant = np.ones([2, 12], bool)
    relevant[1, 3] = False
    return {
        "query_images": rng.integers(0, 256, [2, side, side, channels], np.uint8),
        "neighbour_images": rng.integers(0, 256, [2, 12, side, side, channels], np.uint8),
        "relevant": relevant,
        "distances": np.arange(24).reshape(2, 12),
    }


def square(picture, row, column):
    """A neighbour's square; twelve neighbours are two lines."""
    line, column = divmod(column, sheet.PER_LINE)
    top = sheet.MARGIN + (2 * row + line) * sheet.LINE
    left = sheet.FIRST + column * (sheet.TILE + sheet.GAP)
    return picture[top : top + sheet.TILE, left : left + sheet.TILE]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_pixels_are_those_of_the_arrays(channels):
    given = arrays(channels)
    picture = np.asarray(examples.picture(**given))
    assert picture.dtype == np.uint8 and picture.shape[-1] == 3
    query = picture[sheet.MARGIN :][: sheet.TILE, sheet.MARGIN :][:, : sheet.TILE]
    assert np.array_equal(query[::4, ::4], np.broadcast_to(given["query_images"][0], [32, 32, 3]))
    for row, column in ((0, 0), (0, 11), (1, 4)):
        wanted = np.broadcast_to(given["neighbour_images"][row, column], [32, 32, 3])
        assert np.array_equal(square(picture, row, column), wanted.repeat(4, 0).repeat(4, 1))


def test_the_wrong_one_alone_is_framed_and_crossed():
    given = arrays()
    picture = np.asarray(examples.picture(**given))
    right = {**given, "relevant": np.ones([2, 12], bool)}
    changed = (picture != np.asarray(examples.picture(**right))).any(axis=-1)
    top = sheet.MARGIN + 2 * sheet.LINE - sheet.FRAME
    left = sheet.FIRST + 3 * (sheet.TILE + sheet.GAP) - sheet.FRAME
    side = sheet.TILE + 2 * sheet.FRAME
    around = np.zeros_like(changed)
    around[top : top + side, left : left + side] = True
    # "11 of 12 right" stands below the query.
    around[:, : sheet.MARGIN + sheet.TILE] |= changed[:, : sheet.MARGIN + sheet.TILE]
    assert not (changed & ~around).any()
    assert (picture[top, left : left + side] == VERMILION).all()
    assert (square(picture, 1, 3)[12:14, 12:14] == 0).all()
    assert (picture == VERMILION).all(axis=-1).sum() == side**2 - sheet.TILE**2


def test_labels_are_shown_and_not_judged():
    """A class of many words, such as a label of several, may be right where it reads otherwise."""
    given = arrays()
    labels = {
        "query_labels": np.array(["cat, pet", "dog"]),
        "neighbour_labels": np.full([2, 12], "cat"),
    }
    plain, told = (np.asarray(examples.picture(**given, **more)) for more in ({}, labels))
    assert (plain != told).any()
    frames = [(each == VERMILION).all(axis=-1).sum() for each in (plain, told)]
    assert frames[0] == frames[1]


def test_precision_of_what_is_known_to_be_wrong():
    found = [{"label": "", "wrong": wrong} for wrong in (True, False, False)]
    assert captions.precision({"label": "", "neighbours": found}) == (2, 3)
    found.append({"label": ""})
    assert captions.precision({"label": "", "neighbours": found}) is None


def luminance(color):
    """WCAG 2's relative luminance of "#rrggbb"."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("colors", [palette.LIGHT, palette.DARK, palette.PRINT])
def test_text_is_readable_on_its_page(colors):
    for ground in ("page", "shade"):
        for name in ("text", "soft", "link"):
            low, high = sorted(luminance(colors[each]) for each in (ground, name))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ground, name)


def test_every_color_is_of_the_palette():
    """No other module has a colour of its own."""
    hexadecimal = r"#[0-9a-fA-F]{6}\b|[\"': ]#[0-9a-fA-F]{3}\b"
    for folder in ("dah_tf", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found = re.findall(hexadecimal, path.read_text(encoding="utf-8"))
            assert not found or path == ROOT / "dah_tf" / "gallery" / "palette.py", (path, found)
    for colors in (palette.LIGHT, palette.DARK, palette.PRINT):
        assert set(colors) == set(palette.LIGHT)
    assert len(set(palette.SERIES)) == len(palette.SERIES)


def test_pages_name_no_color_that_is_not_there():
    from dah_tf.gallery import page
    from dah_tf.reporting import blocks

    for style in (page.STYLE, blocks.STYLE):
        used = set(re.findall(r"var\(--(\w+)\)", style))
        own = set(re.findall(r"--(\w+):", style))
        assert used <= own
        assert palette.css() in style
