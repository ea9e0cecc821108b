"""The exported model, run through TensorFlow's C API in a process without `import tensorflow`."""

import io
import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from dah_tf import __version__, codes
from dah_tf.data import pixels
from dah_tf.errors import UserError
from dah_tf.exporting import export
from dah_tf.model import HashModel, backbones

CAPI = Path(__file__).parents[1] / "capi.py"
SIZE, BITS, CLASSES = 16, 12, 5
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def encoded(image, form):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **({"lossless": True} if form == "WEBP" else {}))
    return buffer.getvalue()


def real_images():
    """1,150 encoded images: grey 8x8 digits, and colour crops of photographs from 9 to 120 px."""
    digits = (load_digits().images[:700] * 255 / 16).astype(np.uint8)
    images = [encoded(digit, ("PNG", "JPEG")[i % 2]) for i, digit in enumerate(digits)]
    photographs, rng = load_sample_images().images, np.random.default_rng(0)
    for i in range(450):
        photograph = photographs[i % 2]
        height, width = rng.integers(9, 121, 2)
        top = rng.integers(photograph.shape[0] - height)
        left = rng.integers(photograph.shape[1] - width)
        crop = photograph[top : top + height, left : left + width]
        images.append(encoded(crop, FORMATS[i % 5]))
    return images


def decoded(images, channels=3):
    rows = [pixels.resize(pixels.decode(image, channels), SIZE).numpy() for image in images]
    return np.stack(rows)


def make_model(images, channels=3, bits=BITS, multi_label=False, mirror=False, policy="float32"):
    """A model of random weights, whose bits cut the middle of what they see of `images`.

    Each bit's threshold lies in the widest gap between its logits' quarters, so that rounding
    cannot turn a bit.
    """
    keras.utils.set_random_seed(1)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    backbone = backbones.get("compact:widths=8/16/16", channels=channels)
    model = HashModel(backbone, bits, CLASSES, SIZE, multi_label=multi_label)
    keras.config.set_dtype_policy(before)
    logits = np.sort(model.outputs(images, mirror=mirror)["logits"], axis=0)
    middle = logits[len(logits) // 4 : -len(logits) // 4]
    at = np.diff(middle, axis=0).argmax(axis=0), np.arange(bits)
    model.hash_head.dense.bias.assign(-(middle[:-1][at] + middle[1:][at]) / 2)
    return model


def run(folder, requests, files=None):
    """What `capi.py` replies to the requests in a process of its own.

    Its files are named like the SavedModel's folder, or like `files`.
    """
    files = files or folder
    asked, answered = files.with_suffix(".requests"), files.with_suffix(".replies")
    asked.write_bytes(pickle.dumps(requests))
    command = [sys.executable, CAPI, folder, asked, answered]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return pickle.loads(answered.read_bytes())


@pytest.fixture(scope="module")
def files():
    return real_images()


@pytest.fixture(scope="module")
def images(files):
    return decoded(files)


@pytest.fixture(scope="module")
def model(images):
    return make_model(images)


@pytest.fixture(scope="module")
def broken(files):
    """Two good images among broken ones of each kind."""
    halves = [image[: len(image) // 2] for image in files[700:705]]
    noise = np.random.default_rng(0).bytes(500)
    return [files[0], b"", b"no image", noise, files[1][:40], *halves, files[700]]


@pytest.fixture(scope="module")
def served(tmp_path_factory, files, images, model, broken):
    """The model's folder, what `save` returned, and the replies by name."""
    folder = tmp_path_factory.mktemp("models") / "dah" / "1"
    names = [f"class {i}" for i in range(CLASSES)]
    flags = {"bits": BITS, "dataset": "digits", "levels": (1, 2)}
    metrics = {"map": np.float32(0.5), "loss": float("nan")}
    description = export.save(
        model, folder, class_names=names, flags=flags, metrics=metrics, extra={"note": "a test"}
    )
    by_name = {
        "all": ("serving_default", files),
        "none": ("serving_default", []),
        "half": ("serving_default", files[::2]),
        "empty": ("serving_default", [b"", b""]),
        "broken": ("serving_default", broken),
        "exact": ("pixels", images),
        "large": ("pixels", np.stack([load_sample_images().images[0][:300]] * 2)),
        "one_channel": ("pixels", images[..., :1]),
        "no_pixels": ("pixels", np.zeros((2, 0, 9, 3), np.uint8)),
        "none_exact": ("pixels", images[:0]),
        "none_small": ("pixels", np.zeros((0, 3, 4, 3), np.uint8)),
        "none_nothing": ("pixels", np.zeros((0, 0, 0, 3), np.uint8)),
        "again": ("serving_default", files[:1]),
    }
    inputs = {"serving_default": "image_bytes", "pixels": "pixels"}
    requests = [(name, {inputs[name]: value}) for name, value in by_name.values()]
    answer = run(folder, requests)
    answer["replies"] = dict(zip(by_name, answer["replies"], strict=True))
    return {"folder": folder, "description": description, **answer}


def test_loads_without_importing_tensorflow(served):
    assert not {"tensorflow", "keras"} & set(served["modules"])


def test_signatures(served):
    def specs(tensors):
        return {name: (dtype, shape) for name, (_, dtype, shape) in tensors.items()}

    default, pixel = served["signatures"]["serving_default"], served["signatures"]["pixels"]
    both = {"codes": (np.uint8, (-1, 2)), "probabilities": (np.float32, (-1, CLASSES))}
    assert specs(default[0]) == {"image_bytes": (np.object_, (-1,))}
    assert specs(default[1]) == {**both, "valid": (np.bool_, (-1,))}
    assert specs(pixel[0]) == {"pixels": (np.uint8, (-1, -1, -1, 3))}
    assert specs(pixel[1]) == {**both, "hash": (np.float32, (-1, BITS))}


def test_bytes_give_the_python_models_codes(served, images, model):
    reply = served["replies"]["all"]
    expected = model.outputs(images)
    assert len(images) >= 1000
    assert reply["valid"].all()
    np.testing.assert_array_equal(reply["codes"], model.encode(images))
    share = np.unpackbits(reply["codes"], axis=1)[:, :BITS].mean(axis=0)
    assert share.min() > 0.2 and share.max() < 0.8  # no bit is constant
    probabilities = np.exp(expected["classes"].astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(reply["probabilities"], probabilities, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch(served):
    replies = served["replies"]
    np.testing.assert_array_equal(replies["half"]["codes"], replies["all"]["codes"][::2])
    np.testing.assert_array_equal(replies["again"]["codes"], replies["all"]["codes"][:1])


def test_pixels_give_codes_and_hash(served, images, model):
    reply = served["replies"]["exact"]
    np.testing.assert_array_equal(reply["codes"], served["replies"]["all"]["codes"])
    np.testing.assert_allclose(reply["hash"], model.outputs(images)["hash"], atol=1e-5)
    # Bit i is 1 where value i is above 1/2; it stands in byte i // 8, most significant bit first.
    by_hand = np.zeros((len(images), 2), np.uint8)
    for i in range(BITS):
        by_hand[:, i // 8] |= (reply["hash"][:, i] > 0.5).astype(np.uint8) << (7 - i % 8)
    np.testing.assert_array_equal(reply["codes"], by_hand)
    np.testing.assert_array_equal(reply["codes"], codes.pack(codes.binarize(reply["hash"] - 0.5)))


def test_pixels_of_another_size_are_resized_by_the_rule(served, model):
    photograph = load_sample_images().images[0][:300]
    resized = pixels.resize(photograph, SIZE).numpy()
    reply = served["replies"]["large"]
    np.testing.assert_array_equal(reply["codes"], model.encode(np.stack([resized] * 2)))
    np.testing.assert_allclose(reply["hash"][0], model.outputs(resized[None])["hash"][0], atol=1e-5)


def test_a_broken_image_spoils_only_itself(served, broken):
    reply, good = served["replies"]["broken"], served["replies"]["all"]
    valid = np.zeros(len(broken), bool)
    valid[[0, -1]] = True
    np.testing.assert_array_equal(reply["valid"], valid)
    for row, alone in ((0, 0), (-1, 700)):
        np.testing.assert_array_equal(reply["codes"][row], good["codes"][alone])
        np.testing.assert_allclose(
            reply["probabilities"][row], good["probabilities"][alone], atol=1e-6
        )
    assert not reply["codes"][~valid].any() and not reply["probabilities"][~valid].any()


def test_only_broken_images(served):
    reply = served["replies"]["empty"]
    assert reply["valid"].tolist() == [False, False]
    assert not reply["codes"].any() and not reply["probabilities"].any()


def test_no_images(served):
    reply = served["replies"]["none"]
    shapes = {name: value.shape for name, value in reply.items()}
    assert shapes == {"codes": (0, 2), "probabilities": (0, CLASSES), "valid": (0,)}
    for name in ("none_exact", "none_small", "none_nothing"):
        shapes = {key: value.shape for key, value in served["replies"][name].items()}
        assert shapes == {"codes": (0, 2), "probabilities": (0, CLASSES), "hash": (0, BITS)}


@pytest.mark.slow
def test_odd_files_are_defined_and_no_crash(served, model, tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (24, 20, 4), np.uint8)
    colour, alpha = Image.fromarray(noise[..., :3]), Image.fromarray(noise)

    def saved(image, form, **options):
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return buffer.getvalue()

    def animated(image, form):
        return saved(image, form, save_all=True, append_images=[image.transpose(0)] * 3)

    huge = saved(colour, "PNG")
    files = {
        "16 bits": saved(Image.fromarray(noise[..., 0].astype(np.uint16) * 257), "PNG"),
        "palette": saved(colour.convert("P"), "PNG"),
        "alpha": saved(alpha, "PNG"),
        "CMYK": saved(colour.convert("CMYK"), "JPEG"),
        "one pixel": saved(colour.crop((0, 0, 1, 1)), "PNG"),
        "thin": saved(colour.resize((5000, 1)), "JPEG"),
        "animated GIF": animated(colour, "GIF"),
        # TensorFlow's decoder writes beyond its buffer if it is not told the channels.
        "animated WebP": animated(colour, "WEBP"),
        "animated WebP with alpha": animated(alpha, "WEBP"),
        "bomb": huge[:16] + (60_000).to_bytes(4, "big") * 2 + huge[24:],
    }
    # Often, since a write beyond a buffer seldom ends the process at once.
    requests = [("serving_default", {"image_bytes": [*files.values()] * 20})]
    replies = run(served["folder"], requests, files=tmp_path / "odd")["replies"]
    rows = {name: replies[0]["codes"][i :: len(files)] for i, name in enumerate(files)}
    valid = dict(zip(files, replies[0]["valid"], strict=False))
    assert not valid["bomb"]
    assert all(valid[name] for name in list(files)[:7]), valid
    for name, file in files.items():
        expected = model.encode(decoded([file])) if valid[name] else np.zeros((1, 2), np.uint8)
        np.testing.assert_array_equal(rows[name], np.repeat(expected, 20, axis=0), name)


def test_impossible_pixels_are_an_error_and_no_crash(served):
    assert "not compatible with expected shape" in served["replies"]["one_channel"]
    assert "non-zero size" in served["replies"]["no_pixels"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_mirror_multi_label_one_channel(tmp_path, files, policy):
    options = {"channels": 1, "bits": 5, "multi_label": True, "policy": policy}
    grey = decoded(files[::5], channels=1)
    model = make_model(grey, mirror=True, **options)
    description = export.save(model, tmp_path / "1", mirror=True)
    requests = [("serving_default", {"image_bytes": files[::5]}), ("pixels", {"pixels": grey})]
    by_bytes, by_pixels = run(tmp_path / "1", requests)["replies"]
    expected = model.outputs(grey, mirror=True)
    assert description["mirror"] and description["multi_label"] and description["channels"] == 1
    assert by_pixels["hash"].dtype == np.float32
    atol = 1e-5 if policy == "float32" else 0.02
    np.testing.assert_allclose(by_pixels["hash"], expected["hash"], atol=atol)
    assert np.abs(expected["hash"] - model.outputs(grey)["hash"]).max() > 1e-3
    sigmoid = 1 / (1 + np.exp(-expected["classes"]))
    np.testing.assert_allclose(by_bytes["probabilities"], sigmoid, atol=atol)
    np.testing.assert_array_equal(by_bytes["codes"], by_pixels["codes"])
    if policy == "float32":
        np.testing.assert_array_equal(by_bytes["codes"], model.encode(grey, mirror=True))


def test_description(served, model):
    description = json.loads((served["folder"] / "dah.json").read_text())
    assert description == served["description"]
    versions = {"dah_tf": __version__, "keras": keras.__version__}
    assert description.pop("versions").items() >= versions.items()
    assert "most significant bit first" in description.pop("bit_order")
    assert description == {
        "bits": BITS,
        "bytes_per_code": 2,
        "classes": CLASSES,
        "class_names": ["class 0", "class 1", "class 2", "class 3", "class 4"],
        "multi_label": False,
        "image_size": SIZE,
        "channels": 3,
        "mirror": False,
        "span": [0.25, 0.75],
        "fingerprint": model.fingerprint(),
        "flags": {"bits": BITS, "dataset": "digits", "levels": [1, 2]},
        "metrics": {"map": 0.5, "loss": None},
        "formats": {"savedmodel": {"files": ["saved_model.pb"]}},
        "note": "a test",
    }


def test_mirrored_codes_have_a_fingerprint_of_their_own(model):
    plain, mirrored = (export._fingerprint(model, mirror) for mirror in (False, True))
    assert plain == model.fingerprint() != mirrored and len(mirrored) == len(plain)
    assert mirrored == export._fingerprint(model, True)


def test_fingerprint_follows_the_weights_only(tmp_path, images, model):
    before = model.fingerprint()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.backbone.trainable = False
    assert loaded.fingerprint() == before
    bias = loaded.hash_head.dense.bias
    bias.assign(np.nextafter(bias.numpy(), np.float32(9)))
    assert loaded.fingerprint() != before


def test_an_existing_folder_is_refused_and_left_alone(served, model):
    before = {path: path.stat().st_mtime_ns for path in served["folder"].rglob("*")}
    with pytest.raises(UserError, match="1 exists already"):
        export.save(model, served["folder"])
    assert {path: path.stat().st_mtime_ns for path in served["folder"].rglob("*")} == before


def test_the_folder_can_be_read_by_a_server_of_another_user(served):
    umask = os.umask(0)
    os.umask(umask)
    folders = [served["folder"], *filter(Path.is_dir, served["folder"].rglob("*"))]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o777 & ~umask}


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1_000, 100_000])
def test_nothing_is_left_of_a_write_that_fails(tmp_path, model, limit):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # as a full disk
    try:
        with pytest.raises(UserError, match="cannot write the model"):
            export.save(model, tmp_path / "models" / "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "models").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the model"):
        export.save(model, tmp_path / "file" / "1")


def test_a_folder_made_meanwhile_is_not_replaced(tmp_path, monkeypatch, model):
    def write_out(*args, **kwargs):
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "saved_model.pb").touch()

    monkeypatch.setattr(export, "_archive", lambda *args: type("A", (), {"write_out": write_out}))
    with pytest.raises(UserError, match="cannot write the model"):
        export.save(model, tmp_path / "1")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["saved_model.pb"]


def test_wrong_arguments(tmp_path, monkeypatch, model):
    with pytest.raises(ValueError, match="5 classes.*Received: class_names"):
        export.save(model, tmp_path / "1", class_names=["cat"])
    with pytest.raises(ValueError, match=r"not replace these entries: \['bits'\]"):
        export.save(model, tmp_path / "1", extra={"bits": 3})
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match="KERAS_BACKEND=tensorflow"):
        export.save(model, tmp_path / "1")
