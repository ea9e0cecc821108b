"""What the report's tables, plots and pages say, from small runs with known figures."""

import json
import re
import struct
import zlib

import numpy as np
import pytest
from report_runs import FLAGS, HOSTILE, Page, logs, result, rows, store

from dah_tf import reporting
from dah_tf.reporting import blocks, canvas, chapters, collection, histories, pictures, tables


def read_png(content):
    """Width, height and the number of different bytes of a PNG's rows."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    data, at = b"", 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if content[at + 4 : at + 8] == b"IDAT":
            data += content[at + 8 : at + 8 + length]
        at += 12 + length
    return *struct.unpack(">II", content[16:24]), len(set(zlib.decompress(data)))


@pytest.fixture(name="report", scope="module")
def make_report(tmp_path_factory):
    """A report of a sweep with two methods, two seeds, another protocol, and a damaged run."""
    root = tmp_path_factory.mktemp("sweep")
    logs(store(root / "a" / "12-0", result(12, 0.90)))
    store(root / "a" / "12-1", result(12, 0.92, seed=1))
    store(root / "24", result(24, 0.95))
    store(root / "plain", result(12, 0.85, attention=False))
    other = {"name": "own", "checksum": "ffff"}
    name = {"name": HOSTILE, "note": HOSTILE, "flags": FLAGS}
    classes = [{"class": HOSTILE, "map": 0.5}, {"class": "dog", "map": 0.6}]
    store(root / "own", result(16, 0.47, protocol=other, run=name, per_class=classes))
    store(root / "bad", {})
    (root / "bad" / "evaluation.json").write_text('{"map": ')
    output = root / "out"
    count, problems = reporting.write([str(root)], output)
    assert count == 5
    assert len(problems) == 1 and "bad/evaluation.json is damaged" in problems[0]
    return output


@pytest.fixture(name="markdown", scope="module")
def read_markdown(report):
    return (report / "report.md").read_text(encoding="utf-8")


@pytest.fixture(name="shown", scope="module")
def read_page(report):
    return Page((report / "report.html").read_text(encoding="utf-8"))


def test_map_table_by_hand(markdown):
    # 90 and 92: mean 91, sample standard deviation sqrt((1 + 1) / 1) = 1.41.
    table = rows(markdown, "Table 2")
    assert table[0] == ["Method", "12 bits", "24 bits", "Lowest – highest", "Source"]
    assert table[1] == ["resnet30", "85.00", "—", "—", "measured"]
    assert table[2] == [
        "resnet30, attention=true",
        "91.00 ± 1.41 (n = 2)",
        "95.00",
        "91.00 – 95.00",
        "measured",
    ]


def test_published_figures_are_set_apart(markdown, shown):
    table = rows(markdown, "Table 2")
    divider = [row[0] for row in table].index("**Published, not measured here**")
    published = {row[0]: row[1:] for row in table[divider + 1 :]}
    assert published["DAH"][:3] == ["92.51", "92.19", "92.19 – 92.67"]
    assert published["NoneA-DAH"][:2] == ["92.08", "92.06"]
    assert published["BGAN"][:3] == ["—", "—", "89.4 (best)"]
    assert all("pretrained" in published[name][-1] for name in ("DTSH", "MIHash", "DCWH"))
    assert ["Published, not measured here"] in shown.rows


def test_other_protocols_stand_alone(markdown):
    # `own` is 47 %: in no table with the 12 and 24 bits of `full`, and with nothing of the paper.
    first, second = markdown.split("## cifar10, protocol own (ffff)")
    assert "47.00" not in first.split("## cifar10, protocol full (0123456789ab)")[1]
    assert rows(second, "Table 2")[0][1] == "16 bits"
    assert rows(second, "Table 2")[1][1] == "47.00"
    assert "91.00" not in second
    assert "IEEE Access" not in second and blocks.PUBLISHED not in second


def test_other_tables(markdown):
    assert rows(markdown, "Table 3")[2][1] == "93.00 ± 0.00 (n = 2)"
    # Shares of ones 0.4 to 0.6: ratios 2/3 to 3/2.
    assert rows(markdown, "Table 5")[1][3::2] == ["0.67", "1.50", "—"]
    assert rows(markdown, "Table 4")[1][3:6] == ["6.3", "0.25", "64"]
    bounds_of_ties = rows(markdown, "Bounds over")
    assert bounds_of_ties[2][1:3] == ["12", "90.00 – 92.00"]  # 89 to 91, and 91 to 93
    references = rows(markdown, "Reference points")
    assert references[3][1:] == ["MAP", "90.00", "87.00 (2 bits)", "89.00", "10.00"]
    radius = rows(markdown, "Within Hamming radius 2")
    assert radius[2][1:6] == ["12", *(f"{v}.00 ± 0.00 (n = 2)" for v in (80, 90, 10, 50))]
    assert radius[-1] == [
        "DAH",
        "—",
        "&gt; 90",
        *["—"] * 3,
        "DAH, IEEE Access 2020: at every length",
    ]
    classes = rows(markdown, "MAP of each class at 12")
    assert classes[1:] == [["cat", "80.00", "80.00 ± 0.00 (n = 2)"], ["dog", "—", "—"]]


def test_html_says_the_same(markdown, shown):
    assert ["resnet30", "85.00", "—", "—", "measured"] in shown.rows
    assert len(shown.pictures) == markdown.count("](1-cifar10") + markdown.count("](2-cifar10")


def test_page_is_self_contained(report, shown):
    assert shown.links and all(link.startswith(("#", "data:image/png")) for link in shown.links)
    assert not {"script", "link", "iframe", "object"} & set(shown.tags)
    assert "url(" not in (report / "report.html").read_text(encoding="utf-8")
    assert all(picture["alt"] for picture in shown.pictures)


def test_hostile_names_are_text(report, markdown, shown):
    assert "<script" not in (report / "report.html").read_text(encoding="utf-8")
    outside = re.sub(r"```text.*?```", "", markdown, flags=re.DOTALL)
    assert "<script" not in outside
    assert any(row[0] == HOSTILE for row in shown.rows)
    # Its bar does not split a Markdown cell.
    assert {
        len(row) for row in rows(markdown.split("## cifar10, protocol own")[1], "MAP of each")
    } == {2}


def test_pictures(report, markdown):
    names = re.findall(r"\]\(([^)]+\.png)\)", markdown)
    assert sorted(names) == sorted(path.name for path in report.glob("*.png"))
    kinds = {re.sub(r"^\d+-cifar10-(full|own)-(run-\d+-)?|\.png$", "", name) for name in names}
    assert kinds == {
        *("map", "radius-2", "precision-recall-rank", "precision-recall-radius", "top-n"),
        *("uniformity", "distances", "margins"),
        *("per-class", "validation", "training", "classes", "examples"),
    }
    for name in names:
        width, height, values = read_png((report / name).read_bytes())
        assert 350 < width < 2000 and 150 < height < 2000, name
        assert values > 20, f"{name} is blank"


def test_everything_is_optional(tmp_path):
    # One key at a time missing, null, or of the wrong kind: no crash, and cells stay empty.
    whole = result()
    for index, key in enumerate(whole):
        for other, value in enumerate((None, "text", [1], {"x": []}, 7)):
            store(tmp_path / f"{index}" / f"{other}", {**whole, key: value, "top_curve": None})
    runs, _ = collection.find([str(tmp_path)])
    assert len(runs) > 60
    assert chapters.build(runs[::3], [], 0)
    odd = [run for run in runs if run.result["per_class"] != whole["per_class"]]
    assert len(odd) == 5 and all(pictures.class_distances(run) for run in odd)
    for section in collection.sections(runs):
        for make in (
            *(tables.mean_average_precision, tables.precision_at_1000, tables.tie_bounds),
            *(tables.within_radius, tables.other_measures, tables.references),
            *(tables.encoding_time, tables.uniformity, tables.code_health, tables.run_list),
        ):
            table = make(section)
            assert table is None or {len(row) for row in table.rows} == {len(table.header)}


def test_bare_result(tmp_path):
    store(tmp_path / "bare", {"map": {"expected": 0.5}})
    count, problems = reporting.write([str(tmp_path / "bare")], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert (count, problems) == (1, [])
    assert "data not stated, protocol not stated" in text and "checksum not stated" in text
    assert rows(text, "Runs")[1][:6] == ["1 bare", "bare", "—", "—", "50.00", "—"]


def test_data_of_a_long_path(tmp_path):
    data = {"name": f"folder:/{'long/' * 60}photos", "fingerprint": "feed"}
    store(tmp_path / "long", result(data=data))
    assert reporting.write([str(tmp_path / "long")], tmp_path / "out") == (1, [])
    assert any(path.name.startswith("1-") for path in (tmp_path / "out").glob("*photos*.png"))


def test_wrong_kinds_are_drawn_around(tmp_path):
    odd = {
        "top_curve": {"n": [1, 2], "precision": [0.5]},
        "rank_curve": [],
        "class_distances": [[1.0], [2.0, 3.0]],
        "per_class": [3, {"class": None}],
        "bit_balance": {"ones": [None, 1.0], "ones_per_zero": [None, None]},
        "distances": {"relevant": [0.5, None], "others": [1]},
        "margin": {"edges": [0, 1], "share": [0.1, 0.2]},
    }
    logs(store(tmp_path / "odd", result(**odd)))
    (tmp_path / "odd" / "examples.npz").write_bytes(b"PK\x03\x04 half a file")
    (tmp_path / "odd" / "metrics.jsonl").write_text("[]\n\xff\n{}\n")
    _, problems = reporting.write([str(tmp_path / "odd")], tmp_path / "out")
    assert len(problems) == 1 and "examples.npz is damaged" in problems[0]


@pytest.mark.parametrize("length", [4, 30, 59, 200])
def test_legends_fit_their_pictures(length):
    names = [str(number) * length for number in range(5)]
    figure, _ = canvas.panels(1)
    before = figure.bbox.height
    canvas.legend(figure, names, {name: {} for name in names})
    (legend,) = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width
    assert len(legend.texts) == 5 and legend.texts[0].get_text().startswith("000")
    assert legend._ncols == (2 if length == 4 else 1)
    assert figure.bbox.height > before


def test_settings_table(tmp_path):
    store(tmp_path / "a", result(12, flags={"phi1": 1.0}))
    store(tmp_path / "b", result(24, seed=3, flags={"phi1": 0.5, "mirror": True, "workdir": "x"}))
    runs, _ = collection.find([str(tmp_path)])
    [section] = collection.sections(runs)
    table = tables.settings(section)
    assert table.header == ["Method", "method.phi1", "mirror"]
    assert table.rows == [
        ["resnet30, phi1=0.5, mirror=true", "0.5", "true"],
        ["resnet30, phi1=1, mirror=none", "1", None],
    ]
    shared = ["backbone.attention=true", "backbone=resnet30", "epochs=4", "method=dah"]
    assert sorted(tables.shared(section)) == [*shared, "optimizer=adam"]


def test_smoothing_by_hand():
    values = np.array([1.0, np.nan, 3.0, 5.0, np.nan, np.nan])
    # Windows of two: 1 | 1, - | -, 3 | 3, 5 | 5, - | -, -
    np.testing.assert_array_equal(histories.smooth(values, 2), [1, 1, 3, 4, 5, np.nan])


def test_long_histories_are_thinned(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = (f'{{"step": {n}, "loss": 2.0, "seconds": {n}}}' for n in range(1, 20_001))
    path.write_text("\n".join(lines))
    history = histories.read(path, ["loss", "seconds"])
    short = histories.smoothed(history)
    assert len(history.step) == 20_000 and len(short.step) == histories.POINTS
    assert (short.step[0], short.step[-1]) == (1, 20_000)
    np.testing.assert_allclose(short.values["loss"], 2)


def test_hours_leave_pauses_out():
    # Ten seconds a step; a pause adds nothing to what the log counts: the fifth ends at 40 s. The
    # third is not known, and lies between its neighbours.
    seconds = np.array([0.0, 10, np.nan, 30, 40])
    history = histories.History(np.arange(1.0, 6), {"seconds": seconds})
    assert histories.hours(history, [3])[0] * 3600 == pytest.approx(20)
    assert histories.hours(history, [5])[0] * 3600 == pytest.approx(40)


def test_styles_are_all_different():
    names = [str(index) for index in range(35)]
    assert len({(s.color, s.dash) for s in canvas.styles(names).values()}) == 35


def test_markdown_is_escaped():
    text = blocks.to_markdown([blocks.Paragraph("*a* _b_ c_d [e](f) `g` <i> h|i $j$ ~~k~~ \\\\")])
    escaped = r"\*a\* \_b\_ c_d \[e\](f) \`g\` &lt;i&gt; h\|i \$j\$ \~\~k\~\~ \\\\"
    assert text.splitlines()[2] == escaped


def test_text_that_is_no_text():
    assert blocks.clean("a\n\x00\ud800b\u202ec") == "a b c"
    assert canvas.plain("_$x$") == r" _\$x\$"


def test_weighted_map_is_no_percentage(tmp_path):
    # On average 1.5 shared labels: above 1, and no share of anything.
    run = store(tmp_path / "run", result(ndcg=0.5, ndcg_at_1000=0.25, weighted_map=1.5))
    reporting.write([str(run)], tmp_path / "out")
    header, cells = rows((tmp_path / "out" / "report.md").read_text(), "Other measures")
    shown = dict(zip(header, cells, strict=True))
    assert (shown["NDCG, %"], shown["NDCG@1000, %"]) == ("50.00", "25.00")
    assert shown["Weighted MAP, labels"] == "1.50"


def test_terms_are_whatever_a_run_logged(tmp_path):
    """In the order in which they come; a run may begin or end with others."""
    rows = [
        {"step": 1, "time": 5.0, "seconds": 1.0, "loss": 2.0, "pairs": 1.5, "accuracy": 0.1},
        {"step": 2, "time": 6.0, "seconds": 2.0, "loss": 1.0, "pairs": None, "late": 3.0},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    history = histories.read(path)
    assert histories.terms(history) == ["loss", "pairs", "late"]
    np.testing.assert_array_equal(history.step, [1, 2])
    np.testing.assert_array_equal(history.values["pairs"], [1.5, np.nan])
    np.testing.assert_array_equal(history.values["late"], [np.nan, 3.0])
    np.testing.assert_array_equal(history.values["seconds"], [1.0, 2.0])
