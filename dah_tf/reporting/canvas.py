"""Provides what all plots share: matplotlib without a screen, colours, panels and PNG bytes."""

import dataclasses
import functools
import importlib.util
import io
import math
import warnings

import numpy as np

from dah_tf.errors import UserError
from dah_tf.gallery import palette
from dah_tf.reporting.blocks import clean

COLORS = palette.SERIES
# 5 and 7 have no common factor, so 35 pairs of colour and dash occur before one is repeated.
DASHES = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2, 2, 2)))
MARKERS = "os^Dvx*P<>+"
PANEL = (5.2, 3.7)
LINE = 0.2  # This is the height of a legend's line in inches.
COUNTS = {"millions": 1e6, "thousands": 1e3, "": 1}
TIMES = {"hours": 1, "minutes": 1 / 60, "seconds": 1 / 3600}
SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "legend.fontsize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": palette.LIGHT["line"],
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "savefig.dpi": 110,
}


@dataclasses.dataclass(frozen=True)
class Style:
    """The appearance of a method in every plot. It can be recognised without colour too."""

    color: str
    dash: object
    marker: str

    @property
    def line(self):
        return {"color": self.color, "linestyle": self.dash}

    @property
    def points(self):
        # The marks are hollow, so that two marks at one place can both be seen.
        return {**self.line, "marker": self.marker, "markerfacecolor": "none"}

    @property
    def marks(self):
        return {**self.points, "linestyle": "none"}


def styles(names):
    """Returns a dict of name to `Style`. All styles are different for up to 35 names."""
    return {
        name: Style(COLORS[i % len(COLORS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(names)
    }


def drawing(function):
    """Decorates drawing functions: applies the settings here, and explains missing matplotlib."""

    @functools.wraps(function)
    def inner(*arguments, **options):
        check()
        import matplotlib

        with matplotlib.rc_context(SETTINGS):
            return function(*arguments, **options)

    return inner


def is_line(*coordinates):
    """Returns whether arrays of coordinates have at least two points with known values."""
    return int(np.logical_and.reduce([np.isfinite(each) for each in coordinates]).sum()) > 1


def check():
    """Raises a `UserError` if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("plots need matplotlib: pip install 'dah_tf[report]'")


def panels(count, columns=2, panel=PANEL, **options):
    """Creates a figure and `count` axes in rows of `columns`.

    Args:
        count: int, the number of axes.
        columns: int, the number of axes in a row.
        panel: width and height of one panel in inches.
        **options: options of `Figure.subplots`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(columns * panel[0], rows * panel[1]), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.09, w_pad=0.09)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).ravel())
    for left_over in axes[count:]:
        left_over.remove()
    return figure, axes[:count]


def legend(figure, names, how, columns=2):
    """Draws one legend below all panels. If it is too wide, uses fewer columns or shorter names.

    Args:
        figure: the figure.
        names: list of str, the names in the legend.
        how: dict of name to the keyword arguments of a line.
        columns: int, the largest number of columns.
    """
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **how[name]) for name in names]
    columns, longest = min(columns, len(names)), 60
    while True:
        drawn = figure.legend(
            handles,
            [plain(name, longest) for name in names],
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            handlelength=4,
        )
        room = figure.bbox.width / drawn.get_window_extent().width
        if room >= 1 or longest < 10:
            break
        drawn.remove()
        if columns > 1:
            columns -= 1
        else:
            longest = int(min(longest - 1, room * longest))
    lines = math.ceil(len(names) / columns)
    figure.set_figheight(figure.get_figheight() + LINE * max(0, lines - 2))


def plain(text, longest=28):
    """Returns text that is shown literally: "$" makes no formula, and the legend hides no name."""
    text = clean(text)
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def percent_limits(axes):
    """Sets the same limits for all panels, from the lowest curve to slightly above 100."""
    values = [value for value in drawn(axes) if math.isfinite(value)]
    low, high = (min(values), max(values)) if values else (0, 100)
    room = max(0.5, 0.08 * (high - low))
    for axis in axes:
        axis.set_ylim(max(-1.0, low - room), min(101.0, high + room))


def drawn(axes):
    """Returns the vertical coordinates of all lines that are drawn."""
    return [float(y) for axis in axes for line in axis.lines for y in line.get_ydata()]


def scaled(name, largest, units):
    """Returns an axis label and the divisor of its values, for the largest unit they reach.

    Args:
        name: str, the name of the quantity.
        largest: float, the largest value.
        units: dict of unit to divisor, with the largest unit first.
    """
    unit = next((u for u, divisor in units.items() if largest >= divisor), list(units)[-1])
    return f"{name}, {unit}" if unit else name, units[unit]


def png(figure):
    """Returns the figure as PNG bytes, which are the same for the same data."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Characters that the font lacks are drawn as boxes. The tables show the full text.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
