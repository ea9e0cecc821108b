"""README's tables of results are what the stored files say."""

import importlib.util
import json
import pathlib

import pytest

from dah_tf.reporting import naming

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("results", ROOT / "tools" / "results.py")
results = importlib.util.module_from_spec(spec)
spec.loader.exec_module(results)

FILES = sorted([*results.RESULTS.rglob("*.json"), *results.SHIPPED.glob("*/evaluation.json")])


def test_readme_holds_the_files_tables():
    readme = (ROOT / "configs" / "results" / "README.md").read_text()
    assert results.with_tables(readme) == readme, "run python tools/results.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_result_says_what_it_must(path):
    result = json.loads(path.read_text())
    run = result["run"]
    assert run["hardware"] and run["finished"] and run["seconds"] > 0 and run["images_seen"] > 0
    assert {"dah_tf", "keras", "numpy", "python"} <= set(run["versions"])
    assert {"seed", "bits", "backbone", "protocol"} <= set(run["flags"])
    assert result["protocol"]["checksum"] and result["data"]["fingerprint"]
    if result["data"]["name"] == "cifar10":
        assert run["note"], "say which variant of the images"
    for value in json.dumps(run["flags"]).split('"'):
        assert not value.startswith("/"), "no path of a machine"
    assert path.stat().st_size < 200_000


def test_a_table_by_hand(tmp_path):
    result = {
        "run": {
            "flags": {"backbone": "compact", "attention": True, "seed": 3, "optimizer": "adam"},
            "note": "JPEG q75",
            "seconds": 150.0,
            "images_seen": 12345,
            "hardware": "2 CPU cores",
        },
        "data": {"name": "cifar10"},
        "protocol": {"name": "full"},
        "queries": 5,
        "bits": 36,
        "map": {"expected": 0.91234, "worst": 0.9, "best": 0.92},
        "precision_at_1000": {"expected": 0.5},
        "precision_within_radius_2": None,
    }
    (tmp_path / "one.json").write_text(json.dumps(result))
    shipped = tmp_path / "shipped" / "two" / "evaluation.json"
    shipped.parent.mkdir(parents=True)
    shipped.write_text(json.dumps({**result, "bits": 48}))
    line, ready_made = results.table(tmp_path, tmp_path / "shipped").splitlines()[-2:]
    assert "| 48 |" in ready_made
    assert "[pretrained:two](../../dah_tf/pretrained/two/evaluation.json)" in ready_made
    assert line == (
        "| cifar10 (JPEG q75), `full`, seed 3 | dah: compact + CBAM | 36 | **91.23** (90.00 to 92.00) | "
        "50.00 | – | – | 12,345 | 2 min | 2 CPU cores | [one](one.json) |"
    )
    text = "a\n<!-- results -->\nold\n<!-- /results -->\nb"
    assert results.with_table(text, "new") == "a\n<!-- results -->\nnew\n<!-- /results -->\nb"
    with pytest.raises(ValueError, match="README"):
        results.with_table("nothing", "new")


def test_what_is_taken_names_no_folder_of_a_machine(tmp_path):
    source = json.loads(FILES[0].read_text())
    source["run"]["flags"]["backbone_weights"] = "/somewhere/runs/first"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(source))
    kept = json.loads(results.take(tmp_path / "run", tmp_path / "kept").read_text())
    assert kept["run"]["flags"]["backbone_weights"] == "first"
    source["run"]["flags"]["backbone_weights"] = "first"
    assert kept == source


def test_an_ablation_by_hand(tmp_path):
    plain = {"seed": 0, "t": None, "attention": False, "backbone": "compact", "optimizer": "muon"}
    plain |= {"fixed_norm": True, "validate_epochs": 1.0}

    def store(name, average, **flags):
        result = {
            "run": {"flags": {**plain, **flags}, "seconds": 90.0},
            "map": {"expected": average},
            "accuracy": 0.5,
            "distances": {"relevant_mean": 2.04, "others_mean": 11.0},
            "bit_balance": {"ones": [0.25, 0.5, average]},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(result))

    store("base", 0.75)
    store("base-1", 0.7, seed=1, workdir="elsewhere")
    store("wide", 0.6, t=10.0, attention=True)
    store("xavier", 0.6, note="another start")
    # What Muon alone has is no difference.
    store("y-sgd", 0.6, optimizer="sgd", momentum=0.9, validate_epochs=2.0)
    _, _, base, wide, start, sgd = results.ablation(tmp_path).splitlines()
    assert base == (
        "| base | 0, 1 | 72.50 (70.00 to 75.00) | 50.00 (50.00 to 50.00) | 2.0 (2.0 to 2.0) | "
        "11.0 (11.0 to 11.0) | 0.25 to 0.75 | 1.5 (1.5 to 1.5) min |"
    )
    assert wide == (
        "| `--attention=true`, `--t=10.0` | 0 | 60.00 | 50.00 | 2.0 | 11.0 | 0.25 to 0.60 | "
        "1.5 min |"
    )
    assert start.startswith("| another start | 0 | 60.00 |")
    assert sgd.startswith("| `--momentum=0.9`, `--optimizer=sgd` | 0 | 60.00 |")


def test_networks_of_results_of_any_version():
    old = {
        "backbone": "compact",
        "optimizer": "adam",
        "attention": True,
        "widths": ["8", "16", "16"],
    }
    assert results.network_of(naming.settings(old)) == "compact 8/16/16 + CBAM"
    written = "compact:widths=64/256/256,depth=3,attention=false"
    assert results.network_of(naming.settings({"backbone": written})) == "compact x 3"
    assert results.network_of(naming.settings({"backbone": "VGG16"})) == "VGG16"
