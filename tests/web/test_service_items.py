"""Adding and removing items, their images, and stored uploads."""

import io

import numpy as np
import pytest
import web_services as web
from PIL import Image

from dah_tf.index import Index, disk
from dah_tf.web.uploads import Uploads

pytest.importorskip("fastapi", reason="the service needs FastAPI")


def contents(*numbers):
    return [("image", web.png(web.picture(number))) for number in numbers]


def test_added_images_are_on_the_disk_and_found_at_once(tmp_path):
    said = []
    with web.client(tmp_path, open=True, said=said) as client:
        response = client.post(
            "/v1/items", files=contents(20, 21), data={"key": ["a", "b"], "label": ["x", "y"]}
        )
        assert response.status_code == 201
        added = response.json()
        assert (added["ids"], added["keys"], added["items"]) == ([12, 13], ["a", "b"], 14)
        # Another process sees what was answered.
        stored = Index(tmp_path / "photos.index")
        assert stored.describe([12, 13]) == (["a", "b"], ["x", "y"])
        assert np.array_equal(
            stored.codes([12, 13]), np.concatenate([web.code_of(20), web.code_of(21)])
        )
        found = web.post(client, web.png(web.picture(21)), k=1).json()["neighbours"][0]
        assert (found["id"], found["distance"], found["key"]) == (13, 0, "b")
        assert {"label": "x", "items": 1} in client.get("/v1/index").json()["labels"]
        assert client.delete("/v1/items/13").status_code == 204
        web.problem(client.get("/v1/items/13"), 404, "no_item")
        web.problem(client.delete("/v1/items/13"), 404, "no_item")
        assert len(Index(tmp_path / "photos.index")) == 13
    assert "add 2 items 12 to 13 by anonymous" in said[0] and "remove item 13" in said[1]


def test_one_image_as_the_body(tmp_path):
    with web.client(tmp_path, open=True) as client:
        body = web.png(web.picture(30))
        added = web.post(client, body, "/v1/items", key="k/1", label="owl").json()
        item = client.get(f"/v1/items/{added['ids'][0]}").json()
        assert item == {
            "id": 12,
            "key": "k/1",
            "label": "owl",
            "code": web.code_of(30).tobytes().hex(),
            "bits": 20,
        }
        one = client.post("/v1/items?label=owl", files=contents(31, 32)).json()
        labels = [client.get(f"/v1/items/{i}").json()["label"] for i in one["ids"]]
        assert labels == ["owl", "owl"] and one["keys"] == ["", ""]


def test_codes_without_images(tmp_path):
    with web.client(tmp_path, open=True) as client:
        code = web.code_of(40).tobytes().hex()
        added = client.post("/v1/items", json={"items": [{"code": code, "key": "c"}]}).json()
        assert client.get(f"/v1/items/{added['ids'][0]}").json()["code"] == code
        for items in ([], [{"code": "0"}], [{"code": code, "url": "x"}], [{"key": "x"}]):
            response = client.post("/v1/items", json={"items": items})
            assert response.status_code == 422
        assert client.get("/v1/index").json()["items"] == 13


def test_one_bad_image_adds_nothing(tmp_path):
    with web.client(tmp_path, open=True, max_items=3) as client:
        response = client.post("/v1/items", files=[*contents(1), ("image", b"no image")])
        errors = web.problem(response, 422, "unreadable_image")["errors"]
        assert errors == [{"image": 1, "detail": "its content is not an image"}]
        wrong = client.post("/v1/items", files=contents(1, 2, 3), data={"key": ["a", "b"]})
        web.problem(wrong, 422, "wrong_key")
        one_key = client.post("/v1/items", files=contents(1, 2), data={"key": ["a"]})
        web.problem(one_key, 422, "wrong_key")  # Two images must not share a file.
        web.problem(client.post("/v1/items", files=contents(1, 2, 3, 4)), 400, "malformed")
        long = client.post("/v1/items", files=contents(1), data={"key": "é" * 2049})
        web.problem(long, 422, "wrong_key")
        assert client.get("/v1/index").json()["changes"] == 0


def test_a_thumbnail_shows_the_pixels_of_a_small_image(tmp_path):
    with web.client(tmp_path) as client:
        response = client.get("/v1/items/4/thumbnail?side=64")
        assert response.headers["content-type"] == "image/png"
        shown = np.asarray(Image.open(io.BytesIO(response.content)))
        assert np.array_equal(shown, web.picture(4).repeat(8, 0).repeat(8, 1))
        whole = np.asarray(Image.open(io.BytesIO(client.get("/v1/items/4/image").content)))
        assert np.array_equal(whole, web.picture(4))
        tag = {"If-None-Match": response.headers["etag"]}
        assert client.get("/v1/items/4/thumbnail?side=64", headers=tag).status_code == 304
        assert client.get("/v1/items/4/thumbnail?side=32", headers=tag).status_code == 200
        path = tmp_path / "photos" / "dog" / "4.png"
        path.write_bytes(web.png(web.picture(5)))
        changed = client.get("/v1/items/4/thumbnail?side=64", headers=tag)
        assert changed.status_code == 200 and changed.content != response.content
        web.problem(client.get("/v1/items/4/thumbnail?side=513"), 422, "wrong_value")


def test_no_metadata_leaves(tmp_path):
    web.photos(tmp_path, 1)
    image = Image.fromarray(web.picture(0).repeat(40, 0).repeat(40, 1))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "SECRET PLACE"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    for ending, options in (("jpg", {"comment": b"SECRET NOTE"}), ("png", {}), ("webp", {})):
        image.save(tmp_path / "photos" / f"x.{ending}", exif=exif, **options)
    keys = ["x.jpg", "x.png", "x.webp"]
    Index(tmp_path / "photos.index").add(np.repeat(web.code_of(0), 3, axis=0), keys=keys)
    with web.client(tmp_path) as client:
        for number in (1, 2, 3):
            for what in ("image", "thumbnail"):
                data = client.get(f"/v1/items/{number}/{what}").content
                shown = Image.open(io.BytesIO(data))
                assert not shown.getexif() and b"SECRET" not in data and b"Exif" not in data
                assert {"comment", "exif", "xmp"} & shown.info.keys() == set()


def test_items_without_an_image(tmp_path):
    web.photos(tmp_path, 2)
    index = Index(tmp_path / "photos.index")
    index.add(np.repeat(web.code_of(0), 3, axis=0), keys=["gone.png", "", "text.png"])
    (tmp_path / "photos" / "text.png").write_text("not an image")
    with web.client(tmp_path) as client:
        for number in (2, 3, 4):
            found = web.problem(client.get(f"/v1/items/{number}/image"), 404, "no_image")
            assert str(tmp_path) not in found["detail"]
        web.problem(client.get("/v1/items/5/image"), 404, "no_item")


def test_uploads_are_stored_only_if_asked(tmp_path):
    folder = tmp_path / "photos" / "uploads"
    with web.client(tmp_path, open=True) as client:
        response = web.post(client, web.png(web.picture(1)), "/v1/items", store="true")
        web.problem(response, 422, "no_uploads")
    with web.client(tmp_path, open=True, uploads=str(folder)) as client:
        named = [("image", ("../../../evil.png", web.png(web.picture(50))))]
        plain = client.post("/v1/items", files=named).json()
        assert plain["keys"] == [""] and not list(folder.glob("*.png"))
        added = client.post("/v1/items?store=true", files=named).json()
        (file,) = folder.glob("*.png")
        assert added["keys"] == [f"uploads/{file.name}"] and file.suffix == ".png"
        assert file.read_bytes() == web.png(web.picture(50))
        number = added["ids"][0]
        shown = client.get(f"/v1/items/{number}/image").content
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), web.picture(50))
        with_key = client.post("/v1/items?store=true", files=named, data={"key": "mine"})
        web.problem(with_key, 422, "wrong_key")
        assert client.delete(f"/v1/items/{number}").status_code == 204
        assert not list(folder.glob("*.png")) and not list((folder / ".pending").iterdir())
        assert not list(tmp_path.rglob("*evil*"))


def test_removing_an_item_leaves_the_images_of_the_folder(tmp_path):
    with web.client(tmp_path, open=True, uploads=str(tmp_path / "up")) as client:
        assert client.delete("/v1/items/3").status_code == 204
    assert (tmp_path / "photos" / "cat" / "3.png").exists()


def test_a_refused_write_leaves_no_upload(tmp_path):
    folder = tmp_path / "up"
    with web.client(tmp_path, open=True, uploads=str(folder), deadline=0.4) as client:
        with disk.lock(tmp_path / "photos.index"):  # as another process would
            response = web.post(client, web.png(web.picture(1)), "/v1/items", store="true")
            assert int(web.problem(response, 503, "index_busy") and response.headers["retry-after"])
        assert not list(folder.glob("*.png")) and not list((folder / ".pending").iterdir())
        assert web.post(client, web.png(web.picture(1)), "/v1/items").status_code == 201


def test_a_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with web.client(tmp_path, open=True) as client:
        with monkeypatch.context() as patch:
            patch.setattr(disk, "write_new", full)
            response = web.post(client, web.png(web.picture(1)), "/v1/items")
            web.problem(response, 507, "disk_full")
        assert web.post(client, web.png(web.picture(1)), "/v1/items").json()["items"] == 13


def test_a_killed_service_leaves_no_image_that_nothing_names(tmp_path):
    uploads = Uploads(tmp_path / "up", tmp_path)
    kept, lost = uploads.write([web.png(web.picture(1)), web.png(web.picture(2))])
    with pytest.raises(ValueError, match="is used by process"):
        Uploads(tmp_path / "up", tmp_path)
    uploads.close()  # A kill leaves both pending; one of them was added before it.
    again = Uploads(tmp_path / "up", tmp_path)
    again.recover(lambda key: key == f"up/{kept}")
    assert [each.name for each in (tmp_path / "up").glob("*.png")] == [kept]
    assert not list((tmp_path / "up" / ".pending").iterdir()) and lost != kept
    assert again.name(f"up/{kept}") == kept
    for key in ("up/../up2/a.png", f"up/.pending/{kept}", "a.png", "up/.lock", ""):
        assert again.name(key) is None
    again.close()
