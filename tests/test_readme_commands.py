"""README's Python code, and its commands for one's own images, run on small data."""

import os
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
SECTION = "## Your own images"


def blocks():
    """Returns the two bash blocks of the section: for images with labels, and without labels."""
    section = (ROOT / "README.md").read_text().split(SECTION)[1].split("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


def photos(folder):
    """Writes 24 photographs of discs and 24 of stripes, and four new ones as JPEG files."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :48]
    for number in range(52):
        kind = ("disc", "stripe")[number % 2]
        y, x, width = rng.integers(14, 34, 2).tolist() + [int(rng.integers(6, 12))]
        disc = (rows - y) ** 2 + (columns - x) ** 2 < width**2
        shape = disc if kind == "disc" else (rows + columns * (y % 3 - 1)) // width % 2 == 0
        color = rng.integers(60, 256, 3)
        pixels = np.where(shape[..., None], color, 20) + rng.normal(scale=12, size=(48, 48, 3))
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        path = folder / "photos" / kind / f"{number}.png"
        if number >= 48:
            path = folder / "new" / f"{kind}{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def run(commands, folder):
    """Runs a block in a folder without the installing, and returns the printed text."""
    lines = [line for line in commands.splitlines() if "pip install" not in line]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_one_minute_in_python(tmp_path, monkeypatch):
    """The code of the section, with a smaller network and one epoch of training."""
    section = (ROOT / "README.md").read_text().split("## One minute in Python")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    small = code.replace('backbone="compact"', 'backbone="compact:widths=8/16/16", epochs=1.0')
    assert small != code
    pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    names = {"images": np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), np.uint8)}
    pathlib.Path("minute.py").write_text(small)
    names = runpy.run_path("minute.py", names)
    assert names["run"].result["map"]["expected"] > 0.3
    assert names["codes"].shape == (20, 5) and names["codes"].dtype == np.uint8
    assert names["distances"].shape == (1, 10) and names["distances"][0, 0] == 0


@pytest.mark.slow
def test_three_commands_from_a_folder_to_neighbours(tmp_path):
    photos(tmp_path)
    # So few images are learned in fewer epochs than the recipe takes at least.
    out = run(blocks()[0].replace("--bits=36", "--bits=36 --epochs=10"), tmp_path)
    assert "own (" in out and "fast, chosen by auto" in out
    found = re.findall(r"^new/(\w+?)\d+\.jpg +1 .* photos/(\w+)/", out, re.MULTILINE)
    assert len(found) == 4, out
    assert all(query == neighbour for query, neighbour in found)
    assert (tmp_path / "found.html").read_text().count("data:image") > 4
    assert os.path.isdir(tmp_path / "photos.index")


@pytest.mark.slow
def test_photos_without_labels(tmp_path):
    """README's network is replaced, because a test cannot download its weights.

    The codes have fewer bits, because there are fewer images here than bits in README.
    """
    photos(tmp_path)
    labelled, unlabelled, _ = blocks()
    assert "--features=application:efficientnetv2b0" in unlabelled
    assert "--features=gist" in (ROOT / "README.md").read_text()
    small = unlabelled.replace("application:efficientnetv2b0", "gist").replace("=64", "=32")
    run(small, tmp_path)
    rest = [line for line in labelled.splitlines() if "dah_tf.train" not in line]
    out = run("\n".join(rest), tmp_path)
    assert len(re.findall(r"^new/\w+\.jpg +1 ", out, re.MULTILINE)) == 4
