"""Ranks hash methods that were trained at equal cost: one network, data and number of images."""

import collections

from dah_tf.reporting import collection, tables
from dah_tf.reporting.blocks import Cell, Table

HEADER = (
    "Method",
    "MAP, %",
    "P@1000, %",
    "P within radius 2, %",
    "One-hot class, %",
    "Ones of a bit, %",
    "Training, min",
    "Encoding, ms",
    "Source of the formula",
    "Runs",
)
READING = (
    "A leaderboard compares hash methods at equal cost: its runs share the data, the network and "
    "the number of images that were seen in training. Methods that learn in one fit from fixed "
    "features have a leaderboard of their own. MAP is followed by its bounds over the order of "
    "items at equal distance. “One-hot class” is the MAP that the run's own classifier reaches "
    "with a one-hot code of its answer: a hash code below it loses something that the network "
    "knows. “Ones of a bit” are the smallest and the largest share of ones of a bit in the database. "
    "The source of a formula is the paper, the authors' code, or a reading, which is a "
    "reconstruction or our own."
)
FIT = "features"  # This stands for the network of methods that learn in one fit.


def boards(section) -> list[Table]:
    """Makes a table for each network, budget and code length with at least two hash methods.

    Args:
        section: `collection.Section`.

    Returns:
        List of `Table`. Its rows are ordered by MAP. Runs that differ only in the seed share a row,
        which shows means.
    """
    held = collections.defaultdict(list)
    for _, bits, runs in section.groups:
        budget = _budget(runs[0])
        if bits is None or budget is None or tables.mean(runs, "map") is None:
            continue
        held[(*budget, bits)].append(runs)
    found = []
    for (network, images, bits), groups in held.items():
        if len({runs[0].kind for runs in groups}) > 1:
            groups.sort(key=lambda runs: -tables.mean(runs, "map"))
            caption = f"Leaderboard at {bits} bits: {network}, {images:,} training images seen."
            found.append(Table(caption, list(HEADER), [_row(runs) for runs in groups]))
    return found


def _budget(run):
    """Returns the network and the number of images seen of a finished run, or None."""
    images = collection.whole(run.result, "run", "images_seen")
    if not run.kind or run.unfinished or images is None:
        return None
    return (FIT if _fitted(run) else run.network), images


def _fitted(run):
    return collection.number(run.result, "run", "epochs") == 0


def _row(runs):
    run = runs[0]
    name = collection.text(run.result, "method", "title") or run.kind
    parts = [name, run.network if _fitted(run) else "", run.recipe]
    seconds = [collection.number(each.result, "run", "seconds") for each in runs]
    minutes = [None if each is None else each / 60 for each in seconds]
    encoding = [collection.number(each.result, "encoding", "best_ms") for each in runs]
    return [
        ", ".join(filter(None, parts)),
        Cell(tables.spread_of(runs, "map"), tables.tie_bounds_of(runs, "map")),
        tables.spread_of(runs, "precision_at_1000"),
        tables.spread([tables.within(each, "precision") for each in runs], tables.percent),
        tables.spread([_one_hot(each) for each in runs], tables.percent),
        _ones(runs),
        tables.spread(minutes, lambda value: f"{value:.1f}"),
        tables.spread(encoding, lambda value: f"{value:.3g}"),
        collection.text(run.result, "method", "source"),
        ", ".join(str(each.number) for each in runs),
    ]


def _one_hot(run):
    return collection.measure(collection.get(run.result, "references", "one_hot"), "map")


def _ones(runs):
    shares = [collection.numbers(each.result, "bit_balance", "ones") for each in runs]
    shares = [value for each in shares if each is not None for value in each]
    return f"{tables.percent(min(shares))} – {tables.percent(max(shares))}" if shares else None
