"""Keeps results in the repository, and README's tables of them equal to the files.

    python tools/results.py RUN_FOLDER...              takes over each run's evaluation.json
    python tools/results.py --ablation RUN_FOLDER...   likewise, as a run of the ablation
    python tools/results.py                            only writes the tables anew

A result is stored as configs/results/NAME.json, NAME being the run folder's; those of the models
that ship with the package lie beside them. The ablation's are in configs/results/ablation, of
which `base` is what the others are compared with: a row tells in which flags, or by what --note,
they differ from it; rows stand in the order of the files' names. The tables stand in README.md
between two comments; --ablation also draws the distances in the base and in every `loss-NAME`.
"""

import argparse
import json
import pathlib
import re
import statistics
import sys

from dah_tf.reporting import naming
from dah_tf.runs import workspace
from dah_tf.runs.recipe import UNRECORDED

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "configs" / "results"
ABLATION = RESULTS / "ablation"
SHIPPED = ROOT / "dah_tf" / "pretrained"
COLUMNS = (
    "data, protocol",
    "method: network",
    "bits",
    "MAP (worst to best order)",
    "precision@1000",
    "within radius 2",
    "class accuracy",
    "images seen",
    "training",
    "hardware",
    "file",
)
ABLATION_COLUMNS = (
    "flags",
    "seeds",
    "MAP",
    "class accuracy",
    "distance within a class",
    "between classes",
    "ones of a bit, least to most",
    "training",
)


def percent(value):
    return "–" if value is None else f"{100 * value:.2f}"


def row(link, result):
    """Cells of one result, in the order of `COLUMNS`."""
    run, score = result["run"], result["map"]
    flags = run["flags"]
    found = naming.settings(flags)
    network = f"{found['method']}: {network_of(found)}"
    if flags.get("backbone_weights", "none") != "none":
        network += f", from {flags['backbone_weights']}"
    data = result["data"]["name"] + (f" ({run['note']})" if run["note"] else "")
    minutes = "–" if run["seconds"] is None else f"{run['seconds'] / 60:.0f} min"
    return (
        f"{data}, `{result['protocol']['name']}`, seed {flags['seed']}",
        network,
        str(result["bits"]),
        f"**{percent(score['expected'])}** ({percent(score['worst'])} to {percent(score['best'])})",
        percent(result["precision_at_1000"]["expected"]),
        percent(result["precision_within_radius_2"]),
        percent(result.get("accuracy")),
        f"{run['images_seen']:,}",
        minutes,
        run["hardware"],
        link,
    )


def network_of(found):
    """A backbone in words, of settings of any version: `compact 96/320/320 + CBAM`."""
    name = found["backbone"]
    usual = UNRECORDED.get(("backbone", name), {})
    options = {key.partition(".")[2]: v for key, v in naming.options(found, "backbone").items()}
    options = {key: v for key, v in options.items() if naming.written(v) != usual.get(key)}
    name += f" {options['widths']}" if "widths" in options else ""
    name += f" x {options['depth']:g}" if "depth" in options else ""
    return name + (" + CBAM" if options.get("attention") else "")


def table(folder=RESULTS, shipped=SHIPPED):
    """The Markdown table of two folders of results, by data, protocol, network and bits."""
    files = {f"[{path.stem}]({path.name})": path for path in folder.glob("*.json")}
    for path in shipped.glob("*/evaluation.json"):
        name = path.parent.name
        files[f"[pretrained:{name}](../../dah_tf/pretrained/{name}/{path.name})"] = path
    rows = [row(link, json.loads(path.read_text())) for link, path in sorted(files.items())]
    rows.sort(key=lambda cells: (cells[0], cells[1], int(cells[2])))
    return markdown(COLUMNS, rows)


def ablation(folder=ABLATION):
    """The Markdown table of the ablation: the base, then what differs from it, over the seeds."""
    base = settings(json.loads((folder / "base.json").read_text()))
    groups = {"base": []}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        found = settings(result)
        changed = [
            (each, found.get(each))
            for each in sorted({*found, *base}, key=lambda each: each.rpartition(".")[2])
            if found.get(each) != base.get(each) and not of_another_part(each, found, base)
        ]
        name = ", ".join(
            value if each == "note" else f"`--{each.rpartition('.')[2]}={written(value)}`"
            for each, value in changed
        )
        groups.setdefault(name or "base", []).append(result)
    rows = [[name, *ablation_cells(results)] for name, results in groups.items()]
    return markdown(ABLATION_COLUMNS, rows)


def leaderboards(folder=RESULTS):
    """The report's leaderboards of the results in a folder, as Markdown."""
    from dah_tf.reporting import blocks, collection, leaderboard

    runs, _ = collection.find([folder])
    parts = []
    for section in collection.sections(runs):
        for board in leaderboard.boards(section):
            # The numbers of runs are those of a report.
            rows = [row[:-1] for row in board.rows]
            caption = f"{section.title}. {board.caption}"
            parts.append(blocks.Table(caption, board.header[:-1], rows))
    return blocks.to_markdown(parts).split("-->\n\n", 1)[1].rstrip()


def settings(result):
    """The settings that may make a difference, and the note, of a result of any version."""
    flags = result["run"]["flags"]
    found = naming.of_method(naming.settings(flags))
    return {**found, "note": flags["note"]} if flags.get("note") else found


def of_another_part(name, found, base):
    """Whether it is an option of the base's part, of which another has taken the place."""
    part = name.partition(".")[0]
    return name not in found and "." in name and found.get(part) != base.get(part)


def written(value):
    """A setting as it is written on a command line."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def ablation_cells(results):
    """Cells of the runs of one recipe, after its name: means, and the lowest to the highest."""

    def over_runs(values, digits=2):
        mean, low, high = statistics.mean(values), min(values), max(values)
        spread = f" ({low:.{digits}f} to {high:.{digits}f})" if len(values) > 1 else ""
        return f"{mean:.{digits}f}{spread}"

    ones = [share for each in results for share in each["bit_balance"]["ones"]]
    return (
        ", ".join(str(seed) for seed in sorted(each["run"]["flags"]["seed"] for each in results)),
        over_runs([100 * each["map"]["expected"] for each in results]),
        over_runs([100 * each["accuracy"] for each in results]),
        over_runs([each["distances"]["relevant_mean"] for each in results], 1),
        over_runs([each["distances"]["others_mean"] for each in results], 1),
        f"{min(ones):.2f} to {max(ones):.2f}",
        f"{over_runs([each['run']['seconds'] / 60 for each in results], 1)} min",
    )


def markdown(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def with_table(readme, text, name="results"):
    """README's text with a table in its place.

    Raises:
        ValueError: the two comments are not there.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(readme):
        raise ValueError(f"the README has no {start} ... {end}")
    return pattern.sub(lambda _: f"{start}\n{text}\n{end}", readme)


def with_tables(readme):
    """README's text with every table in its place."""
    readme = with_table(readme, leaderboards(), "leaderboards")
    return with_table(with_table(readme, table()), ablation(), "ablation")


def take(folder, target=RESULTS):
    """Copies a run's result, if it says what a result, or one of the ablation, must say."""
    path = pathlib.Path(folder) / "evaluation.json"
    result = json.loads(path.read_text())
    name = path.parent.resolve().name
    row(name, result)
    if target == ABLATION:
        ablation_cells([result])
    result["run"]["flags"] = workspace.portable(result["run"]["flags"])
    target.mkdir(exist_ok=True)
    target = target / f"{name}.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    return target


def draw(folder=ABLATION):
    """Draws the distances within and between the classes in the base and what changes its loss."""
    from dah_tf.reporting import canvas, collection, plots

    runs, _ = collection.find([folder / "base.json", *sorted(folder.glob("loss-*.json"))])
    (section,) = collection.sections(runs)
    picture = plots.distances(section, canvas.styles(dict.fromkeys(run.method for run in runs)))
    (folder / "distances.png").write_bytes(picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", help="runs: the folders of the runs")
    parser.add_argument(
        "--ablation", action="store_true", help="ablation: the runs are those of the ablation"
    )
    options = parser.parse_args()
    for run in options.runs:
        try:
            print(take(run, ABLATION if options.ablation else RESULTS))
        except (OSError, ValueError, KeyError, TypeError) as error:
            sys.exit(f"error: {run} has no complete result ({error}); run dah_tf.evaluate on it")
    if options.ablation:
        draw()
    readme = RESULTS / "README.md"
    readme.write_text(with_tables(readme.read_text()))


if __name__ == "__main__":
    main()
