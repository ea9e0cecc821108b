"""Which runs a leaderboard compares, in which order, and what it says of them."""

import pytest
from report_runs import result, store

from dah_tf import reporting
from dah_tf.reporting import collection, leaderboard, published

NETWORK = "compact:widths=64/256/256,depth=2,attention=false"


def run(folder, name, average, method="ce", bits=36, seed=0, images=4000, epochs=8.0, **more):
    """Stores a result of today, of one hash method."""
    flags = {"backbone": NETWORK, "method": method, "optimizer": "adam", "dataset": "cifar10"}
    flags |= {"bits": bits, "seed": seed, "epochs": epochs, **more}
    about = {"flags": flags, "images_seen": images, "epochs": epochs, "seconds": 90.0}
    facts = {"name": method, "title": method.upper(), "source": "code"}
    store(folder / name, result(bits, average, run=about, method=facts))


def boards(folder):
    runs, _ = collection.find([str(folder)])
    return [table for each in collection.sections(runs) for table in leaderboard.boards(each)]


def cells(table):
    """The rows as texts, by the names of their columns."""
    return [dict(zip(table.header, map(str, row), strict=True), key=row[0]) for row in table.rows]


@pytest.fixture(name="folder")
def make_folder(tmp_path):
    root = tmp_path / "runs"
    run(root, "ce", 0.80)
    run(root, "dpsh-0", 0.85, method="dpsh")
    run(root, "dpsh-1", 0.87, method="dpsh", seed=1)
    return root


def test_methods_stand_in_the_order_of_map(folder):
    [table] = boards(folder)
    assert table.caption == "Leaderboard at 36 bits: compact, 4,000 training images seen."
    first, second = cells(table)
    assert (first["Method"], second["Method"]) == ("DPSH", "CE")
    # 85 and 87 are 86 on average with a deviation of sqrt(2); the bounds are a point away.
    assert first["MAP, %"] == "86.00 ± 1.41 (n = 2) (85.00 – 87.00)"
    assert second["MAP, %"] == "80.00 (79.00 – 81.00)"
    assert second["One-hot class, %"] == "87.00" and second["P@1000, %"] == "93.00"
    assert second["P within radius 2, %"] == "80.00"
    assert second["Ones of a bit, %"] == "40.00 – 60.00"
    assert (second["Training, min"], second["Encoding, ms"]) == ("1.5", "0.25")
    assert second["Source of the formula"] == "code"
    assert len(first["Runs"].split(", ")) == 2


def test_only_equal_cost_is_compared(folder):
    run(folder, "longer", 0.99, method="dah", images=8000)
    run(folder, "shorter", 0.99, method="dah", bits=12)
    [table] = boards(folder)
    assert [row["Method"] for row in cells(table)] == ["DPSH", "CE"]


def test_runs_of_one_method_are_no_leaderboard(tmp_path):
    run(tmp_path, "a", 0.80)
    run(tmp_path, "b", 0.85, learning_rate=0.1)
    assert boards(tmp_path) == []


def test_two_recipes_of_a_method_have_a_row_each(folder):
    run(folder, "fast", 0.90, learning_rate=0.1)
    [table] = boards(folder)
    names = [row["Method"] for row in cells(table)]
    assert names[0] == "CE, learning_rate=0.1" and names[1] == "DPSH" and len(names) == 3


def test_methods_of_one_fit_name_their_features(tmp_path):
    run(tmp_path, "itq", 0.2, method="itq", backbone="gist:size=32", epochs=0.0)
    run(tmp_path, "sdh", 0.4, method="sdh", backbone="hog", epochs=0.0)
    [table] = boards(tmp_path)
    assert table.caption.startswith("Leaderboard at 36 bits: features, ")
    assert [row["Method"] for row in cells(table)] == ["SDH, hog", "ITQ, gist"]


def test_an_unfinished_run_is_not_ranked(folder):
    flags = {"backbone": NETWORK, "method": "dah", "optimizer": "adam", "seed": 0, "epochs": 8.0}
    about = {"flags": flags, "images_seen": 4000, "epochs": 8.0, "step": 1, "steps": 9}
    store(folder / "begun", result(36, 0.99, run=about))
    [table] = boards(folder)
    assert len(table.rows) == 2


def test_the_report_has_it(folder, tmp_path):
    reporting.write([str(folder)], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "### Leaderboard" in text and leaderboard.READING in text
    assert text.index("**Leaderboard at 36 bits") < text.index("### Retrieval quality")


def test_published_figures_are_for_one_protocol_and_size(tmp_path):
    small = {"protocol": {"name": "1k/5k/59k", "checksum": "ffff"}}
    for name, more in (
        ("full", {}),
        ("small", small),
        ("own", {"protocol": {"name": "own"}}),
        ("24 px", {"flags": {"image_size": 24}, "data": {"name": "cifar10", "fingerprint": "x"}}),
    ):
        store(tmp_path / name, result(**more))
    runs, _ = collection.find([str(tmp_path)])
    held = {each.runs[0].path.parent.name: published.of(each) for each in collection.sections(runs)}
    assert {each.protocol for each in held["full"]} == {"full"}
    assert {each.protocol for each in held["small"]} == {"1k/5k/59k"}
    assert held["own"] == held["24 px"] == []
    [ksh] = [each for each in held["small"] if each.method == "KSH"]
    assert ksh.values[48] == 35.6 and ksh.edges == "30.30 – 35.60" and "GIST" in ksh.network
