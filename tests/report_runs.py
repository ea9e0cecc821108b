"""Small result folders with known figures, for the tests of the report."""

import html.parser
import json
import re

import numpy as np

HOSTILE = '<script>alert("x")</script>|`$a_b$*'


# As version 0.2.0 recorded them.
FLAGS = {"backbone": "resnet30", "attention": True, "seed": 0, "dataset": "cifar10", "phi1": 1.0}
FLAGS |= {"optimizer": "adam", "epochs": 4.0}


def bounds(value):
    return {"expected": value, "worst": value - 0.01, "best": value + 0.01}


def result(bits=12, average=0.9, seed=0, attention=True, **more):
    """A whole result; `more` replaces keys, and `flags` are added to the run's."""
    ones = np.linspace(0.4, 0.6, bits)
    flags = {**FLAGS, "bits": bits, "seed": seed, "attention": attention, **more.pop("flags", {})}
    curve = {"n": [1, 10, 100], "precision": [0.95, 0.9, 0.5], "recall": [0.1, 0.6, 1.0]}
    within = {"radius": 2, "precision": 0.8, "precision_nonempty": 0.9, "recall": 0.5, "empty": 0.1}
    full = {
        "protocol": {"name": "full", "checksum": "0123456789ab", "description": "all of it"},
        "bits": bits,
        "queries": 100,
        "database": 500,
        "conventions": {"ties": "expected order"},
        "accuracy": 0.77,
        "map": bounds(average),
        "precision_at_1000": bounds(0.93),
        "within_radius": [within],
        "bit_balance": {"ones": list(ones), "ones_per_zero": list(ones / (1 - ones)), "dead": 0},
        "codes": {"distinct": 1234, "distance_to_centre": 1.06},
        "top_curve": curve,
        "rank_curve": curve,
        "radius_curve": {
            "precision": [0.5] * (bits + 1),
            "precision_nonempty": [None, *[0.9] * bits],
            "recall": list(np.linspace(0.1, 1, bits + 1)),
            "empty": [0.5] * (bits + 1),
        },
        "per_class": [{"class": "cat", "map": 0.8}, {"class": "dog", "map": None}],
        "class_distances": [[1.0, 3.0], [3.0, None]],
        "distances": {
            "relevant": list(np.eye(bits + 1)[1]),
            "others": list(np.eye(bits + 1)[3]),
            "relevant_mean": 1.0,
            "others_mean": 3.0,
        },
        "margin": {"edges": [0, 0.1, 0.25], "share": [0.2, 0.8], "mean": 0.17},
        "references": {
            "one_hot": {"bits": 2, "map": bounds(0.87), "precision_at_1000": bounds(0.9)},
            "features_cosine": {"map": {"worst": 0.89}},
            "random": {"map": bounds(0.1)},
        },
        "data": {"name": "cifar10", "fingerprint": "feed"},
        "run": {"flags": flags, "hardware": "a machine", "images_seen": 4000, "steps": 40},
        "encoding": {"batch_1_ms": 6.3, "best_ms": 0.25, "best_batch": 64, "hardware": "a machine"},
    }
    return {**full, **more}


def store(folder, content):
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(content))
    return folder


def logs(folder, steps=40):
    """What training leaves beside the result; the last line is cut off."""
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            record = {"step": step, "seconds": step, "loss": 2 / step, "accuracy": None}
            file.write(json.dumps(record) + "\n")
        file.write('{"step": 4')
    checks = [json.dumps({"step": step, "validation_map": 0.8}) for step in (20, 40)]
    (folder / "validation.jsonl").write_text("\n".join(checks))
    rng = np.random.default_rng(0)
    np.savez(
        folder / "examples.npz",
        query_images=rng.integers(0, 256, [2, 8, 8, 3], np.uint8),
        neighbour_images=rng.integers(0, 256, [2, 10, 8, 8, 3], np.uint8),
        relevant=np.arange(20).reshape(2, 10) % 4 > 0,
        distances=np.zeros([2, 10], int),
        query_labels=np.array(["cat", "dog"]),
        neighbour_labels=np.full([2, 10], HOSTILE),
    )


def rows(markdown, caption):
    """Cells of the first Markdown table whose caption starts so, header first."""
    part = markdown.split(f"**{caption}")[1]
    lines = part.split("\n\n")[1].splitlines()
    assert set(lines[1]) <= set("|-: ")
    cells = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in lines]
    return [cells[0], *cells[2:]]


class Page(html.parser.HTMLParser):
    """What a page's elements are, and the rows of its tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.rows, self.pictures = [], [], [], []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]
        self.pictures += [attributes] if tag == "img" else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, text):
        if self._cell:
            self.rows[-1][-1] += text
