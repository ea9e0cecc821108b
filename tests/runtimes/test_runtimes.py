"""Formats beside the SavedModel: the same codes, whatever a model runs on."""

import importlib.metadata
import json
import shutil
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_model import BITS, CLASSES, SIZE, encode, export_model, pictures, write_folder

from dah_tf import codes, runtimes
from dah_tf.data import pixels
from dah_tf.encoding import Codes, Encoder, choice
from dah_tf.encoding.encoder import equal_codes
from dah_tf.errors import UserError
from dah_tf.exporting import export, parity
from dah_tf.machine import devices
from dah_tf.model import HashModel, backbones
from dah_tf.terminal import cli

EXACT = ["onnx", "openvino", "litert"]
SAMPLES = parity.Samples(
    pictures(20, seed=1), pictures(1000), np.arange(1000) % 3, pictures(90, 2), np.arange(90) % 3
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("formats") / "dah" / "1"
    return export_model(path, formats=list(runtimes.FORMATS), samples=SAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_codes_are_the_models_on_1000_images(folder, name):
    ours, theirs = Encoder(folder), Encoder(folder, name)
    assert (ours.runtime, theirs.runtime) == ("savedmodel", name)
    right = ours(SAMPLES.queries)
    for size in (1, 7, 1000):
        found = theirs(SAMPLES.queries[:size])
        assert found["codes"].dtype == np.uint8
        np.testing.assert_array_equal(found["codes"], right["codes"][:size])
        np.testing.assert_allclose(found["hash"], right["hash"][:size], atol=1e-5)
        np.testing.assert_allclose(found["probabilities"], right["probabilities"][:size], atol=1e-5)
    np.testing.assert_array_equal(codes.pack(found["hash"] > 0.5), found["codes"])
    facts = json.loads((folder / "dah.json").read_text())["formats"][name]
    assert (facts["images"], facts["bits_differing"]) == (1000, 0.0)
    assert all((folder / file).is_file() for file in facts["files"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert_int8", "openvino_int8"])
def test_int8_says_how_it_differs(folder, name):
    right, found = (Encoder(folder, each)(SAMPLES.queries) for each in (None, name))
    # Where the value is not within rounding of 1/2, the packed bit is the value's.
    clear = np.abs(found["hash"] - 0.5) > 0.5 / 255 * 2
    bits = codes.unpack(found["codes"], BITS)
    assert np.all((found["hash"] > 0.5)[clear] == bits[clear]) and clear.mean() > 0.3
    differing = (np.unpackbits(right["codes"] ^ found["codes"])).sum() / (1000 * BITS)
    facts = json.loads((folder / "dah.json").read_text())["formats"][name]
    assert 0 < differing < 0.1
    assert facts["bits_differing"] == pytest.approx(differing)
    assert facts["map"]["queries"] == 1000 and facts["map"]["database"] == 90
    assert abs(facts["map"]["model"] - facts["map"]["format"]) < 0.05
    small, large = (
        (folder / runtimes.get(each).FILES[-1]).stat().st_size
        for each in (name, name.removesuffix("_int8"))
    )
    assert small < large


@pytest.mark.slow
def test_bfloat16_rounds(folder):
    right, found = (Encoder(folder, each)(SAMPLES.queries) for each in (None, "openvino_bf16"))
    facts = json.loads((folder / "dah.json").read_text())["formats"]
    differing = (np.unpackbits(right["codes"] ^ found["codes"])).sum() / (1000 * BITS)
    assert facts["openvino_bf16"]["bits_differing"] == pytest.approx(differing) and differing < 0.1
    assert set(facts["openvino_bf16"]["map"]) == {"model", "format", "queries", "database"}
    if devices.bfloat16_is_fast():
        exact = Encoder(folder, "openvino")(SAMPLES.queries)["hash"]
        assert 1e-4 < np.abs(found["hash"] - exact).max() < 0.05
    # It is never taken for equal, however few of the bits differ.
    assert not equal_codes("openvino_bf16", {"formats": facts})


@pytest.mark.slow
@pytest.mark.parametrize("name", list(runtimes.FORMATS))
def test_any_size_and_none(folder, name):
    encoder = Encoder(folder, name)
    large = pictures(3).repeat(2, axis=1).repeat(2, axis=2)
    small = pixels.resize(large, SIZE).numpy()
    np.testing.assert_array_equal(encoder(large)["codes"], encoder(small)["codes"])
    shapes = {key: value.shape for key, value in encoder(pictures(2)[:0]).items()}
    assert shapes == {"codes": (0, 2), "hash": (0, BITS), "probabilities": (0, len(CLASSES))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "policy", "formats"),
    [("resnet30", "float32", ["onnx"]), ("compact", "mixed_bfloat16", ["onnx", "litert"])],
)
def test_attention_mirrored_and_one_channel(tmp_path, name, policy, formats):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        backbone = backbones.get(f"{name}:attention", channels=1)
        model = HashModel(backbone, 20, 4, 32, multi_label=True)
    finally:
        keras.config.set_dtype_policy("float32")
    grey = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 1), np.uint8)
    median = np.median(model.outputs(grey)["logits"], axis=0)
    model.hash_head.dense.bias.assign(-median)
    samples = parity.Samples(grey[:4], grey, np.eye(4)[[0] * 12], grey[:9], np.eye(4)[[1] * 9])
    found = export.save(model, tmp_path / "1", mirror=True, formats=formats, samples=samples)
    assert not (tmp_path / "1" / "saved_model.pb").exists()
    right = codes.binarize(model.outputs(grey, mirror=True)["logits"])
    for runtime in formats:
        theirs = Encoder(tmp_path / "1", runtime)(grey)
        differing = np.mean(codes.unpack(theirs["codes"], 20) != right)
        assert found["formats"][runtime]["bits_differing"] == pytest.approx(differing)
        assert differing == 0 if policy == "float32" else differing < 0.2
        # Float32, also where the model was trained in bfloat16.
        np.testing.assert_allclose(
            theirs["hash"], Encoder(tmp_path / "1", "onnx")(grey)["hash"], atol=1e-5
        )


@pytest.mark.slow
def test_wrong_codes_are_not_exported(tmp_path, monkeypatch):
    load = runtimes.load

    def wrong(name, *arguments):
        run, calls = load(name, *arguments), []

        def changed(images):
            calls.append(1)
            found = run(images)
            # 2 bits of the first of 10 batches of 100 images of 12 bits: 1/6000, allowed.
            found["codes"][:turned, 0] ^= 0b10000000 if len(calls) == 1 else 0
            return found

        return changed

    monkeypatch.setattr(runtimes, "load", wrong)
    turned = 2
    path = export_model(tmp_path / "1", formats=["onnx"], samples=SAMPLES)
    facts = json.loads((path / "dah.json").read_text())["formats"]["onnx"]
    assert facts["bits_differing"] == pytest.approx(2 / 12_000)
    turned = 13  # 13/12,000 is more than 1/1,000
    with pytest.raises(UserError, match="onnx gives other codes than the model"):
        export_model(tmp_path / "2", formats=["onnx"], samples=SAMPLES)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["1"]


@pytest.mark.slow
def test_fastest_is_taken_and_said(folder, monkeypatch):
    load, said, delays, now = runtimes.load, [], {"openvino": 0.01}, [0.0]

    def slowed(name, *arguments):
        run = load(name, *arguments)

        def slow(images):
            now[0] += delays.get(name, 0.2)
            return run(images)

        return slow

    monkeypatch.setattr(runtimes, "load", slowed)
    monkeypatch.setattr(choice, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    assert choice.fastest(folder, 8, said.append).runtime == "openvino"
    *left_out, taken = said
    assert taken.startswith("runtime: OpenVINO 20") and "times as fast as TensorFlow" in taken
    start = "left out, because their codes differ from the model's at the export: "
    assert [line[: len(start)] for line in left_out] == [start] and "int8" in left_out[0]
    delays |= {"openvino": 0.4, "litert": 0.01}
    assert choice.fastest(folder, 8, said.append).runtime == "litert"
    assert "int8" not in said[-1]


@pytest.mark.slow
def test_only_equal_and_installed_take_part(folder, tmp_path, monkeypatch):
    moved = tmp_path / "1"
    moved.symlink_to(folder)
    description = json.loads((folder / "dah.json").read_text())
    for name in ("onnx", "litert"):
        description["formats"][name]["bits_differing"] = 1e-4
    monkeypatch.setattr(choice, "find_model", lambda path: (folder, description))
    missing = runtimes.missing
    monkeypatch.setattr(
        runtimes,
        "missing",
        lambda packages: ["openvino"] if "openvino" in packages else missing(packages),
    )
    said = []
    assert choice.fastest(moved, 8, said.append).runtime == "savedmodel"
    assert said[-1] == f"runtime: TensorFlow {tf.__version__}"
    assert len(said) == 2 and "at the export: " in said[0]
    assert {"ONNX Runtime", "LiteRT"} <= set(said[0].partition(": ")[2].split(", "))
    load = runtimes.load

    def otherwise(name, *arguments):
        run = load(name, *arguments)
        return lambda images: (
            run(images) | ({"codes": ~run(images)["codes"]} if name != "savedmodel" else {})
        )

    description["formats"]["litert"]["bits_differing"] = 0.0
    monkeypatch.setattr(runtimes, "load", otherwise)
    del said[:]
    assert choice.fastest(moved, 8, said.append).runtime == "savedmodel"
    assert "left out, because their codes differ from the model's on this machine: LiteRT" in said
    monkeypatch.setattr(runtimes, "load", load)
    with pytest.raises(UserError, match=r"pip install 'dah_tf\[openvino\]'"):
        Encoder(folder, "openvino")
    only = export_model(tmp_path / "2", formats=["litert_int8"], samples=SAMPLES)
    monkeypatch.undo()
    with pytest.raises(
        UserError, match="gives exactly the codes of the model; .*runtime=litert_int8"
    ):
        choice.fastest(only, 8, said.append)


@pytest.mark.slow
def test_refusals(folder, tmp_path):
    with pytest.raises(UserError, match="there is no format 'tensorrt'; there are savedmodel"):
        Encoder(folder, "tensorrt")
    with pytest.raises(ValueError, match="need `samples`"):
        export_model(tmp_path / "none", formats=["onnx"])
    path = export_model(tmp_path / "1", formats=["onnx"], samples=SAMPLES)
    assert Encoder(path).runtime == "onnx"
    with pytest.raises(UserError, match="has no model.tflite; export the model with format=litert"):
        Encoder(path, "litert")
    (path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match="cannot load .*model.onnx: .*; export it again"):
        Encoder(path)


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, file",
    [
        ("savedmodel", "saved_model.pb"),
        ("savedmodel", "variables/variables.index"),
        ("savedmodel", "variables/variables.data-00000-of-00001"),
        ("onnx", "model.onnx"),
        ("openvino", "openvino.xml"),
        ("openvino", "openvino.bin"),
        ("openvino_bf16", "openvino_bf16.bin"),
        ("litert", "model.tflite"),
        ("litert_int8", "model.int8.tflite"),
    ],
)
@pytest.mark.parametrize("damage", [halved, lambda path: path.write_bytes(b"")])
def test_damaged_files_are_one_line(folder, tmp_path, name, file, damage):
    path = shutil.copytree(folder, tmp_path / "1")
    damage(path / file)
    with pytest.raises(UserError) as caught:
        runtimes.load(name, path)
    text = str(caught.value)
    assert text.startswith(f"cannot load {path}") and text.endswith("; export it again")
    assert "\n" not in text and "src/" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, where",
    [
        ("savedmodel", "tensorflow.saved_model.load"),
        ("onnx", "onnxruntime.InferenceSession"),
        ("openvino", "openvino.Core"),
        ("litert", "ai_edge_litert.interpreter.Interpreter"),
    ],
)
def test_a_bug_in_a_runtime_keeps_its_traceback(folder, monkeypatch, name, where):
    def broken(*_, **__):
        raise AttributeError("a bug")

    monkeypatch.setattr(where, broken)
    with pytest.raises(AttributeError, match="a bug"):
        runtimes.load(name, folder)


@pytest.mark.slow
def test_encode_with_a_runtime(folder, tmp_path, monkeypatch, capsys):
    from dah_tf import encode as command

    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos", 20)
    right, _, _ = encode_with(None, folder, "right")
    for name in ("onnx", "litert_int8"):
        found, keys, _ = encode_with(name, folder, name)
        assert len(keys) == 20
        assert np.array_equal(found, right) or name == "litert_int8"
    # What was begun in int8 does not go on in float, nor the other way round.
    for output, other in (("litert_int8", "onnx"), ("onnx", "litert_int8")):
        with pytest.raises(UserError, match="codes of other settings"):
            encode_with(other, folder, output)
    if "model" not in cli.FLAGS:
        command.define_flags()
    flags = [f"--model={folder}", "--input=photos", "--output=auto"]
    monkeypatch.setattr(sys, "argv", ["encode", *flags])
    with pytest.raises(SystemExit) as stopped:
        cli.launch(command.main, "")
    assert not stopped.value.code
    assert "equal codes, " in capsys.readouterr().out
    np.testing.assert_array_equal(Codes.open("auto").read()[0], right)


def encode_with(runtime, folder, output):
    encode(Encoder(folder, runtime), "photos", output, runtime=runtime)
    return Codes.open(output).read()


@pytest.mark.slow
def test_image_files(folder, tmp_path):
    for number, picture in enumerate(pictures(5)):
        Image.fromarray(picture).resize((40, 30)).save(tmp_path / f"{number}.png")
    ours, theirs = (Encoder(folder, name).files(tmp_path) for name in (None, "openvino"))
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    assert len(ours.codes) == 5 and SIZE == 16


def test_a_variant_of_a_package_has_a_version(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    assert runtimes.version("numpy") == np.__version__
    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert runtimes.version("numpy") == np.__version__
    assert runtimes.version("dah_tf.errors") == "unknown"
