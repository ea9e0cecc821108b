"""The client: the same codes over every transport, and what it takes."""

import collections
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import serving_models
import serving_servers
from PIL import Image

from dah_tf.errors import UserError
from dah_tf.serving import Client, ServingError, client, inputs, layout

TRANSPORTS = list(serving_servers.SERVERS)


@pytest.fixture(scope="module", autouse=True)
def model():
    yield serving_models.model_folder()


@pytest.fixture(scope="module")
def files():
    return serving_models.files(20)


@pytest.fixture(scope="module")
def local(model):
    with Client(f"saved-model:{model}") as client:
        yield client


@pytest.fixture(scope="module")
def expected(local, files):
    return local.encode(files, probabilities=True)


@pytest.fixture(params=TRANSPORTS)
def served(request):
    with serving_servers.SERVERS[request.param]() as server:
        yield server


def test_a_mixed_list_gives_the_same_codes_everywhere(served, local, files, tmp_path):
    photograph, grey = next(serving_models.crops(1)), np.arange(63, dtype=np.uint8).reshape(7, 9)
    (tmp_path / "a.img").write_bytes(files[3])
    mixed = [*files, b"", b"text", tmp_path / "a.img", str(tmp_path / "a.img"), bytearray(files[3])]
    mixed += [photograph, grey, grey[..., None]]
    here = local.encode(mixed, probabilities=True)
    with Client(served.address) as remote:
        there = remote.encode(mixed, probabilities=True)
    valid = np.ones(len(mixed), bool)
    valid[[20, 21]] = False
    np.testing.assert_array_equal(here.valid, valid)
    np.testing.assert_array_equal(there.valid, valid)
    np.testing.assert_array_equal(there.codes, here.codes)
    np.testing.assert_allclose(there.probabilities, here.probabilities, atol=1e-6)
    assert here.codes.dtype == there.codes.dtype == np.uint8
    assert len(np.unique(here.codes, axis=0)) > 10
    for row in (22, 23, 24):  # the same image in every form
        np.testing.assert_array_equal(there.codes[row], there.codes[3])
    assert not there.codes[20:22].any() and not there.probabilities[20:22].any()
    # Pixels give what the signature for pixels gives.
    reply = serving_servers.saved_model().run("pixels", {"pixels": photograph[None]})
    np.testing.assert_array_equal(there.codes[25], reply["codes"][0])
    np.testing.assert_allclose(there.probabilities[25], reply["probabilities"][0], atol=1e-6)
    np.testing.assert_array_equal(there.codes[26], there.codes[27])


def test_an_array_of_images_and_no_images(served, local):
    crops = np.stack(list(serving_models.crops(5)))
    with Client(served.address) as remote:
        here, there = local.encode(crops), remote.encode(crops)
        np.testing.assert_array_equal(there.codes, here.codes)
        assert there.probabilities is None
        for one in (local, remote):
            none = one.encode([], probabilities=True)
            assert (none.codes.shape, none.valid.shape) == ((0, 2), (0,))
            assert none.probabilities.shape == (0, serving_models.CLASSES)


def test_batches(served, files, expected, monkeypatch):
    with Client(served.address, batch_size=6) as remote:
        answer = remote.encode(image for image in files)
    assert served.batches == [6, 6, 6, 2]
    np.testing.assert_array_equal(answer.codes, expected.codes)
    monkeypatch.setattr(client, "BATCH_BYTES", 4000)
    served.batches.clear()
    large = [bytes(3000), bytes(1000), bytes(1), bytes(9000), bytes(10)]
    with Client(served.address) as remote:
        assert not remote.encode(large).valid.any()
    assert served.batches == [2, 1, 1, 1]


def test_a_broken_image_is_marked_or_raised(served, files, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(files[0][:50])
    mixed = [files[0], files[1], tmp_path / "broken.jpg", files[2]]
    with Client(served.address) as remote:
        assert remote.encode(mixed).valid.tolist() == [True, True, False, True]
        with pytest.raises(UserError, match=r"image 2 \(.*broken.jpg\) cannot be decoded"):
            remote.encode(mixed, invalid="raise")


def test_formats_that_the_model_does_not_read(local, tmp_path):
    """The client sends their pixels, at their own size; the model resizes them."""
    image = Image.fromarray(next(serving_models.crops(1))).resize((37, 50))
    tiff = serving_models.encoded(image, "TIFF")
    frames = {"save_all": True, "append_images": [image.rotate(90)], "lossless": True}
    (tmp_path / "a.tif").write_bytes(tiff)
    same = [np.asarray(image), tiff, tmp_path / "a.tif", serving_models.encoded(image, "JPEG2000")]
    same.append(serving_models.encoded(image, "WEBP", **frames))
    found = local.encode([*same, tiff[: len(tiff) // 2]])
    assert found.valid.tolist() == [True] * 5 + [False]
    for code in found.codes[1:5]:
        np.testing.assert_array_equal(code, found.codes[0])
    with pytest.raises(UserError, match="image 0 cannot be decoded: a damaged TIFF file"):
        local.encode([tiff[: len(tiff) // 2]], invalid="raise")


def test_versions(served, files):
    with Client(served.address, version=1) as remote:
        assert remote.encode(files).valid.all()
    with Client(served.address, version=2) as remote, pytest.raises(ServingError) as caught:
        remote.encode(files)
    assert caught.value.code == "NOT_FOUND"
    error = pytest.raises(ServingError, match="Servable not found")
    with Client(served.address.replace("/dah", "/cat")) as remote, error:
        remote.encode(files)


def test_a_closed_client(served, model, files):
    for address in (served.address, f"saved-model:{model}"):
        remote = Client(address)
        remote.encode(files[:1])
        remote.close()
        remote.close()
        with pytest.raises(UserError, match="is closed; make another"):
            remote.encode(files[:1])


def test_a_model_that_is_closed_amid_calls_ends_them_first(model, files, expected):
    local = Client(f"saved-model:{model}", batch_size=1)
    answers, refused = collections.deque(), collections.deque()

    def work():
        try:
            while True:
                answers.append(local.encode(files).codes)
        except UserError as error:
            refused.append(str(error))
        except ServingError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(answers) < 4:
        time.sleep(0.001)
    local.close()
    for thread in threads:
        thread.join()
    assert len(refused) == 4 and all(each == "CANCELLED" or "closed" in each for each in refused)
    for codes in answers:
        np.testing.assert_array_equal(codes, expected.codes)


def test_threads_share_a_client(served, files, expected):
    answers = collections.deque()
    with Client(served.address, batch_size=4) as remote:
        work = [
            threading.Thread(target=lambda: answers.append(remote.encode(files))) for _ in range(4)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert len(answers) == 4
    for answer in answers:
        np.testing.assert_array_equal(answer.codes, expected.codes)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("cat.jpg", r"encode\(\[image\]\)"),
        (b"cat", r"encode\(\[image\]\)"),
        (pathlib.Path("cat.jpg"), r"encode\(\[image\]\)"),
        (3, r"encode\(\[image\]\)"),
        (np.zeros((3, 4, 3), np.uint8), r"encode\(\[image\]\)"),
        (["no such file"], r"image 0 \(no such file\) cannot be read: No such file"),
        (["a\0b"], "image 0 .* cannot be read"),
        ([b"", "."], r"image 1 \(.\) cannot be read: Is a directory"),
        ([3], "image 0 is a int"),
        ([None], "image 0 is a NoneType"),
        ([np.zeros((3, 4, 3))], "image 0 is an array of float64 and shape"),
        ([np.zeros((3, 4, 4), np.uint8)], r"shape \(3, 4, 4\)"),
        ([np.zeros((0, 4, 3), np.uint8)], r"shape \(0, 4, 3\)"),
        ([np.zeros(4, np.uint8)], r"shape \(4,\)"),
    ],
)
def test_what_is_no_image_is_an_error(images, message):
    with Client("http://127.0.0.1:1/dah") as remote, pytest.raises(UserError, match=message):
        remote.encode(images)


def test_a_file_too_large_is_not_sent(monkeypatch, tmp_path):
    monkeypatch.setattr(inputs, "MAX_BYTES", 10)
    (tmp_path / "large").write_bytes(bytes(11))
    with Client("http://127.0.0.1:1/dah") as remote:
        for image in (tmp_path / "large", bytes(11)):
            with pytest.raises(UserError, match="larger than 10 bytes"):
                remote.encode([image])


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        ("localhost:8500/dah", {}, "not the address of a model"),
        ("grpc://localhost:8500", {}, "not the address of a model"),
        ("ftp://localhost/dah", {}, "not the address of a model"),
        ("grpc://localhost:x/dah", {}, "not the address of a model"),
        ("grpc://localhost:8500/dah/1", {}, "not the address of a model"),
        ("http://me:secret@localhost/dah", {}, "not the address of a model"),
        ("saved-model:/nowhere", {}, "cannot read the folder /nowhere"),
        ("grpc://localhost/dah", {"batch_size": 0}, "batch_size must be at least 1"),
        ("grpc://localhost/dah", {"timeout": 0}, "timeout above 0"),
        ("grpc://localhost/dah", {"version": "1"}, "version must be a whole number. Received: '1'"),
        ("grpc://localhost/dah", {"version": -1}, "version must be a whole number"),
        (
            "grpc://localhost/dah",
            {"root_certificates": "a.pem"},
            "need an address with grpcs:// or https://",
        ),
        ("grpcs://localhost/dah", {"root_certificates": "none.pem"}, "cannot read none.pem"),
        ("https://localhost/dah", {"root_certificates": __file__}, "TLS does not accept"),
        ("https://localhost/dah", {"client_key": __file__}, "must be given together"),
    ],
)
def test_wrong_arguments(address, options, message):
    with pytest.raises(UserError, match=message):
        Client(address, **options)


def test_a_saved_model_or_a_folder_of_versions(model):
    for path, version in ((model, None), (model, 1), (model / "1", None), (model / "1", 1)):
        assert layout.saved_model(path, version) == model / "1"
    with pytest.raises(UserError, match="has no version 3, only 1"):
        Client(f"saved-model:{model}", version=3)
    with pytest.raises(UserError, match="not a folder with a version 2"):
        Client(f"saved-model:{model}/1", version=2)
    with pytest.raises(UserError, match="neither a SavedModel nor a version folder"):
        Client(f"saved-model:{model}/1/variables")


def test_grpc_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(UserError, match=r"pip install 'dah_tf\[serving\]'"):
        Client("grpc://localhost:8500/dah")


def test_no_framework_is_imported(model, tmp_path):
    """Not even by running the model; gRPC only for its addresses."""
    code = (
        "import sys; from dah_tf.serving import Client\n"
        "heavy = {'tensorflow', 'keras', 'grpc', 'PIL'} & set(sys.modules)\n"
        f"print(heavy, Client({f'saved-model:{model}'!r}).encode([b'']).valid)\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "set() [False]\n"), done.stderr
