"""Makes the tables of a section. Each function returns a table, or None if no run has the values.

A cell over several runs shows their mean ± sample standard deviation. A missing value is None.
"""

import statistics

import numpy as np

from dah_tf.reporting import collection, naming, published
from dah_tf.reporting.blocks import Table

SHOWN_CLASSES = 40
CELLS = "Cells show the mean ± sample standard deviation of n runs."


def spread(values, form):
    """Returns `mean ± standard deviation (n = count)` of the values that are not None, or None."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    if len(values) == 1:
        return form(values[0])
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    return f"{form(mean)} ± {form(deviation)} (n = {len(values)})"


def spread_of(runs, key):
    """Applies `spread`, in percent, to a measure that is a share."""
    return spread([collection.measure(run.result, key) for run in runs], percent)


def percent(value):
    return None if value is None else f"{100 * value:.2f}"


def decimal(value):
    return None if value is None else f"{value:.2f}"


def count(value):
    return None if value is None else f"{value:,.0f}"


def mean(runs, key):
    """Returns the mean of a measure over runs, or None."""
    found = [collection.measure(run.result, key) for run in runs]
    found = [value for value in found if value is not None]
    return statistics.fmean(found) if found else None


def within(run, key, radius=2):
    """Returns a value of `within_radius` at a radius, or None."""
    rows = collection.get(run.result, "within_radius")
    for row in rows if isinstance(rows, list) else []:
        if collection.number(row, "radius") == radius:
            return collection.number(row, key)
    if (key, radius) == ("precision", 2):
        return collection.number(run.result, "precision_within_radius_2")
    return None


def mean_average_precision(section):
    """Makes Table 2 of the paper: MAP by code length, beside the published values."""
    table = _by_length(section, "map", "Table 2: MAP by code length, %.")
    for each in published.of(section) if table else []:
        about = f"{each.network}; {each.source}" if each.network else each.source
        known = values_of(each, section.lengths)
        table.published.append([each.method, *known, each.edges, about])
    return table


def values_of(figures, lengths):
    """Returns published values at some code lengths as text, with None where there is none."""
    return [f"{figures.values[n]:.2f}" if n in figures.values else None for n in lengths]


def precision_at_1000(section):
    """Makes Table 3 of the paper: the precision of the top 1,000 by code length."""
    caption = "Table 3: precision of the top 1,000 by code length, %."
    table = _by_length(section, "precision_at_1000", caption)
    if table and published.applies(section):
        name, edges, source = published.PRECISION_AT_1000
        table.published.append([name, *[None] * len(section.lengths), edges, source])
    return table


def _by_length(section, key, caption):
    rows = []
    for method in section.methods:
        cells = [section.of(method, bits) for bits in section.lengths]
        means = [m for m in (mean(runs, key) for runs in cells) if m is not None]
        if not means:
            continue
        edges = f"{percent(min(means))} – {percent(max(means))}" if len(means) > 1 else None
        values = [[collection.measure(run.result, key) for run in runs] for runs in cells]
        rows.append([method, *(spread(v, percent) for v in values), edges, "measured"])
    header = ["Method", *map(_length, section.lengths), "Lowest – highest", "Source"]
    return Table(f"{caption} {CELLS}", header, rows) if rows else None


def _length(bits):
    return f"{bits} bits"


def tie_bounds(section):
    """Shows the lowest and highest MAP and top-1,000 precision over all orders of ties."""
    rows = []
    for method, bits, runs in section.groups:
        cells = [tie_bounds_of(runs, key) for key in ("map", "precision_at_1000")]
        if any(cells):
            rows.append([method, count(bits), *cells])
    caption = (
        "Bounds over the order of items at equal distance, %: the worst – the best order, as means."
    )
    header = ["Method", "Bits", "MAP", "Precision@1000"]
    return Table(caption, header, rows) if rows else None


def tie_bounds_of(runs, key):
    """Returns the means for the worst and the best order of ties, as `89.00 – 91.00`, or None."""
    sides = []
    for side in ("worst", "best"):
        found = [collection.number(run.result, key, side) for run in runs]
        found = [value for value in found if value is not None]
        if not found:
            return None
        sides.append(percent(statistics.fmean(found)))
    return " – ".join(sides)


def within_radius(section):
    """Shows Figs. 4 and 9 as numbers: the results within Hamming radius 2."""
    measures = {
        "precision": "Precision, empty results as 0",
        "precision_nonempty": "Precision without empty results",
        "empty": "Empty results",
        "recall": "Recall",
    }
    rows = []
    for method, bits, runs in section.groups:
        cells = [spread([within(run, key) for run in runs], percent) for key in measures]
        if any(cells):
            rows.append([method, count(bits), *cells, "measured"])
    header = ["Method", "Bits", *measures.values(), "Source"]
    table = Table(f"Within Hamming radius 2, %. {CELLS}", header, rows)
    if published.applies(section):
        name, edges, source = published.PRECISION_WITHIN_2
        table.published.append([name, None, edges, None, None, None, source])
    return table if rows else None


def other_measures(section):
    """Shows the measures that do not have a separate table."""
    measures = [
        ("map_at_1000", "MAP@1000, %", percent),
        ("accuracy", "Classifier accuracy, %", percent),
        ("ndcg", "NDCG, %", percent),
        ("ndcg_at_1000", "NDCG@1000, %", percent),
        # This is a mean number of shared labels, which may be above 1.
        ("weighted_map", "Weighted MAP, labels", decimal),
    ]
    measures = [m for m in measures if any(mean([r], m[0]) is not None for r in section.runs)]
    rows = [
        [method, count(bits)]
        + [
            spread([collection.measure(r.result, key) for r in runs], form)
            for key, _, form in measures
        ]
        for method, bits, runs in section.groups
    ]
    header = ["Method", "Bits", *(name for _, name, _ in measures)]
    return Table(f"Other measures. {CELLS}", header, rows) if measures else None


def references(section):
    """Shows the best values that the codes could reach, and the values of chance."""
    rows = []
    for run in section.runs:
        held = collection.get(run.result, "references")
        bits = collection.whole(held, "one_hot", "bits")
        for key, name in (
            ("map", "MAP"),
            ("precision_at_1000", "precision@1000"),
            ("precision_within_radius_2", "precision within radius 2"),
        ):
            cells = [
                percent(collection.measure(collection.get(held, each), key))
                for each in ("one_hot", "features_cosine", "random")
            ]
            if any(cells):
                own = percent(collection.measure(run.result, key))
                first = f"{cells[0]} ({bits} bits)" if cells[0] and bits else cells[0]
                rows.append([run.label, name, own, first, *cells[1:]])
    header = ["Run", "Measure", "Hash codes", "One-hot class", "Float features", "Random codes"]
    caption = (
        "Reference points, %. “One-hot class” is the code of the class that the classifier names. "
        "“Float features” are the features of the network, ranked by cosine similarity. “Random "
        "codes” have the same length."
    )
    return Table(caption, header, rows) if rows else None


def encoding_time(section):
    """Makes Table 4 of the paper: encoding time."""
    rows = []
    for run in section.runs:
        held = collection.get(run.result, "encoding")
        best, batch = collection.number(held, "best_ms"), collection.whole(held, "best_batch")
        single = collection.number(held, "batch_1_ms")
        if best is None and single is None:
            continue
        row = [run.label, run.method, count(run.bits), _ms(single), _ms(best), count(batch)]
        row += [count(collection.number(held, "images"))]
        rows.append([*row, collection.text(held, "hardware"), collection.text(held, "runtime")])
    header = ["Run", "Method", "Bits", "ms, batch of 1", "ms, best batch", "Best batch", "Images"]
    caption = "Table 4: encoding time in milliseconds for each image."
    return Table(caption, [*header, "Hardware", "Runtime"], rows) if rows else None


def _ms(value):
    return None if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def uniformity(section):
    """Makes Table 5 of the paper: how evenly each bit is one or zero."""
    rows = []
    for run in section.runs:
        balance = collection.get(run.result, "bit_balance")
        ratios = collection.numbers(balance, "ones_per_zero")
        if ratios is None or np.isnan(ratios).all():
            continue
        low, middle, high = np.nanmin(ratios), np.nanmean(ratios), np.nanmax(ratios)
        ones = [percent(collection.number(balance, key)) for key in ("ones_min", "ones_max")]
        row = [run.label, run.method, count(run.bits), *map(decimal, (low, middle, high))]
        rows.append([*row, *ones, count(collection.number(balance, "dead"))])
    header = ["Run", "Method", "Bits", "Lowest", "Mean", "Highest"]
    header += ["Fewest ones, %", "Most ones, %", "Dead bits"]
    caption = (
        "Table 5: the ratio of ones to zeros of a bit in the database. Ratio 1 is even. "
        "A bit that is never zero has no ratio and is left out."
    )
    return Table(caption, header, rows) if rows else None


def code_health(section):
    """Shows how well the codes use their bits, and how compact the classes are."""
    columns = [
        ("Distinct codes", ("codes", "distinct"), count),
        ("Shared by classes", ("codes", "shared_by_classes"), count),
        ("Items in shared", ("codes", "items_in_shared"), count),
        ("Dead bits", ("bit_balance", "dead"), count),
        ("Entropy of a bit", ("codes", "bit_entropy_mean"), decimal),
        ("Entropy of the code", ("codes", "code_entropy"), decimal),
        ("Mean |correlation|", ("codes", "correlation_mean"), decimal),
        ("Largest |correlation|", ("codes", "correlation_max"), decimal),
        ("Bits from class centre", ("codes", "distance_to_centre"), decimal),
        ("Bits to relevant items", ("distances", "relevant_mean"), decimal),
        ("Bits to others", ("distances", "others_mean"), decimal),
        ("Mean margin", ("margin", "mean"), decimal),
    ]
    rows = []
    for run in section.runs:
        cells = [form(collection.number(run.result, *path)) for _, path, form in columns]
        if any(cells):
            rows.append([run.label, count(run.bits), *cells])
    caption = (
        "Code health in the database. A shared code belongs to images of more than one class. "
        "Entropies are in bits. The margin is the mean of |x − 1/2| of the hash values; it is at "
        "most 0.25, or 0.5 with a tanh head."
    )
    header = ["Run", "Bits", *(name for name, _, _ in columns)]
    return Table(caption, header, rows) if rows else None


def class_values(run):
    """Returns the MAP of each class of a run: dict of name to float or None."""
    rows = collection.get(run.result, "per_class")
    rows = rows if isinstance(rows, list) else []
    names = [(collection.text(row, "class"), collection.number(row, "map")) for row in rows]
    return {name: value for name, value in names if name is not None}


def shown_classes(runs):
    """Returns class names in the order of the data: all, or the lowest and highest if many.

    Returns:
        List of str, and the number of all classes.
    """
    values = {}
    for run in runs:
        for name, value in class_values(run).items():
            values.setdefault(name, []).extend([] if value is None else [value])
    if len(values) <= SHOWN_CLASSES:
        return list(values), len(values)
    known = [name for name, found in values.items() if found]
    ranked = sorted(known, key=lambda name: statistics.fmean(values[name]))
    half = SHOWN_CLASSES // 2
    edge = ranked if len(ranked) <= SHOWN_CLASSES else ranked[:half] + ranked[-half:]
    return edge, len(values)


def per_class(section, bits):
    """Shows the MAP of each class for one code length."""
    runs = [run for run in section.runs if run.bits == bits]
    names, of = shown_classes(runs)
    held = {run.number: class_values(run) for run in runs}
    methods = [m for m in section.methods if any(held[r.number] for r in section.of(m, bits))]
    rows = [
        [name]
        + [
            spread([held[r.number].get(name) for r in section.of(m, bits)], percent)
            for m in methods
        ]
        for name in names
    ]
    part = (
        f" The table has {len(names)} of {of} classes: the lowest and the highest."
        if len(names) < of
        else ""
    )
    caption = f"MAP of each class at {bits} bits, %.{part} {CELLS}"
    return Table(caption, ["Class", *methods], rows) if rows else None


def run_list(section):
    """Lists every run with its main figures."""
    rows = []
    for run in section.runs:
        held = collection.get(run.result, "run")
        seconds = collection.number(held, "seconds")
        hours = f"{seconds / 3600:.2f}" if seconds is not None else None
        row = [run.label, run.method, count(run.bits), count(run.seed)]
        row += [
            percent(collection.measure(run.result, key)) for key in ("map", "precision_at_1000")
        ]
        row += [
            decimal(collection.number(held, "epochs")),
            count(collection.number(held, "images_seen")),
        ]
        finished = collection.text(held, "finished")
        row += [hours, collection.text(held, "hardware"), finished and finished[:10]]
        rows.append([*row, collection.text(held, "note")])
    header = ["Run", "Method", "Bits", "Seed", "MAP, %", "P@1000, %", "Epochs", "Images seen"]
    header += ["Training, hours", "Hardware", "Finished", "Note"]
    # The settings that all runs share are stated above the table.
    kept = [
        index
        for index, name in enumerate(header)
        if name not in ("Hardware", "Note") or len({row[index] for row in rows}) > 1
    ]
    rows = [[row[index] for index in kept] for row in rows]
    return Table("Runs", [header[index] for index in kept], rows)


def settings(section):
    """Shows the settings in which the methods of a section differ, or None if there are none.

    The options of a part are named `part.option`.
    """
    first = {}
    for run in section.runs:
        if run.settings:
            first.setdefault(run.method, naming.of_method(run.settings))
    names = naming.differing(list(first.values()))
    rows = [
        [method, *(naming.written(found[n]) if n in found else None for n in names)]
        for method, found in first.items()
    ]
    caption = "Settings in which the methods differ. The sign — means that one is not set or not recorded."
    return Table(caption, ["Method", *names], rows) if names else None


def shared(section):
    """Lists the settings that all runs of a section have in common, as `name=value`."""
    every = [naming.of_method(run.settings) for run in section.runs]
    different = naming.differing(every)
    return [f"{n}={naming.written(v)}" for n, v in every[0].items() if n not in different]
