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
    "Each row of a table is a method, which is a hash method with a backbone and a recipe. Its "
    "name lists the settings in which it differs from the other methods of its section. The sign … "
    "means that further settings differ; the section's table of settings lists all of them. "
    f"“{naming.USUAL}” are those that most recipes have. Options of a backbone that are false are "
    "left out of its name. If runs differ only in their notes, a note is shown in quotation marks. "
    "Runs of one recipe may differ in the code length, in the seed, and in how the run is kept. "
    "Runs of one method and code length differ in the seed, and their results are averaged; a cell "
    "without n shows a single run. The results of an unfinished run have a row of their own. The "
    "sign — means that a figure is not known. Numbers of tables and figures (Figs.) are those of "
    "the DAH paper."
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
        Paragraph("The results were read from these files:"),
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
        note = f"The plots show {len(shown)} of the {len(section.methods)} methods. Methods with "
        parts += [Paragraph(f"{note}more code lengths come first, then those with a higher MAP.")]
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
        facts.append("Without a checksum it is not certain that the runs used the same images.")
    twins = [runs for _, _, runs in section.groups if len({r.seed for r in runs}) < len(runs)]
    for runs in twins:
        listed = ", ".join(run.label for run in runs)
        facts.append(f"These runs are averaged although some of them have the same seed: {listed}.")
    return facts


def _variants(section):
    notes = collection.notes(section.runs)
    return f"; the notes of the runs name a variant: {' / '.join(notes)}" if notes else ""


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
        return ["The runs do not state their conventions."]
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
            "MAP by code length, as the mean over the seeds. Bars show the sample standard deviation.",
        ),
        tables.precision_at_1000(section),
        tables.within_radius(section),
        _picture(
            section,
            "radius-2",
            plots.within_radius(section, looks),
            "Figs. 4 and 9: the precision within Hamming radius 2, where an empty result counts as "
            "0, and the share of queries that find nothing.",
        ),
        tables.tie_bounds(section),
        tables.other_measures(section),
        tables.references(section),
    ]


def _curves(section, looks):
    mean = "The lines are means over the seeds."
    return [
        _picture(
            section,
            "precision-recall-rank",
            plots.precision_recall(section, looks, "rank_curve"),
            f"Figs. 2 and 5: precision against recall, by rank in the whole database. {mean}",
        ),
        _picture(
            section,
            "precision-recall-radius",
            plots.precision_recall(section, looks, "radius_curve"),
            "Precision against recall by Hamming radius. Each mark is a radius, and radius 0 is on "
            f"the left. Queries that find nothing are left out of the precision. {mean}",
        ),
        _picture(
            section,
            "top-n",
            plots.top_precision(section, looks),
            f"Figs. 3 and 6: the precision of the n nearest items, for n up to 1,000. {mean}",
        ),
    ]


def _codes(section, looks):
    return [
        tables.uniformity(section),
        _picture(
            section,
            "uniformity",
            plots.uniformity(section, looks),
            "Table 5 for each bit: the ratio of ones to zeros in the database, for the first seed "
            "of each method. Ratio 1 is even. Bits with less than 1 % or more than 99 % of ones are "
            "shown at that limit.",
        ),
        tables.code_health(section),
        _picture(
            section,
            "distances",
            plots.distances(section, looks),
            "Distances from the queries to their relevant items, and as thin lines to all other "
            "items. The less they overlap, the better. The lines are means over the seeds.",
        ),
        _picture(
            section,
            "margins",
            plots.margins(section, looks),
            "Margins: the distance of the hash values from the threshold. A small change of the "
            "image may flip a bit whose margin is near 0. The lines are means over the seeds.",
        ),
    ]


def _classes(section, looks):
    picture = _picture(
        section,
        "per-class",
        plots.per_class(section, looks),
        "MAP of each class, as the mean over the seeds.",
    )
    return [picture, *(tables.per_class(section, bits) for bits in section.lengths)]


def _training(section, looks):
    picture = _picture(
        section,
        "validation",
        plots.validation(section, looks),
        "MAP on the validation images during training, with a line for each run.",
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
        note = "The runs shown below are the first seed of each method and code length"
        more = (
            f"; only the first {detailed} of {len(first)} are shown"
            if len(first) > detailed
            else ""
        )
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
        f"Training of {run.label}: the terms of the loss without their weights. Each value is the "
        f"mean over the last {window} of the steps. Pauses between parts of a run do not count.",
    )
    yield _picture(
        section,
        f"{name}-classes",
        pictures.class_distances(run),
        f"Mean Hamming distance between the codes of two classes, {run.label}. The diagonal shows "
        "the distance within a class.",
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
            f"Figs. 7 and 8: retrieval examples of {run.label}. The query is on the left, followed by "
            "its nearest neighbours, each with its rank, Hamming distance and class. Wrong "
            "neighbours have a thick frame and a cross in the corner. Of the "
            f"{of:,} neighbours that were stored, {right:,} are relevant.",
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
        said = (
            "All runs of the section have these settings:" if several else "The run's settings are:"
        )
        parts += [Paragraph(said), Plain("\n".join(shared))]
    return [Heading(3, "Settings"), *parts] if parts else []
