"""Values as JSON holds them."""

import json
import pathlib

import numpy as np

from dah_tf.files.plain import plain


def test_numpy_values_become_pythons_and_what_is_not_finite_none():
    value = {
        1: np.float32(0.5),
        "a": [np.int64(3), float("nan"), np.inf, None, True],
        "b": np.array([[1.0, np.nan], [2.0, 3.0]]),
        "c": (np.bool_(False), "text", pathlib.PurePosixPath("x/y")),
    }
    expected = {
        "1": 0.5,
        "a": [3, None, None, None, True],
        "b": [[1.0, None], [2.0, 3.0]],
        "c": [False, "text", "x/y"],
    }
    assert plain(value) == expected
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == expected
