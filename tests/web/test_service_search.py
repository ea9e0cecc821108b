"""Searching over HTTP, compared with brute force."""

import io
import json

import numpy as np
import pytest
import web_services as web
from PIL import Image

from dah_tf import codes as packed
from dah_tf.index import Index

pytest.importorskip("fastapi", reason="the service needs FastAPI")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with web.client(tmp_path_factory.mktemp("served"), rate="none") as client:
        yield client


def brute_force(query, numbers):
    """The distances of pictures from a code: a dict of number to int."""
    return {
        number: int((packed.unpack(web.code_of(number), 20) != packed.unpack(query, 20)).sum())
        for number in numbers
    }


def test_an_image_finds_what_brute_force_finds(served):
    answer = web.post(served, web.png(web.picture(50)), k=12).json()
    wanted = brute_force(web.code_of(50), range(12))
    found = {each["id"]: each["distance"] for each in answer["neighbours"]}
    assert found == wanted
    distances = [each["distance"] for each in answer["neighbours"]]
    assert distances == sorted(distances)
    assert [each["rank"] for each in answer["neighbours"]] == list(range(1, 13))
    for each in answer["neighbours"]:
        assert each["key"] == f"{each['label']}/{each['id']}.png"
        assert each["code"] == web.code_of(each["id"]).tobytes().hex()
    assert answer["query"] == {"type": "image", "code": web.code_of(50).tobytes().hex()}
    assert answer["bits"] == 20 and answer["changes"] == 0


def test_image_form_id_and_code_give_the_same_neighbours(served):
    contents = web.png(web.picture(3))
    answers = [
        web.post(served, contents, k=5),
        web.post(served, contents, kind="application/octet-stream", k=5),
        served.post("/v1/search", files={"image": contents}, data={"k": "5"}),
        served.post("/v1/search?k=5", files={"image": ("../../evil.png", contents)}),
        served.post("/v1/search", json={"id": 3, "k": 5}),
        served.post("/v1/search?k=5", json={"id": 3}),
        served.post("/v1/search", json={"code": web.code_of(3).tobytes().hex(), "k": 5}),
    ]
    assert [each.status_code for each in answers] == [200] * 7
    neighbours = [each.json()["neighbours"] for each in answers]
    assert neighbours == [neighbours[0]] * 7
    assert answers[4].json()["query"] == {
        "type": "id",
        "code": web.code_of(3).tobytes().hex(),
        "id": 3,
        "key": "cat/3.png",
        "label": "cat",
    }


def test_options(served):
    contents, wanted = web.png(web.picture(50)), brute_force(web.code_of(50), range(12))
    near = web.post(served, contents, k=12, max_distance=9).json()
    assert {each["id"] for each in near["neighbours"]} == {i for i, d in wanted.items() if d <= 9}
    cats = web.post(served, contents, k=12, label="cat").json()
    assert {each["id"] for each in cats["neighbours"]} == set(range(1, 12, 2))
    dogs = web.post(served, contents, k=12, key_prefix="dog/1").json()
    assert {each["id"] for each in dogs["neighbours"]} == {10}
    none = web.post(served, contents, label="owl").json()
    assert (none["neighbours"], none["last_distance"], none["at_last_distance"]) == ([], None, 0)


def test_the_order_of_rerank_is_that_of_the_asymmetric_distance(served):
    pixels = web.picture(50)
    values = web.FakeEncoder()(pixels[None])["hash"][0].astype(np.float64)
    bits = {i: packed.unpack(web.code_of(i), 20)[0] for i in range(12)}
    scores = {i: float(((values - each) ** 2).sum()) for i, each in bits.items()}
    answer = web.post(served, web.png(pixels), k=4, rerank=12).json()
    found = [each["id"] for each in answer["neighbours"]]
    assert found == sorted(scores, key=scores.get)[:4]
    for each in answer["neighbours"]:
        assert each["score"] == pytest.approx(scores[each["id"]], abs=1e-4)
    # A code has no values: its bits are the values, and the order is that of the distance.
    code = web.code_of(50).tobytes().hex()
    by_code = served.post("/v1/search", json={"code": code, "k": 12, "rerank": 12}).json()
    assert all(each["score"] == each["distance"] for each in by_code["neighbours"])


def test_ties_are_counted(tmp_path):
    web.photos(tmp_path, 2)
    Index(tmp_path / "photos.index").add(np.repeat(web.code_of(9), 7, axis=0))
    with web.client(tmp_path) as client:
        answer = web.post(client, web.png(web.picture(9)), k=3).json()
        assert (answer["last_distance"], answer["shown"], answer["at_last_distance"]) == (0, 3, 7)
        answer = web.post(client, web.png(web.picture(9)), k=9).json()
        assert (answer["shown"], answer["at_last_distance"]) == (1, 1)


def test_an_empty_index(tmp_path):
    web.photos(tmp_path, 0)
    with web.client(tmp_path) as client:
        answer = web.post(client, web.png(web.picture(0)), rerank=5).json()
        assert answer["neighbours"] == [] and answer["last_distance"] is None
        facts = client.get("/v1/index").json()
        assert (facts["items"], facts["labels"]) == (0, [])


def test_wrong_values(served):
    contents = web.png(web.picture(0))
    for options in ({"k": 0}, {"k": 10_001}, {"k": "x"}, {"max_distance": -1}, {"rerank": -1}):
        found = web.problem(web.post(served, contents, **options), 422, "wrong_value")
        assert found["errors"][0]["where"] == f"query.{next(iter(options))}"
    for body in ({}, {"id": 1, "code": "00"}, {"id": -1}, {"id": 2**63}, {"k": 3}, {"url": "x"}, 3):
        web.problem(served.post("/v1/search", json=body), 422, "wrong_value")
    for code in ("00", "000001", "00000g", "00000000", ""):
        response = served.post("/v1/search", json={"code": code})
        assert response.status_code == 422 and response.json()["code"].startswith("wrong_")
    web.problem(served.post("/v1/search", json={"id": 99}), 404, "no_item")
    text = {"Content-Type": "application/json"}
    web.problem(served.post("/v1/search", content=b"{", headers=text), 422, "wrong_value")
    surrogate = b'{"id": 1, "label": "\\ud800"}'
    web.problem(served.post("/v1/search", content=surrogate, headers=text), 422, "wrong_value")
    files = {"image": contents}
    wrong = served.post("/v1/search", files=files, data={"image_url": "http://x"})
    web.problem(wrong, 422, "wrong_field")
    web.problem(served.post("/v1/search", files={"picture": contents}), 422, "wrong_field")
    web.problem(served.post("/v1/search", files={"x": ("", b"")}), 422, "no_image")
    web.problem(served.post("/v1/search", data={"id": "3"}), 415, "media_type")
    web.problem(served.post("/v1/search"), 415, "media_type")
    two = served.post("/v1/search", files=[("image", contents), ("image", contents)])
    web.problem(two, 400, "malformed")


def test_what_is_not_there(served):
    web.problem(served.get("/nothing"), 404, "not_found")
    assert web.problem(served.get("/v1/search"), 405, "method")
    assert served.get("/v1/search").headers["allow"] == "POST"
    web.problem(served.get("/v1/items/12"), 404, "no_item")
    web.problem(served.get("/v1/items/-1"), 422, "wrong_value")
    web.problem(served.get("/v1/items/one"), 422, "wrong_value")
    web.problem(served.get(f"/v1/items/{2**63}"), 422, "wrong_value")


def test_facts(served):
    facts = served.get("/v1/index").json()
    assert (facts["items"], facts["bits"], facts["fingerprint"]) == (12, 20, "fake")
    assert facts["labels"] == [{"label": "cat", "items": 6}, {"label": "dog", "items": 6}]
    assert facts["model"] == {
        "fingerprint": "fake",
        "classes": ["cat", "dog"],
        "image_size": 8,
        "fits": True,
    }
    assert facts["features"]["rerank"] and not facts["features"]["write"]
    assert "path" not in facts and "root" not in facts


def test_latency_and_metrics_tell_the_stages(served):
    latency = web.post(served, web.png(web.picture(1))).json()["latency_ms"]
    assert list(latency) == ["decode", "queue", "encode", "search", "total"]
    assert latency["total"] >= max(latency["decode"], latency["encode"], latency["search"]) > 0
    assert served.get("/v1/items/1/thumbnail").status_code == 200
    served.get("/nothing")
    text = served.get("/metrics").text
    for stage in ("decode", "queue", "encode", "search", "thumbnails"):
        line = next(x for x in text.splitlines() if f'seconds_count{{stage="{stage}"}}' in x)
        assert float(line.split()[1]) >= 1, stage
    assert "dah_tf_queue_length 0.0" in text and "dah_tf_index_items 12.0" in text
    assert 'dah_tf_rejected_total{reason="not_found"}' in text
    assert 'route="/v1/search",status="200"' in text


def test_every_answer_has_the_headers(served):
    paths = ("/healthz", "/readyz", "/v1/index", "/nothing", "/v1/items/1/image", "/metrics")
    for response in [*(served.get(path) for path in paths), web.post(served, b"no image")]:
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert "cache-control" in response.headers and "server" not in response.headers


def test_the_page_is_served(tmp_path, monkeypatch):
    from dah_tf.web import application

    page = tmp_path / "page"
    (page / "parts").mkdir(parents=True)
    (page / "index.html").write_text("<p>the page")
    (page / "parts" / "a.js").write_text("export {}")
    (tmp_path / "secret.js").write_text("secret")
    (page / "link.js").symlink_to(tmp_path / "secret.js")
    monkeypatch.setattr(application, "PAGE", page)
    with web.client(tmp_path) as client:
        for path, kind in (("/", "text/html"), ("/page/parts/a.js", "text/javascript")):
            response = client.get(path)
            assert response.status_code == 200 and response.headers["content-type"].startswith(kind)
            assert response.headers["cache-control"] == "no-cache"
            assert "default-src 'self'" in response.headers["content-security-policy"]
        for path in (
            "/page/nothing",
            "/page/../secret.js",
            "/page/%2e%2e/secret.js",
            "/page/link.js",
        ):
            web.problem(client.get(path), 404, "not_found")
        web.problem(client.get("/v1/search"), 405, "method")


def test_a_fault_of_the_service_is_a_problem_too(tmp_path, monkeypatch):
    with web.client(tmp_path) as client:
        monkeypatch.setattr(client.service.pipeline, "encode", None)
        response = web.post(client, web.png(web.picture(1)))
        web.problem(response, 500, "internal")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert client.get("/healthz").status_code == 200


def test_keys_that_are_not_utf8(tmp_path):
    web.photos(tmp_path, 1)
    Index(tmp_path / "photos.index").add(web.code_of(5), keys=["caf\udce9.png"], labels=["ünï"])
    with web.client(tmp_path) as client:
        answer = web.post(client, web.png(web.picture(5)), k=1)
        assert json.loads(answer.text)["neighbours"][0]["key"] == "caf\udce9.png"
        assert client.get("/v1/items/1").json()["label"] == "ünï"


def test_every_kind_of_image(served):
    image = Image.fromarray(web.picture(7).repeat(4, 0).repeat(4, 1))
    for form in ("PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        file = io.BytesIO()
        image.save(file, form, **({"lossless": True} if form == "WEBP" else {}))
        answer = web.post(served, file.getvalue(), kind="image/unknown", k=1).json()
        if form != "GIF":  # A palette changes the colours.
            assert answer["neighbours"][0]["id"] == 7, form
