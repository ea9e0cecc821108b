"""Plots that compare the methods of a section, as PNG bytes, or None if no line has two points.

The argument `styles` is a dict from each method that is drawn to its `canvas.Style`.
"""

import statistics

import numpy as np

from dah_tf.gallery import palette
from dah_tf.reporting import canvas, collection, histories, published, tables

GREY = palette.LIGHT["soft"]


def curves(runs, *paths):
    """Returns a curve over several runs: the mean of runs with the same points, at least two.

    Args:
        runs: list of `collection.Run`.
        *paths: for each coordinate, the keys under which it is stored in a result.

    Returns:
        List of tuples of float64 arrays. It has one tuple, or one for each run if their lengths
        differ. It is empty if no run has the data.
    """
    found = [[collection.numbers(run.result, *path) for path in paths] for run in runs]
    found = [
        np.array(each)
        for each in found
        if all(v is not None for v in each)
        and len({len(v) for v in each}) == 1
        and canvas.is_line(*each)
    ]
    if len({each.shape for each in found}) == 1:
        return [tuple(np.mean(found, axis=0))]
    return [tuple(each) for each in found]


def _by_length(section, styles, draw, how="line", **options):
    """Draws a panel per code length. `draw(axis, runs, style)` returns whether it drew anything."""
    held = [
        bits
        for bits in section.lengths
        if any(draw(None, section.of(method, bits), None) for method in styles)
    ]
    if not held:
        return None, []
    figure, axes = canvas.panels(len(held), **options)
    shown = set()
    for axis, bits in zip(axes, held, strict=True):
        axis.set_title(f"{bits} bits")
        for method, style in styles.items():
            if draw(axis, section.of(method, bits), style):
                shown.add(method)
    names = [method for method in styles if method in shown]
    canvas.legend(figure, names, {name: getattr(styles[name], how) for name in names})
    return figure, axes


@canvas.drawing
def precision_recall(section, styles, source):
    """Plots precision against recall (Figs. 2 and 5).

    Args:
        section: `collection.Section`.
        styles: dict of method to `canvas.Style`.
        source: `rank_curve` for every rank, or `radius_curve` for every Hamming radius.
    """
    radius = source == "radius_curve"
    # Radii that find nothing for most queries are left out, because they say little.
    precision = "precision_nonempty" if radius else "precision"

    def draw(axis, runs, style):
        found = curves(runs, (source, "recall"), (source, precision))
        for recall, value in found if axis else []:
            how = style.points if radius else style.line
            axis.plot(100 * recall, 100 * value, **how, markersize=4)
        return bool(found)

    figure, axes = _by_length(section, styles, draw, "points" if radius else "line")
    for axis in axes:
        axis.set(xlabel="Recall, %", ylabel="Precision, %", xlim=(-2, 102))
    canvas.percent_limits(axes)
    return canvas.png(figure) if figure else None


@canvas.drawing
def top_precision(section, styles):
    """Plots the precision of the top n for n up to 1,000 (Figs. 3 and 6)."""

    def draw(axis, runs, style):
        found = curves(runs, ("top_curve", "n"), ("top_curve", "precision"))
        for n, value in found if axis else []:
            axis.plot(n, 100 * value, **style.line)
        return bool(found)

    figure, axes = _by_length(section, styles, draw)
    for axis in axes:
        axis.set(xlabel="Number of items retrieved, n", ylabel="Precision of the top n, %")
    canvas.percent_limits(axes)
    return canvas.png(figure) if figure else None


@canvas.drawing
def map_by_length(section, styles):
    """Plots MAP against code length, with the paper's values if they are comparable."""
    values = _by_method(section, styles, lambda run: collection.measure(run.result, "map"))
    if not values:
        return None
    figure, [axis] = canvas.panels(1, panel=(7.0, 4.2))
    _against_length(axis, styles, values)
    how = {method: styles[method].points for method in values}
    for figures, marker in zip(published.of_the_paper(section), "Dx", strict=False):
        name, known = f"{figures.method} (paper)", figures.values
        how[name] = {"color": GREY, "linestyle": ":", "marker": marker}
        axis.plot(list(known), list(known.values()), **how[name])
        axis.set_xticks(sorted({*axis.get_xticks(), *known}))
    axis.set_ylabel("MAP, %")
    canvas.legend(figure, list(how), how)
    return canvas.png(figure)


@canvas.drawing
def within_radius(section, styles):
    """Plots the precision within Hamming radius 2 and the share of empty results (Figs. 4, 9)."""
    names = {"precision": "Precision within radius 2, %", "empty": "Queries that find nothing, %"}
    sides = {
        label: _by_method(section, styles, lambda run, key=key: tables.within(run, key))
        for key, label in names.items()
    }
    sides = {label: values for label, values in sides.items() if values}
    if not sides:
        return None
    figure, axes = canvas.panels(len(sides))
    for axis, (label, values) in zip(axes, sides.items(), strict=True):
        _against_length(axis, styles, values)
        axis.set_ylabel(label)
    drawn = [method for method in styles if any(method in values for values in sides.values())]
    canvas.legend(figure, drawn, {method: styles[method].points for method in drawn})
    return canvas.png(figure)


def _by_method(section, styles, measure):
    """Returns the values by length of methods with at least two lengths: dict of dicts of lists."""
    held = {}
    for method in styles:
        found = {}
        for bits in section.lengths:
            values = [measure(run) for run in section.of(method, bits)]
            values = [100 * value for value in values if value is not None]
            found |= {bits: values} if values else {}
        held |= {method: found} if len(found) > 1 else {}
    return held


def _against_length(axis, styles, values):
    """Draws means and, if there are several seeds, bars of the sample standard deviation."""
    for method, found in values.items():
        means = [statistics.fmean(each) for each in found.values()]
        bars = [statistics.stdev(each) if len(each) > 1 else 0 for each in found.values()]
        axis.errorbar(list(found), means, bars, capsize=3, **styles[method].points)
    axis.set_xticks(sorted({bits for found in values.values() for bits in found}))
    axis.set_xlabel("Code length, bits")


@canvas.drawing
def uniformity(section, styles):
    """Draws Table 5 as a plot: the ratio of ones to zeros of every bit, first seed per method."""

    def draw(axis, runs, style):
        found = [collection.numbers(run.result, "bit_balance", "ones") for run in runs]
        found = [ones for ones in found if ones is not None and canvas.is_line(ones)]
        if axis and found:
            # Dead bits have the ratio 0 or infinity. They are drawn at the ratio that they would
            # have if one image in 100 had the other value.
            share = np.clip(found[0], 0.01, 0.99)
            axis.plot(np.arange(1, len(share) + 1), share / (1 - share), **style.marks)
        return bool(found)

    figure, axes = _by_length(section, styles, draw, "marks")
    reach = max([2.1, *(1.15 * max(ratio, 1 / ratio) for ratio in canvas.drawn(axes))])
    for axis in axes:
        axis.axhline(1, color=GREY, linewidth=1, zorder=0)
        axis.set_yscale("log")
        axis.set(xlabel="Bit", ylabel="Ones to zeros", ylim=(1 / reach, reach))
        steps = (1, 1.25, 1.5, 2) if reach < 5 else (1, 2, 5, 10, 20, 50, 100)
        ticks = sorted({tick for step in steps if step < reach for tick in (step, 1 / step)})
        axis.set_yticks(ticks, [f"{tick:.3g}" for tick in ticks])
        axis.minorticks_off()
    return canvas.png(figure) if figure else None


@canvas.drawing
def distances(section, styles):
    """Plots the share of query-item pairs at each distance, for relevant pairs and for others."""

    def draw(axis, runs, style):
        found = curves(runs, ("distances", "relevant"), ("distances", "others"))
        if axis and found:
            relevant, others = found[0]
            axis.plot(100 * relevant, **style.line)
            axis.plot(100 * others, **style.line, linewidth=0.8)
        return bool(found)

    figure, axes = _by_length(section, styles, draw)
    for axis in axes:
        axis.set(xlabel="Hamming distance, bits", ylabel="Share of pairs, %")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
    return canvas.png(figure) if figure else None


@canvas.drawing
def margins(section, styles):
    """Plots how far the hash values are from the threshold 1/2."""
    largest = [collection.numbers(run.result, "margin", "edges") for run in section.runs]
    largest = max([each[-1] for each in largest if each is not None and len(each)], default=0.25)

    def draw(axis, runs, style):
        found = curves(runs, ("margin", "share"))
        edges = [collection.numbers(run.result, "margin", "edges") for run in runs]
        edges = [each for each in edges if each is not None]
        fits = bool(found and edges) and len(edges[0]) == len(found[0][0]) + 1
        if axis and fits:
            middles = (edges[0][1:] + edges[0][:-1]) / 2
            axis.plot(middles, 100 * found[0][0], **style.line)
        return fits

    figure, axes = _by_length(section, styles, draw)
    for axis in axes:
        axis.set(xlabel="Margin |x − 1/2| of a hash value", ylabel="Share of values, %")
        axis.set_xlim(0, largest)
        axis.set_ylim(bottom=0)
    return canvas.png(figure) if figure else None


@canvas.drawing
def per_class(section, styles):
    """Plots the MAP of each class, with a panel for each code length."""
    names, _ = tables.shown_classes(section.runs)

    def draw(axis, runs, style):
        held = [tables.class_values(run) for run in runs]
        points = []
        for place, name in enumerate(names):
            found = [each[name] for each in held if each.get(name) is not None]
            if found:
                points.append((100 * statistics.fmean(found), place))
        if len(points) < 2:
            return False
        if axis:
            x, y = zip(*points, strict=True)
            axis.plot(x, y, **style.marks)
        return True

    panel = (canvas.PANEL[0], 1.6 + 0.24 * len(names))
    figure, axes = _by_length(section, styles, draw, "marks", panel=panel)
    for axis in axes:
        axis.set_yticks(range(len(names)), [canvas.plain(name, 22) for name in names])
        axis.set(xlabel="MAP, %", ylim=(len(names) - 0.5, -0.5))
    return canvas.png(figure) if figure else None


@canvas.drawing
def validation(section, styles):
    """Plots every run's validation MAP against images seen, or steps if those are not recorded."""
    held = {}
    for run in (run for run in section.runs if run.folder and run.method in styles):
        history = histories.read(run.folder / "validation.jsonl", ["validation_map"])
        if history and canvas.is_line(history.values["validation_map"]):
            held[run.number] = (run, history)
    if not held:
        return None
    known = all(histories.images_per_step(run) for run, _ in held.values())
    ends = [
        log.step[-1] * (histories.images_per_step(run) if known else 1)
        for run, log in held.values()
    ]
    name = "Images seen" if known else "Steps"
    label, divisor = canvas.scaled(name, max(ends), canvas.COUNTS)

    def draw(axis, runs, style):
        found = [held[run.number] for run in runs if run.number in held]
        for run, history in found if axis else []:
            scale = histories.images_per_step(run) if known else 1
            x = history.step * scale / divisor
            axis.plot(x, 100 * history.values["validation_map"], **style.points, markersize=4)
        return bool(found)

    figure, axes = _by_length(section, styles, draw, "points")
    for axis in axes:
        axis.set(xlabel=label, ylabel="Validation MAP, %")
    canvas.percent_limits(axes)
    return canvas.png(figure) if figure else None
