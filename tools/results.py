"""Keeps results in the repository, and README's table of them equal to the files.

    python tools/results.py RUN_FOLDER...   takes over each run's evaluation.json
    python tools/results.py                 only writes the table anew

A result is stored as configs/results/NAME.json, NAME being the run folder's; those of the models
that ship with the package lie beside them. The table stands in README.md between two comments.
"""

import argparse
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "configs" / "results"
SHIPPED = ROOT / "dah_tf" / "pretrained"
START, END = "<!-- results -->", "<!-- /results -->"
COLUMNS = (
    "data, protocol",
    "network",
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


def percent(value):
    return "–" if value is None else f"{100 * value:.2f}"


def row(link, result):
    """Cells of one result, in the order of `COLUMNS`."""
    run, score = result["run"], result["map"]
    flags = run["flags"]
    network = flags["backbone"]
    if network in ("resnet30", "compact"):
        network += " + CBAM" if flags["attention"] else ""
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


def table(folder=RESULTS, shipped=SHIPPED):
    """The Markdown table of two folders of results, by data, protocol, network and bits."""
    files = {f"[{path.stem}](configs/results/{path.name})": path for path in folder.glob("*.json")}
    for path in shipped.glob("*/evaluation.json"):
        name = path.parent.name
        files[f"[pretrained:{name}](dah_tf/pretrained/{name}/{path.name})"] = path
    rows = [row(link, json.loads(path.read_text())) for link, path in sorted(files.items())]
    rows.sort(key=lambda cells: (cells[0], cells[1], int(cells[2])))
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def with_table(readme, text):
    """README's text with the table in its place.

    Raises:
        ValueError: the two comments are not there.
    """
    pattern = re.compile(f"{re.escape(START)}\n.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(readme):
        raise ValueError(f"README.md has no {START} ... {END}")
    return pattern.sub(lambda _: f"{START}\n{text}\n{END}", readme)


def take(folder):
    """Copies a run's result, if it says what a result must say."""
    path = pathlib.Path(folder) / "evaluation.json"
    result = json.loads(path.read_text())
    name = path.parent.resolve().name
    row(name, result)
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", help="run folders")
    for run in parser.parse_args().runs:
        try:
            print(take(run))
        except (OSError, ValueError, KeyError) as error:
            sys.exit(f"error: {run} has no whole result ({error}); run dah_tf.evaluate on it")
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), table()))


if __name__ == "__main__":
    main()
