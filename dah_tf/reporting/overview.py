"""Makes the first screen: the best runs by method and length, beside the published values."""

from dah_tf.reporting import collection, published, tables
from dah_tf.reporting.blocks import Cell, Table

ROWS = 12  # This many rows fit on a screen.


def best(sections):
    """Returns the MAP of the best recipe of each method and backbone at each code length.

    Args:
        sections: list of `collection.Section`, in the order of the page.

    Returns:
        `Table`, or None if no finished run has a MAP.
    """
    found = [(section, rows(section)) for section in sections]
    lengths = sorted({bits for _, group in found for row in group for bits in row["cells"]})
    if not lengths:
        return None
    kept, left_out = _kept(found)
    caption = (
        "Best runs: the MAP in percent of each method and backbone at each code length, with the "
        "recipe that is best at that length. The small figures are the bounds over the order of "
        "items at equal distance. If n runs differ only in the seed, a cell shows their mean ± "
        "sample standard deviation."
    )
    if left_out:
        caption += f" {left_out} further rows are in the sections below."
    header = ["Method", "Backbone", *(f"{bits} bits" for bits in lengths), "Over lengths"]
    header += ["Protocol", "Data", "Runs or source"]
    shown = [_written(section, row, lengths) for section, row in kept]
    told = any(published.applies(section) for section, _ in kept)
    return Table(caption, header, shown, _published(lengths) if told else [])


def rows(section):
    """Finds the best recipe of each method and backbone at each length, best network first.

    Returns:
        List of dicts with `kind`, `network`, and `cells`. The latter is a dict from the number of
        bits to the list of its runs.
    """
    held = {}
    for _, bits, runs in section.groups:
        first, value = runs[0], tables.mean(runs, "map")
        if bits is None or value is None or first.unfinished:
            continue
        name = (first.kind, first.network) if first.network else (first.name, "")
        cells = held.setdefault(name, {})
        if bits not in cells or value > tables.mean(cells[bits], "map"):
            cells[bits] = runs
    found = [{"kind": kind, "network": net, "cells": held[kind, net]} for kind, net in held]
    return sorted(found, key=_highest, reverse=True)


def _highest(row):
    return max(tables.mean(runs, "map") for runs in row["cells"].values())


def _kept(found):
    """Returns `(section, row)` of the rows that fit. Each section's first row has priority."""
    every = [
        (place, number, section, row)
        for number, (section, group) in enumerate(found)
        for place, row in enumerate(group)
    ]
    every.sort(key=lambda each: each[:2])
    kept = sorted(every[:ROWS], key=lambda each: (each[1], each[0]))
    return [(section, row) for *_, section, row in kept], max(0, len(every) - ROWS)


def _written(section, row, lengths):
    cells = [_cell(row["cells"].get(bits)) for bits in lengths]
    means = [tables.mean(runs, "map") for runs in row["cells"].values()]
    edges = f"{tables.percent(min(means))} – {tables.percent(max(means))}"
    runs = [run for bits in lengths for run in row["cells"].get(bits, [])]
    numbers = ", ".join(str(run.number) for run in runs)
    return [
        row["kind"] or None,
        row["network"] or None,
        *cells,
        edges if len(means) > 1 else None,
        section.protocol,
        "; ".join([section.images, *collection.notes(runs)]),
        f"run{'s' if len(runs) > 1 else ''} {numbers}",
    ]


def _cell(runs):
    if not runs:
        return None
    return Cell(tables.spread_of(runs, "map"), tables.tie_bounds_of(runs, "map"))


def _published(lengths):
    data = [published.FULL, published.DATA]
    return [
        [
            each.method,
            each.network,
            *tables.values_of(each, lengths),
            each.edges,
            *data,
            each.source,
        ]
        for each in published.FIGURES
        if each.protocol == published.FULL
    ]
