"""Presents the results of a search as rows to print, as JSON, or as input for a gallery."""

import json
import os

import numpy as np

from dah_tf.errors import shortened
from dah_tf.gallery.captions import shown


def describe(index, queries, answers, totals=None):
    """Combines answers with the keys and labels of the items.

    Args:
        index: `Index`.
        queries: list of dicts, one for each query, with what is known about it.
        answers: list of tuples of arrays of equal length, nearest first. The arrays are distances,
            ids, and optionally scores. An id of -1 stands for no item.
        totals: sequence of int, one for each query. It says how many items of the index have the
            last distance of the answer. It is None if this is not known.

    Returns:
        List of dicts, one for each query. A dict holds the query's entries and `neighbours`, a list
        of dicts with `rank`, `distance`, `id`, `key`, `label`, and `score` if there are scores.
        With `totals` it also holds `at_last_distance`, the query's entry of `totals`, and `shown`,
        the number of these items among the neighbours.
    """
    found = [[each[answer[1] >= 0] for each in answer] for answer in answers]
    every = np.unique(np.concatenate([np.zeros(0, np.int64), *(each[1] for each in found)]))
    keys, labels = index.describe(every)
    described = []
    totals = [None] * len(found) if totals is None else totals
    for query, (distances, ids, *scores), total in zip(queries, found, totals, strict=True):
        places = np.searchsorted(every, ids)
        neighbours = [
            {
                "rank": rank + 1,
                "distance": int(distances[rank]),
                "id": int(ids[rank]),
                "key": keys[place],
                "label": labels[place],
            }
            for rank, place in enumerate(places)
        ]
        for each, score in zip(neighbours, *scores or [()], strict=bool(scores)):
            each["score"] = round(float(score), 4)
        described.append({**query, "neighbours": neighbours})
        if total is not None:
            last = int((distances == distances.max(initial=-1)).sum())
            # Another process may have removed some items since they were found.
            described[-1] |= {"at_last_distance": max(last, int(total)), "shown": last}
    return described


def last_distances(answers):
    """Returns the largest distance of each answer of `describe`: int64 array, -1 if it is empty."""
    return np.array([distances.max(initial=-1) for distances, *_ in answers], np.int64)


def to_json(answers):
    """Returns the answers as one line of JSON."""
    return json.dumps(answers)


def to_table(answers):
    """Yields the lines of a table, with a row for each neighbour.

    If there are further items at the last distance, a row at the end says how many.
    """
    every = [each for answer in answers for each in answer["neighbours"]]
    names = ["rank", "distance", *(["score"] if any("score" in each for each in every) else [])]
    names += ["id", *(n for n in ("key", "label") if any(each[n] for each in every))]
    none = {name: "-" for name in names} | {"id": "no match", "key": "", "label": ""}
    rows = [["query", *names]]
    for answer in answers:
        name = cell(answer["query"])
        listed = answer["neighbours"] or [none]
        if further := answer.get("at_last_distance", 0) - answer.get("shown", 0):
            last = max(each["distance"] for each in listed)
            listed = [*listed, none | {"distance": last, "id": f"{further:,} more"}]
        for each in listed:
            rows.append([name, *(cell(each.get(name, "-")) for name in names)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = {"rank", "distance", "score", "id"} | ({"query"} if every_number(answers) else set())
    for row in rows:
        cells = [
            text.rjust(width) if name in numbers else text.ljust(width)
            for name, text, width in zip(rows[0], row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def cell(text):
    """Returns a key, label or number as one line of bounded length."""
    return shortened(shown(text))


def every_number(answers):
    """Returns whether the names of all queries are numbers."""
    return all(isinstance(answer["query"], int) for answer in answers)


def with_paths(answers, root):
    """Returns the answers in the form that a gallery needs, with the paths of the images.

    Args:
        answers: list of dicts of `describe`. The entry `image` of a query is its path.
        root: str, the folder to which relative keys refer.
    """
    return [
        {
            "query": str(answer["query"]),
            "path": answer.get("image"),
            "label": answer.get("label", ""),
            "neighbours": [
                {**each, "path": os.path.join(root, each["key"]) if each["key"] else None}
                for each in answer["neighbours"]
            ],
        }
        for answer in answers
    ]
