"""Builds the contents of the report in their order."""

import collections
import re

from dah_tf.reporting import (
    collection,
    histories,
    leaderboard,
    naming,
    overview,
    pictures,
    plots,
    tables,
)
from dah_tf.reporting.blocks import Bullets, Contents, Heading, Paragraph, Picture, Plain
from dah_tf.reporting.canvas import styles

TITLE = "Retrieval report"
DRAWN = 7  # A plot shows at most this many methods, one for each colour.
READING = (
    "A row of a table is a method: a hash method, a backbone and a recipe. It is named by the "
    "settings in which it differs from the other methods of its section; … says that further "
    f"settings differ, and a section's table of settings has them all. “{naming.USUAL}” are those "
    "that most recipes have, and an option of a backbone that is false is not named. A note stands "
    "in quotation marks where runs differ in nothing else. Runs of one recipe agree in every setting but code length, seed, and "
    "how the run is kept. Runs of one method and code length differ in the seed and are averaged: "
    "a cell without n is a single run. Results of an unfinished run have a row of their own. "
    "— is a figure that is not known."
)


def build(runs, problems, detailed):
    """Builds all blocks of the page.

    Args:
        runs: list of `collection.Run`, in the order of `collection.find`.
        problems: list of str, what could not be reported. Problems in drawing are appended.
        detailed: int, the number of runs in each section for which separate pictures are drawn.

    Returns:
        List of blocks.
    """
    sections = collection.sections(runs)
    parts = [block for each in sections for block in _section(each, detailed, problems)]
    links = [
        (part.anchor, part.text) for part in parts if isinstance(part, Heading) and part.anchor
    ]
    first = overview.best(sections)
    head = [Heading(1, TITLE), Paragraph(_opening(runs, sections))]
    head += [first] if first else []
    head += [Contents([*links, ("sources", "Sources")])]
    if problems:
        head += [Heading(2, "Not reported"), Bullets(problems)]
    sources = [f"{run.label}: {run.path}" for run in runs]
    return [
        *head,
        *parts,
        Heading(2, "Sources", "sources"),
        Paragraph("Where the results were read:"),
        Bullets(sources),
    ]


def _opening(runs, sections):
    text = f"{len(runs)} {'run is' if len(runs) == 1 else 'runs are'} compared."
    if len(sections) > 1:
        text += (
            f" There are {len(sections)} sections, one for each data set and protocol: figures of "
            "different sections must not be compared."
        )
    return text


def _section(section, detailed, problems):
    shown = drawn(section)
    looks = styles(shown)
    parts = [
        Heading(2, section.title, f"section-{section.number}"),
        Bullets(_facts(section)),
    ]
    best = _best(section)
    parts += [Paragraph(best)] if best else []
    parts += [Paragraph(READING)] if section.number == 1 else []
    parts += [tables.run_list(section)]
    if len(shown) < len(section.methods):
        note = f"Plots show {len(shown)} of the {len(section.methods)} methods: those of the most "
        parts += [Paragraph(f"{note}code lengths, and of these the ones of the highest MAP.")]
    for title, make in (
        ("Leaderboard", _leaderboard),
        ("Retrieval quality", _quality),
        ("Curves", _curves),
        ("Codes", _codes),
        ("Classes", _classes),
        ("Encoding time", lambda *_: [tables.encoding_time(section)]),
    ):
        found = [block for block in make(section, looks) if block is not None]
        parts += [Heading(3, title), *found] if found else []
    parts += _training(section, looks) + _own_pictures(section, detailed, problems)
    return parts + _settings(section) + [Heading(3, "Conditions"), Bullets(_conditions(section))]


def drawn(section):
    """Returns the methods in a section's plots, in the order of its tables."""
    means = {}
    for method, _, runs in section.groups:
        means.setdefault(method, []).append(tables.mean(runs, "map") or 0)
    ranked = sorted(means, key=lambda method: (len(means[method]), max(means[method])))
    chosen = ranked[-DRAWN:]
    return [method for method in section.methods if method in chosen]


def _facts(section):
    first = section.first
    sizes = [("queries", "queries"), ("database", "database items")]
    counts = [(collection.number(first, key), name) for key, name in sizes]
    rule = [collection.text(first, "protocol", "description")]
    rule += [f"{number:,.0f} {name}" for number, name in counts if number is not None]
    rule = "; ".join(part for part in rule if part)
    checksum = f"checksum {section.checksum}" if section.checksum else "checksum not stated"
    fingerprint = collection.text(first, "data", "fingerprint") or "not stated"
    facts = [
        f"Data: {section.data} (fingerprint {fingerprint}){_variants(section)}",
        f"Protocol: {section.protocol} ({checksum}){': ' if rule else ''}{rule}",
    ]
    if not section.checksum:
        facts.append("Without a checksum nothing shows that the runs used the same images.")
    twins = [runs for _, _, runs in section.groups if len({r.seed for r in runs}) < len(runs)]
    for runs in twins:
        listed = ", ".join(run.label for run in runs)
        facts.append(f"Averaged although not every seed is another: runs {listed}.")
    return facts


def _variants(section):
    notes = collection.notes(section.runs)
    return f"; variant as noted: {' / '.join(notes)}" if notes else ""


def _conditions(section):
    return [
        f"Hardware of training: {_counted(section, 'run', 'hardware')}",
        f"Versions: {_counted(section, 'run', 'versions')}",
        *_conventions(section),
    ]


def _counted(section, *path):
    """Returns the distinct values over the runs, and how many runs have each."""
    values = (collection.get(run.result, *path) for run in section.runs)
    shown = [
        ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        for value in values
    ]
    held = collections.Counter(str(value or "not stated") for value in shown)
    if len(held) == 1:
        return next(iter(held))
    return "; ".join(f"{value} ({count} {_runs(count)})" for value, count in held.items())


def _runs(count):
    return "run" if count == 1 else "runs"


def _conventions(section):
    held = {}
    for run in section.runs:
        stated = collection.get(run.result, "conventions")
        for name, rule in (stated if isinstance(stated, dict) else {}).items():
            held.setdefault(name, []).append(str(rule))
    if not held:
        return ["Conventions are not stated."]
    facts = []
    for name, rules in held.items():
        distinct = list(dict.fromkeys(rules))
        facts += [f"Convention, {name.replace('_', ' ')}: {' / '.join(distinct)}"]
        if len(distinct) > 1:
            facts.append(f"The runs differ in the convention on {name.replace('_', ' ')}.")
    return facts


def _best(section):
    means = [
        (tables.mean(runs, "map"), bits, method, len(runs))
        for method, bits, runs in section.groups
        if bits and tables.mean(runs, "map") is not None
    ]
    if not means:
        return None
    value, bits, method, count = max(means, key=lambda each: each[0])
    return (
        f"Highest MAP: {tables.percent(value)} % at {bits} bits ({method}; {count} {_runs(count)})."
    )


def _leaderboard(section, _):
    found = leaderboard.boards(section)
    return [Paragraph(leaderboard.READING), *found] if found else []


def _quality(section, looks):
    return [
        tables.mean_average_precision(section),
        _picture(
            section,
            "map",
            plots.map_by_length(section, looks),
            "MAP by code length, mean over seeds; bars are the sample standard deviation.",
        ),
        tables.precision_at_1000(section),
        tables.within_radius(section),
        _picture(
            section,
            "radius-2",
            plots.within_radius(section, looks),
            "Figs. 4 and 9: precision within Hamming radius 2, where an empty result counts as 0, "
            "and the share of queries that find nothing.",
        ),
        tables.tie_bounds(section),
        tables.other_measures(section),
        tables.references(section),
    ]


def _curves(section, looks):
    mean = "Mean over seeds."
    return [
        _picture(
            section,
            "precision-recall-rank",
            plots.precision_recall(section, looks, "rank_curve"),
            f"Figs. 2 and 5: precision against recall, by rank over the whole database. {mean}",
        ),
        _picture(
            section,
            "precision-recall-radius",
            plots.precision_recall(section, looks, "radius_curve"),
            "Precision against recall by Hamming radius, a mark a radius, 0 to the left; queries "
            f"that find nothing are left out of precision. {mean}",
        ),
        _picture(
            section,
            "top-n",
            plots.top_precision(section, looks),
            f"Figs. 3 and 6: precision of the top n, n up to 1,000. {mean}",
        ),
    ]


def _codes(section, looks):
    return [
        tables.uniformity(section),
        _picture(
            section,
            "uniformity",
            plots.uniformity(section, looks),
            "Table 5 bit by bit: ones to zeros over the database (1 is even), for the first seed "
            "of each method. Bits with under 1 or over 99 % of ones are drawn at that share.",
        ),
        tables.code_health(section),
        _picture(
            section,
            "distances",
            plots.distances(section, looks),
            "Distances from the queries to their relevant items, and by the thin lines to all others: "
            "the less they overlap, the better. Mean over seeds.",
        ),
        _picture(
            section,
            "margins",
            plots.margins(section, looks),
            "Margins: how far the hash values lie from the threshold. Values near 0 are bits that "
            "a small change of the image may turn. Mean over seeds.",
        ),
    ]


def _classes(section, looks):
    picture = _picture(
        section,
        "per-class",
        plots.per_class(section, looks),
        "MAP of each class, mean over seeds.",
    )
    return [picture, *(tables.per_class(section, bits) for bits in section.lengths)]


def _training(section, looks):
    picture = _picture(
        section,
        "validation",
        plots.validation(section, looks),
        "MAP on the validation part during training; one line a run.",
    )
    return [Heading(3, "Training"), picture] if picture else []


def _own_pictures(section, detailed, problems):
    """Draws pictures of single runs: the first seed per method and length, up to `detailed`."""
    first = [runs[0] for _, _, runs in section.groups]
    parts = []
    for run in first[:detailed]:
        found = [block for block in _of_run(section, run, problems) if block is not None]
        parts += [Heading(3, f"Run {run.label}: {_what(run)}"), *found] if found else []
    if parts and len(section.runs) > min(len(first), detailed):
        note = "Single runs below: the first seed of each method and code length"
        more = f", the first {detailed} of {len(first)}" if len(first) > detailed else ""
        parts.insert(0, Paragraph(f"{note}{more}."))
    return parts


def _what(run):
    return f"{run.method}, {run.bits} bits" if run.bits else run.method


def _of_run(section, run, problems):
    name = f"run-{run.number}"
    window = f"{histories.SMOOTH_SHARE:.0%}"
    yield _picture(
        section,
        f"{name}-training",
        pictures.training(run),
        f"Training of {run.label}: terms without their weights, each the mean over the last "
        f"{window} of the steps. Pauses between parts of a run are left out of its time.",
    )
    yield _picture(
        section,
        f"{name}-classes",
        pictures.class_distances(run),
        f"Mean Hamming distance between the classes' codes, {run.label}; on the diagonal, within "
        "a class.",
    )
    try:
        found = histories.examples(run.folder / "examples.npz") if run.folder else None
    except ValueError as error:
        problems.append(str(error))
        return
    if found is not None:
        right, of = int(found["relevant"].sum()), found["relevant"].size
        yield _picture(
            section,
            f"{name}-examples",
            pictures.retrieval(found),
            f"Figs. 7 and 8: retrieval examples of {run.label}. Left is the query, then come its "
            "nearest neighbours, each with its rank, Hamming distance and class. Wrong ones have a "
            f"thick frame and a cross in the corner. Of all {of:,} neighbours kept, {right:,} are relevant.",
        )


def _picture(section, name, png, caption):
    if png is None:
        return None
    # The name of the data may be a long path, so the number distinguishes sections.
    parts = f"{section.number} {section.data[-80:]} {section.protocol} {name}"
    file = re.sub(r"[^a-z0-9]+", "-", parts.lower()).strip("-") + ".png"
    return Picture(file, png, f"{caption} ({section.title})", caption)


def _settings(section):
    different, shared = tables.settings(section), tables.shared(section)
    parts = [different] if different else []
    if shared:
        several = len(section.runs) > 1
        said = "The same in all runs of the section:" if several else "The run's settings:"
        parts += [Paragraph(said), Plain("\n".join(shared))]
    return [Heading(3, "Settings"), *parts] if parts else []
