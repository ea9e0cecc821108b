"""The README's example."""

import pathlib
import re
import runpy

import dah_tf.baselines
from dah_tf import baselines, parts

README = pathlib.Path(dah_tf.baselines.__file__).with_name("README.md").read_text()


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    pathlib.Path("example.py").write_text(code)
    names = runpy.run_path("example.py")
    assert names["rows"].shape == (240, 512)
    assert names["codes"].shape == (240, 3)
    assert (names["same"] == names["codes"]).all()


def test_the_table_names_each_method_and_its_options():
    rows = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", README, re.MULTILINE)
    assert [name for name, _ in rows] == list(baselines.METHODS)
    for name, cell in rows:
        made_by = parts.factory("method", name, baselines.METHODS)
        assert re.findall(r"`(\w+)`", cell) == list(parts.keys(made_by))
