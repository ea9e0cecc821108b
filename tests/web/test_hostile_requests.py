"""Requests that mean no good: other files, large bodies, bombs, and damaged images.

The environment variable DAH_TF_FUZZ sets how many damaged images are sent (default 400):

    DAH_TF_FUZZ=20000 python -m pytest tests/web/test_hostile_requests.py
"""

import io
import json
import os
import struct
import zlib

import fuzz_images
import numpy as np
import pytest
import web_services as web
from PIL import Image

from dah_tf import images
from dah_tf.index import Index

pytest.importorskip("fastapi", reason="the service needs FastAPI")

COUNT = int(os.environ.get("DAH_TF_FUZZ", "400"))


def with_keys(folder, keys):
    """An index whose further items have these keys; returns the number of the first."""
    web.photos(folder, 2)
    index = Index(folder / "photos.index")
    return int(index.add(np.repeat(web.code_of(0), len(keys), axis=0), keys=keys)[0])


def test_only_files_below_the_folder_of_the_images_are_read(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(web.png(web.picture(9)))
    (tmp_path / "photos2").mkdir()
    (tmp_path / "photos2" / "a.png").write_bytes(web.png(web.picture(9)))
    photos = tmp_path / "photos"
    web_keys = [
        "../secret.png",
        "cat/../../secret.png",
        str(secret),
        "/etc/passwd",
        "link.png",
        "folder/secret.png",
        "inner/../link.png",
        "%2e%2e/secret.png",
        "..%2fsecret.png",
        "..\\secret.png",
        "dog/0.png\0.txt",
        "\0",
        "file:///etc/passwd",
        "http://127.0.0.1/x.png",
        "../photos2/a.png",
        "cat",
        "pipe",
        "loop",
        "../photos",
        "/proc/self/environ",
        "x" * 5000,
    ]
    first = with_keys(tmp_path, web_keys)
    (photos / "link.png").symlink_to(secret)
    (photos / "folder").symlink_to(tmp_path)
    (photos / "loop").symlink_to("loop")
    os.mkfifo(photos / "pipe")
    with web.client(tmp_path) as client:
        for number, key in enumerate(web_keys, first):
            for what in ("image", "thumbnail"):
                found = client.get(f"/v1/items/{number}/{what}")
                assert "no_image" in web.problem(found, 404, "no_image")["code"], key
                assert "secret" not in found.text and str(tmp_path) not in found.text
        assert client.get("/v1/items/0/image").status_code == 200


def test_links_within_the_folder_are_followed(tmp_path):
    first = with_keys(tmp_path, ["linked.png", "animals/0.png", "./dog/../dog/0.png"])
    (tmp_path / "photos" / "linked.png").symlink_to("dog/0.png")
    (tmp_path / "photos" / "animals").symlink_to(tmp_path / "photos" / "dog")
    with web.client(tmp_path) as client:
        for number in range(first, first + 3):
            assert client.get(f"/v1/items/{number}/image").status_code == 200


def test_a_root_that_is_given_replaces_the_stored_one(tmp_path):
    first = with_keys(tmp_path, [str(tmp_path / "other" / "a.png")])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes(web.png(web.picture(9)))
    with web.client(tmp_path, root=str(tmp_path / "other")) as client:
        assert client.get(f"/v1/items/{first}/image").status_code == 200
        web.problem(client.get("/v1/items/0/image"), 404, "no_image")


def test_paths_of_requests(tmp_path):
    with web.client(tmp_path, open=True) as client:
        for path in (
            "/v1/items/../../etc/passwd",
            "/v1/items/%2e%2e%2f%2e%2e%2fetc%2fpasswd/image",
            "/v1/items/0%00/image",
            "/v1/items/0%2f..%2f1/image",
            "/v1/items//image",
            "//v1/index",
            "/data?image_path=/etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/static/../app.py",
        ):
            found = client.get(path)
            assert found.status_code in (404, 422), path
            assert "root:" not in found.text


def test_a_body_that_is_too_large(tmp_path):
    with web.client(tmp_path, open=True, max_body_bytes=1000) as client:
        for path in ("/v1/search", "/v1/items"):
            web.problem(web.post(client, bytes(1001), path), 413, "too_large")
            # Without a length the body is counted while it arrives.
            headers = {"Content-Type": "image/png"}
            parts = (bytes(400) for _ in range(3))
            web.problem(client.post(path, content=parts, headers=headers), 413, "too_large")
            form = client.post(path, files={"image": bytes(2000)})
            web.problem(form, 413, "too_large")
        assert web.post(client, web.png(web.picture(1))).status_code == 200


def test_forms_that_are_too_large_or_malformed(tmp_path):
    image = web.png(web.picture(0))
    with web.client(tmp_path, open=True, max_items=2) as client:
        fields = {f"x{number}": "1" for number in range(50)}
        many = client.post("/v1/items", files={"image": image}, data=fields)
        web.problem(many, 400, "malformed")
        long = client.post("/v1/items", files={"image": image}, data={"key": "x" * (1 << 17)})
        assert long.status_code in (400, 413)
        for body, kind in (
            (b"--x\r\n", "multipart/form-data; boundary=x"),
            (b"nothing", "multipart/form-data"),
            (b"--x\r\n\r\n\r\n--x--", "multipart/form-data; boundary=x"),
            (b"\0" * 500, "multipart/form-data; boundary=" + "y" * 300),
            (b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
             "multipart/form-data; boundary=x"),
        ):  # fmt: skip
            found = client.post("/v1/search", content=body, headers={"Content-Type": kind})
            assert found.status_code in (400, 422), (body, found.text)
            assert found.headers["content-type"] == "application/problem+json"


def bomb(width, height):
    """A small PNG whose header names many pixels, and a small GIF."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 16)))]
    parts = [struct.pack(">I", len(body)) + kind + body + b"1234" for kind, body in chunks]
    yield fuzz_images.with_checksums(fuzz_images.PNG + b"".join(parts))
    file = io.BytesIO()
    Image.fromarray(web.picture(0)).save(file, "GIF")
    data = bytearray(file.getvalue())
    for at in (6, data.index(b"\x2c", 13) + 5):
        data[at : at + 4] = struct.pack("<HH", width, height)
    yield bytes(data)


def test_bombs(tmp_path):
    with web.client(tmp_path, open=True) as client:
        for contents in bomb(40_000, 40_000):
            for path in ("/v1/search", "/v1/items"):
                found = web.problem(web.post(client, contents, path), 422, "unreadable_image")
                assert "too many pixels" in found["detail"]
    with web.client(tmp_path, max_pixels=63) as client:
        web.problem(web.post(client, web.png(web.picture(0))), 422, "unreadable_image")
        web.problem(client.get("/v1/items/0/image"), 404, "no_image")


def test_no_field_takes_an_address(tmp_path):
    with web.client(tmp_path) as client:
        text = client.get("/openapi.json").text
        for word in ('"uri"', '"url"', "image_url", "callback", '"uri-reference"'):
            assert word not in text.replace('"servers"', "")
        document = json.loads(text)
        names = {
            name
            for schema in document["components"]["schemas"].values()
            for name in schema.get("properties", {})
        }
        assert not {name for name in names if "url" in name or "uri" in name or "path" in name}


def send_damaged(client, decode):
    """Sends damaged images; each gets 200 or 422, as the decoder alone says."""
    files, answers = fuzz_images.seeds(), {200: 0, 422: 0}
    for number in range(COUNT):
        contents = fuzz_images.mutated(number, files)
        if number % 3:
            response = web.post(client, contents, k=1)
        else:
            response = client.post("/v1/search?k=1", files={"image": contents})
        try:
            decode(contents)
            wanted = 200
        except images.ImageError:
            wanted = 422
        assert response.status_code == wanted, (number, response.text)
        if wanted == 422:
            web.problem(response, 422, "unreadable_image")
        answers[wanted] += 1
    assert client.get("/readyz").status_code == 200
    assert client.service.pipeline.length == 0
    assert min(answers.values()) > COUNT / 20, answers
    print(answers)


def test_damaged_images(tmp_path):
    with web.client(tmp_path, rate="none") as client:
        send_damaged(client, web.FakeEncoder().decode)


@pytest.mark.slow
def test_damaged_images_through_a_model(tmp_path, encoder):
    index = Index.create(tmp_path / "photos.index", encoder.bits, encoder.fingerprint)
    index.add(np.zeros((3, 2), np.uint8))
    with web.client(tmp_path, encoder, rate="none") as client:
        send_damaged(client, encoder.decode)
