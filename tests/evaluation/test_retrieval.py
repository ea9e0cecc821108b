"""The evaluation's dict and table."""

import json

import numpy as np
import pytest

from dah_tf import codes, metrics
from dah_tf.errors import UserError
from dah_tf.evaluation import retrieval

PROTOCOL = {
    "name": "own",
    "checksum": "0123456789ab",
    "description": "a tenth are queries",
    "seed": 3,
    "counts": {"query": 2, "database": 4},
}


def tiny():
    """Two queries, four items, four bits."""
    query = codes.pack([[0, 0, 0, 0], [1, 1, 1, 1]])
    database = codes.pack([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1], [1, 1, 1, 0]])
    return query, np.array([0, 1]), database, np.array([0, 1, 1, 0])


def test_by_hand():
    # Query one: 1 at distance 0, 0 at 1, 1 at 3, 0 at 4: AP (1 + 2/3) / 2 = 5/6; query two alike:
    # 1 at 0, 0 at 1, 1 at 3, 0 at 4. Within radius 2: one of two relevant. Of the top 1000: 2 of 4.
    result = retrieval.evaluate(*tiny(), 4, PROTOCOL, class_names=["cat", "dog"])
    for key, value in (("map", 5 / 6), ("map_at_1000", 5 / 6), ("precision_at_1000", 1 / 2)):
        assert list(result[key]) == ["expected", "worst", "best"]
        assert list(result[key].values()) == pytest.approx([value] * 3)
    assert result["precision_within_radius_2"] == 0.5
    # Of the four items that the top 1,000 holds, two are relevant: no ranking finds more.
    assert result["precision_at_1000_limit"] == 0.5
    assert "precision@1000 can reach at most 50.00 here" in retrieval.table(result)
    assert [row["precision"] for row in result["within_radius"]] == [1, 0.5, 0.5, 2 / 3, 0.5]
    assert result["bit_balance"]["ones"] == [0.5] * 4
    assert result["bit_balance"]["dead"] == 0
    assert result["distances"] == {
        "relevant": [0.5, 0, 0, 0.5, 0],
        "others": [0, 0.5, 0, 0, 0.5],
        "relevant_mean": 1.5,
        "others_mean": 2.5,
    }
    assert result["protocol"] == PROTOCOL
    assert (result["queries"], result["database"], result["bits"]) == (2, 4, 4)
    assert result["top_curve"]["n"] == [1, 2]
    assert result["top_curve"]["precision"] == pytest.approx([1, 0.5])
    assert result["per_class"] == [
        {"class": "cat", "queries": 1, "database": 2, "map": pytest.approx(5 / 6)},
        {"class": "dog", "queries": 1, "database": 2, "map": pytest.approx(5 / 6)},
    ]


def test_figures_are_those_of_metrics():
    rng = np.random.default_rng(0)
    query, database = (codes.pack(rng.integers(0, 2, (n, 36))) for n in (50, 1500))
    query_labels, labels = rng.integers(0, 10, 50), rng.integers(0, 10, 1500)
    result = retrieval.evaluate(query, query_labels, database, labels, 36, PROTOCOL)
    histograms = metrics.histograms(query, query_labels, database, labels, 36)
    for key, figure in (
        ("map", metrics.mean_average_precision(*histograms)),
        ("map_at_1000", metrics.mean_average_precision(*histograms, 1000)),
        ("precision_at_1000", metrics.precision_at(*histograms, 1000)),
    ):
        assert result[key] == figure._asdict()
        assert result[key]["worst"] < result[key]["expected"] < result[key]["best"]
    at_1000 = result["top_curve"]["precision"][result["top_curve"]["n"].index(1000)]
    assert at_1000 == pytest.approx(result["precision_at_1000"]["expected"])
    mean = np.mean([row["map"] for row in result["per_class"]])
    assert result["map"]["expected"] == pytest.approx(mean, abs=0.01)


@pytest.mark.parametrize(
    "bits, multi_label, dead", [(1, False, False), (36, True, False), (12, False, True)]
)
def test_json_and_table_in_odd_cases(bits, multi_label, dead):
    rng = np.random.default_rng(0)
    query, database = (codes.pack(rng.integers(0, 2, (n, bits))) for n in (5, 30))
    if dead:
        query, database = np.full_like(query, 0), codes.pack(np.ones((30, bits), int))
    query_labels, labels = rng.integers(0, 3, 5), rng.integers(1, 4, 30)
    if multi_label:
        query_labels, labels = rng.integers(0, 2, (5, 4)), rng.integers(0, 2, (30, 4))
    result = retrieval.evaluate(query, query_labels, database, labels, bits, PROTOCOL)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["bit_balance"]["dead"] == (bits if dead else 0)
    text = retrieval.table(result)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "None" not in text and "nan" not in text


def test_table_says_what_a_reader_needs():
    result = retrieval.evaluate(*tiny(), 4, PROTOCOL)
    result["accuracy"] = 0.875
    text = retrieval.table(json.loads(json.dumps(result)))
    for part in ("0123456789ab", "own", "2 queries", "4 database items", "4 bits", "83.33"):
        assert part in text
    for part in (
        "87.50",
        "MAP@1000 is over all 4 items",
        "tied",
        "relevant items retrieved",
        "empty",
    ):
        assert part in text


def test_the_protocol_may_not_be_empty():
    query, query_labels, database, labels = tiny()
    with pytest.raises(UserError, match="own has 0 queries and 4 database items"):
        retrieval.evaluate(query[:0], query_labels[:0], database, labels, 4, PROTOCOL)
    with pytest.raises(UserError, match="own has 2 queries and 0 database items"):
        retrieval.evaluate(query, query_labels, database[:0], labels[:0], 4, PROTOCOL)


def test_weighted_map_stands_without_percent():
    # Both items share both labels with the query: the mean grade up to each is 2.
    both, zero = np.ones((2, 2), int), codes.pack([[0, 1], [0, 1]])
    result = retrieval.evaluate(zero[:1], both[:1], zero, both, 2, PROTOCOL)
    assert result["weighted_map"] == 2.0 and result["ndcg"] == 1.0
    assert "weighted MAP               2.0000 (shared labels, not %)" in retrieval.table(result)
