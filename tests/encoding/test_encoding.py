"""Images to folders of codes: what is written, in memory and on disk."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tiny_model import BITS, encode, pictures, write_folder

from dah_tf.codes import archive
from dah_tf.encoding import Codes, Encoder, find_model, listing
from dah_tf.errors import UserError
from dah_tf.images import ImageError


def served(model, paths):
    """Codes and validity by the signature that TensorFlow Serving serves."""
    import tensorflow as tf

    function = tf.saved_model.load(str(model)).signatures["serving_default"]
    outputs = function(image_bytes=tf.constant([Path(path).read_bytes() for path in paths]))
    return outputs["codes"].numpy(), outputs["valid"].numpy()


def test_codes_are_those_that_the_model_serves(encoder, photos):
    manifest = encode(encoder, "photos", "codes")
    paths = sorted(
        (os.fspath(path) for path in Path("photos").glob("*/*")), key=lambda p: p.split("/")
    )
    codes, valid = served(encoder.path, paths)
    folder = Codes.open("codes")
    found, keys, labels = folder.read()
    assert keys == [path for path, good in zip(paths, valid, strict=True) if good]
    np.testing.assert_array_equal(found, codes[valid])
    assert len(np.unique(found, axis=0)) > 10  # or equality would mean little
    assert labels == [key.split("/")[1] for key in keys]
    assert (len(folder), folder.bits, folder.fingerprint) == (50, BITS, encoder.fingerprint)
    assert manifest["broken"] == 3 and len(manifest["shards"]) == 4  # ceil(53 / 16)
    lines = Path("codes", "broken.tsv").read_bytes().split(b"\n")
    names = [line.split(b"\t")[0] for line in lines[:-1]]
    assert names == [
        b"photos/cat/0000_.png",
        b"photos/dog/\xffempty\\n.png",
        b"photos/owl/half.png",
    ]
    reasons = [line.split(b"\t")[1] for line in lines[:-1]]
    assert reasons == [
        b"Unknown image file format. One of JPEG, JPEG XL, PNG, GIF, BMP, WebP required.",
        b"Input is empty.",
        b"Invalid PNG data, size %d" % os.path.getsize("photos/owl/half.png"),
    ]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 16, 16, 3), np.float32),
        np.zeros((2, 16, 16, 3), np.uint16),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((2, 16, 16, 1), np.uint8),
    ],
)
def test_arrays_that_are_no_pixels_are_refused(encoder, images):
    with pytest.raises(UserError, match=r"images must be uint8 of shape \(n, h, w, 3\), 0 to 255"):
        encoder(images)


def test_a_photograph_that_lies_is_encoded_upright(encoder, photos):
    tags = Image.Exif()
    tags[0x0112] = 6
    for number, picture in enumerate(pictures(20)):
        Image.fromarray(picture).save(f"{number:02d}.jpg", quality=95, exif=tags)
    paths = sorted(Path().glob("*.jpg"))
    upright = [np.asarray(ImageOps.exif_transpose(Image.open(path))) for path in paths]
    expected = encoder(np.stack(upright))["codes"]
    np.testing.assert_array_equal(encoder.files(*map(str, paths)).codes, expected)
    np.testing.assert_array_equal(served(encoder.path, paths)[0], expected)
    lying = encoder(np.stack([np.asarray(Image.open(path)) for path in paths]))["codes"]
    assert (lying != expected).any(axis=1).sum() > 10


def test_numpy_reads_the_shards(encoder, photos):
    encode(encoder, "photos", "codes")
    folder = Path("codes", "shards", "000003")
    codes, keys, labels = (np.load(folder / f"{name}.npy") for name in archive.ARRAYS)
    assert codes.dtype == np.uint8 and codes.shape == (4, 2)  # rows 48 to 52 but half.png
    assert keys[-1] == b"photos/owl/0047.png" and labels.tolist() == [b"owl"] * 4


def test_in_memory_equals_on_disk(encoder, photos):
    encode(encoder, "photos", "codes")
    codes, keys, labels = Codes.open("codes").read()
    found = encoder.files("photos", batch_size=7)
    np.testing.assert_array_equal(found.codes, codes)
    assert (found.keys, found.labels) == (keys, labels)
    assert next(key for key, _ in found.broken) == "photos/cat/0000_.png"
    # The bits are the hash values above 1/2.
    np.testing.assert_array_equal(np.packbits(found.hash > 0.5, axis=1), found.codes)
    one = encoder.files("photos/owl/0047.png", "photos/cat/0000.png")
    assert one.keys == ["photos/owl/0047.png", "photos/cat/0000.png"]
    assert one.labels == ["owl", "cat"]
    np.testing.assert_array_equal(one.codes[0], codes[keys.index(one.keys[0])])
    nothing = encoder.files("photos/cat/0000_.png")
    assert nothing.codes.shape == (0, 2) and nothing.hash.shape == (0, BITS)
    assert nothing.broken == [("photos/cat/0000_.png", nothing.broken[0][1])]


def test_batches_are_full_across_shards_and_broken_images(encoder, photos, monkeypatch):
    sizes = []
    call = Encoder.__call__
    monkeypatch.setattr(
        Encoder, "__call__", lambda self, images: (sizes.append(len(images)), call(self, images))[1]
    )
    encode(encoder, "photos", "codes", batch_size=8, shard_items=5)
    assert sizes == [8] * 6 + [2]


def test_an_image_that_failed_only_once_is_encoded(encoder, photos, monkeypatch):
    encode(encoder, "photos", "whole")
    dataset = listing.Source.dataset
    monkeypatch.setattr(
        listing.FileSource,
        "dataset",
        lambda self, shards: dataset(self, shards).filter(lambda row, *_: row % 17 != 3),
    )
    encode(encoder, "photos", "codes")
    for found, expected in zip(Codes.open("codes").read(), Codes.open("whole").read(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_finds_models(encoder, tmp_path):
    assert find_model(encoder.path)[0] == encoder.path
    assert find_model(encoder.path.parent)[0] == encoder.path
    run = tmp_path / "run"
    run.mkdir()
    os.symlink(encoder.path.parent, run / "export")
    assert find_model(run)[1]["bits"] == BITS
    advice = "has no dah.json; make one with python -m dah_tf.export --workdir"
    for made, workdir, output in (
        (tmp_path / "new", "RUN", tmp_path / "new"),
        (tmp_path, "RUN", tmp_path / "1"),
        (tmp_path / "trained", tmp_path / "trained", tmp_path / "trained" / "export" / "1"),
    ):
        if made.name == "trained":
            made.mkdir()
            (made / "flags.json").write_text("{}")
        with pytest.raises(UserError, match=f"{advice}={workdir} --output={output}$"):
            find_model(made)
    (run / "dah.json").write_text('{"bits": 3}')
    with pytest.raises(UserError, match=r"dah.json is damaged"):
        find_model(run)


def test_damage_is_found(encoder, photos):
    encode(encoder, "photos", "codes")
    path = Path("codes", "shards", "000001", "codes.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 16
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"codes.npy has changed .*; delete codes and encode again"):
        Codes.open("codes").read()
    os.remove(path)
    with pytest.raises(UserError, match=r"cannot read .*000001/codes.npy: No such file"):
        Codes.open("codes").read()
    manifest = Path("codes", "manifest.json")
    manifest.write_text(manifest.read_text().replace('"broken": 3', '"broken": 2'))
    with pytest.raises(UserError, match="checksum does not match"):
        Codes.open("codes")
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(
        UserError, match="has version 9 of the codes format, but this dah_tf reads version 1"
    ):
        Codes.open("codes")
    os.remove(manifest)
    with pytest.raises(UserError, match="is not finished; run the same"):
        Codes.open("codes")


def test_an_error_that_repeats_bytes_of_the_file(tmp_path, encoder):
    # TensorFlow's message about the palette contains the first bytes, which are no text.
    file = io.BytesIO()
    Image.fromarray(pictures(1)[0]).convert("P").save(file, "BMP")
    data = bytearray(file.getvalue())
    data[2:6], data[14:18] = b"\x9e\x9e\x9e\x9e", b"\x28\x00\xff\xff"
    for _ in range(20):  # The message differs from call to call.
        with pytest.raises(ImageError, match="BMP|decode"):
            encoder.decode(bytes(data))
    (tmp_path / "a.bmp").write_bytes(data)
    found = encoder.files(str(tmp_path / "a.bmp"))
    assert not found.keys and len(found.broken) == 1


def test_one_image_is_decoded_as_files_are(tmp_path, encoder):
    (path,) = write_folder(tmp_path, 1)
    image = encoder.decode(path.read_bytes())
    assert np.array_equal(encoder(image[None])["codes"], encoder.files(str(path)).codes)
    with pytest.raises(ImageError):
        encoder.decode(path.read_bytes()[:50])
