"""Files and requests that mean no good: an answer or a clear error, and never a crash.

The environment variable DAH_TF_FUZZ sets how many mutated files are sent (default 400):

    DAH_TF_FUZZ=20000 python -m pytest -m slow tests/serving/test_hostile_images.py
"""

import functools
import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import fuzz_images
import numpy as np
import pytest
import serving_models
from PIL import Image

HERE = Path(__file__).parents[1]
COUNT = int(os.environ.get("DAH_TF_FUZZ", "400"))
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
THIN = ((1, 1), (1, 10_000), (10_000, 1))
LARGE = (16_000, 16_000)


def python(program, *arguments):
    command = [sys.executable, HERE / program, serving_models.model_folder() / "1", *arguments]
    env = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=env)


def ask(folder, requests):
    """The replies to requests, or the way the process ended."""
    asked, answered = folder / "requests", folder / "replies"
    asked.write_bytes(pickle.dumps(requests))
    done = python("capi.py", asked, answered)
    if done.returncode:
        return f"ended with {done.returncode}: {done.stderr[-2000:]}"
    return pickle.loads(answered.read_bytes())["replies"]


def ask_each(folder, signature, inputs):
    """The reply to each of a dict of requests; a crash names the one to blame."""
    requests = [(signature, value) for value in inputs.values()]
    replies = ask(folder, requests)
    if isinstance(replies, str):
        alone = {name: ask(folder, [(signature, value)]) for name, value in inputs.items()}
        pytest.fail(
            f"{[name for name, reply in alone.items() if isinstance(reply, str)]}: {replies}"
        )
    return dict(zip(inputs, replies, strict=True))


def png(width, height, data):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), *data, (b"IEND", b"")]
    parts = [struct.pack(">I", len(body)) + kind + body + b"1234" for kind, body in chunks]
    return fuzz_images.with_checksums(fuzz_images.PNG + b"".join(parts))


def blank_rows(width, height):
    """Every pixel of a black image is there: a few kilobytes for a megapixel."""
    return [(b"IDAT", zlib.compress(bytes((1 + 3 * width) * height), 1))]


def claiming(form, width, height):
    """A small file whose header tells of another size."""
    data = bytearray(serving_models.encoded(np.zeros((8, 8, 3), np.uint8), form))
    if form == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif form == "GIF":
        frame = data.index(b"\x2c", 13) + 5
        for at in (6, frame):
            data[at : at + 4] = struct.pack("<HH", width, height)
    elif form == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    elif form == "WEBP":
        data[26:30] = struct.pack("<HH", width, height)
    else:
        return png(width, height, [(b"IDAT", zlib.compress(bytes(200)))])
    return bytes(data)


def thin(form, size):
    return serving_models.encoded(Image.new("RGB", size, (200, 90, 10)), form)


def long_text():
    """A PNG with a comment of 100 megabytes, compressed."""
    comment = b"Comment\0\0" + zlib.compress(bytes(100_000_000))
    pixels = zlib.compress(bytes(4 * (1 + 3 * 4)))
    return png(4, 4, [(b"zTXt", comment), (b"IDAT", pixels)])


@functools.cache
def files():
    """Name to a file, and whether it is an image to the model (None: either will do)."""
    square = blank_rows(8192, 8192)
    checksum = bytearray(thin("PNG", (5, 5)))
    checksum[-13] ^= 1  # the last byte of the pixels' own
    return {
        "empty": (b"", False),
        "one byte": (b"\xff", False),
        "text": (b"hello", False),
        "HTML": (b"<!doctype html><title>404</title>", False),
        "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', False),
        "zip": (b"PK\x05\x06" + bytes(18), False),
        "TIFF": (thin("TIFF", (5, 5)), False),
        "zeros": (bytes(100_000), False),
        "only a JPEG's magic": (b"\xff\xd8\xff", False),
        "only a PNG's magic": (fuzz_images.PNG, False),
        "only a GIF's magic": (b"GIF89a", False),
        "only a WebP's magic": (b"RIFF\x04\0\0\0WEBP", False),
        "only a BMP's magic": (b"BM", False),
        "wrong checksum": (bytes(checksum), None),
        "PNG of no size": (png(0, 0, [(b"IDAT", zlib.compress(b""))]), False),
        "a bomb just allowed": (png(8192, 8192, square), True),
        "a bomb of one row more": (png(8192, 8193, square), False),
        "a comment of 100 MB": (long_text(), None),
        **{f"{form} {w}x{h}": (thin(form, (w, h)), True) for form in FORMATS for w, h in THIN},
        **{f"{form} claims 0x8": (claiming(form, 0, 8), False) for form in FORMATS},
        **{f"{form} claims {LARGE}": (claiming(form, *LARGE), False) for form in FORMATS},
        "JPEG claims 8000x8000": (claiming("JPEG", 8000, 8000), None),
        "PNG claims 8000x8000": (claiming("PNG", 8000, 8000), None),
        "PNG claims 2**31-1": (claiming("PNG", 2**31 - 1, 2**31 - 1), False),
    }


@pytest.mark.slow
def test_single_files(tmp_path):
    inputs = {name: {"image_bytes": [file]} for name, (file, _) in files().items()}
    replies = ask_each(tmp_path, "serving_default", inputs)
    wrong = {
        name: reply if isinstance(reply, str) else bool(reply["valid"][0])
        for name, reply in replies.items()
        if isinstance(reply, str) or files()[name][1] not in (None, reply["valid"][0])
    }
    assert not wrong
    for name, reply in replies.items():
        if not reply["valid"][0]:
            assert not reply["codes"].any() and not reply["probabilities"].any(), name


@pytest.mark.slow
def test_files_cut_at_every_tenth(tmp_path):
    """One request holds them all and a good one."""
    whole = {form: serving_models.encoded(next(serving_models.crops(1)), form) for form in FORMATS}
    cuts = [(form, tenth) for form in FORMATS for tenth in range(10)]
    pieces = [whole[form][: len(whole[form]) * tenth // 10] for form, tenth in cuts]
    (reply,) = ask(tmp_path, [("serving_default", {"image_bytes": [*pieces, *whole.values()]})])
    assert reply["valid"][len(cuts) :].all()
    for (form, tenth), valid in zip(cuts, reply["valid"], strict=False):
        assert not (valid and tenth < 3), f"{form} cut at {tenth} tenths"


@pytest.mark.slow
def test_requests_of_another_kind_are_errors(tmp_path):
    inputs = {
        "numbers": {"image_bytes": np.zeros(3, np.uint8)},
        "no input": {},
        "another input": {"images": [b""]},
        "more inputs": {"image_bytes": [b""], "more": [b""]},
    }
    for name, reply in ask_each(tmp_path, "serving_default", inputs).items():
        assert isinstance(reply, str) and reply, name
    good = serving_models.files(1)[0]
    inputs = {  # no error, but no image either
        "one string": {"image_bytes": np.array(good, np.object_)},
        "two dimensions": {"image_bytes": np.array([[good]], np.object_)},
    }
    for name, reply in ask_each(tmp_path, "serving_default", inputs).items():
        assert not reply["valid"].any() and not reply["codes"].any(), name
    inputs = {
        "three dimensions": {"pixels": np.zeros((8, 8, 3), np.uint8)},
        "floats": {"pixels": np.zeros((1, 8, 8, 3), np.float32)},
        "text": {"pixels": [b"x"]},
        "no rows": {"pixels": np.zeros((1, 0, 8, 3), np.uint8)},
    }
    for name, reply in ask_each(tmp_path, "pixels", inputs).items():
        assert isinstance(reply, str) and reply, name


@pytest.mark.slow
def test_mutated_files(tmp_path):
    progress = tmp_path / "progress"
    done = python("fuzz_images.py", "0", str(COUNT), progress)
    assert done.returncode == 0, f"from file {progress.read_text()} on: {done.stderr[-2000:]}"
    counts = json.loads(done.stdout)
    print(counts)
    # Seeds that the model does not read: BMP of 1 bit, animated WebP.
    assert counts["good files refused"] == 2
    assert counts["decoded"] + counts["refused"] == COUNT
    assert counts["decoded"] > COUNT / 10 and counts["refused"] > COUNT / 10
    assert counts["refused with a code"] == counts["neighbour spoiled"] == 0


def test_a_mutated_file_depends_on_its_number_alone():
    seeds = fuzz_images.seeds()
    first = [fuzz_images.mutated(number, seeds) for number in range(50)]
    again = [fuzz_images.mutated(number, seeds) for number in reversed(range(50))]
    assert first == again[::-1]
    assert len(set(first)) > 45 and not set(first) & set(seeds)
