"""The service follows what other processes do to the index."""

import shutil

import numpy as np
import pytest
import web_services as web
from waiting import until

from dah_tf import codes as packed
from dah_tf.errors import UserError
from dah_tf.index import Index

pytest.importorskip("fastapi", reason="the service needs FastAPI")


def test_changes_of_others_are_followed(tmp_path):
    with web.client(tmp_path) as client:
        other = Index(tmp_path / "photos.index")
        other.add(web.code_of(70), keys=["new"], labels=["owl"])
        until(lambda: client.get("/v1/index").json()["items"] == 13)
        found = web.post(client, web.png(web.picture(70)), k=1).json()["neighbours"][0]
        assert (found["key"], found["distance"]) == ("new", 0)
        assert {"label": "owl", "items": 1} in client.get("/v1/index").json()["labels"]
        other.remove([12])
        until(lambda: client.get("/v1/items/12").status_code == 404)
        other.compact()
        until(lambda: client.get("/v1/index").json()["changes"] == 3)
        assert web.post(client, web.png(web.picture(3)), k=1).json()["neighbours"][0]["id"] == 3


@pytest.mark.parametrize("bits", [20, 36])
def test_an_index_of_another_model_is_refused(tmp_path, bits):
    with web.client(tmp_path, open=True) as client:
        codes = np.zeros((2, -(-bits // 8)), np.uint8)
        Index(tmp_path / "photos.index").replace(codes, bits=bits, fingerprint="other")
        until(lambda: client.get("/readyz").status_code == 503)
        web.problem(client.get("/readyz"), 503, "not_ready")
        assert client.get("/healthz").status_code == 200
        web.problem(web.post(client, web.png(web.picture(1))), 409, "wrong_model")
        added = web.post(client, web.png(web.picture(1)), "/v1/items")
        web.problem(added, 409, "wrong_model")
        assert client.get("/v1/index").json()["model"]["fits"] is False
        # A search that needs no model still works, in the new codes.
        assert client.post("/v1/search", json={"id": 12}).json()["bits"] == bits


def test_a_service_does_not_start_with_another_model(tmp_path):
    web.photos(tmp_path)
    Index(tmp_path / "photos.index").replace(np.zeros((1, 3), np.uint8), fingerprint="other")
    with pytest.raises(UserError, match="search rebuild"), web.client(tmp_path):
        pass


def test_an_index_that_disappears_is_told_and_still_answers(tmp_path):
    said = []
    with web.client(tmp_path, said=said) as client:
        shutil.move(tmp_path / "photos.index", tmp_path / "away")
        until(lambda: client.get("/readyz").status_code == 503)
        assert web.post(client, web.png(web.picture(3)), k=1).json()["neighbours"][0]["id"] == 3
        shutil.move(tmp_path / "away", tmp_path / "photos.index")
        until(lambda: client.get("/readyz").status_code == 200)
    assert len(said) == 1 and "cannot be read" in said[0]


def test_a_search_keeps_its_state(tmp_path):
    with web.client(tmp_path, open=True) as client:
        before = client.service.catalog.current
        client.delete("/v1/items/3")
        assert len(before) == 12 and before.describe([3])[0] == ["cat/3.png"]
        assert len(client.service.catalog.current) == 11
        # What did not change is not opened again.
        code = web.code_of(60).tobytes().hex()
        kept = client.service.catalog.current._segments[0]
        client.post("/v1/items", json={"items": [{"code": code}]})
        assert client.service.catalog.current._segments[0] is kept


def test_labels_are_counted_as_brute_force_counts_them(tmp_path):
    rng = np.random.default_rng(0)
    codes = packed.pack(rng.integers(0, 2, (500, 20)))
    labels = [["", "a", "bb", "ü", "a;b"][number] for number in rng.integers(0, 5, 500)]
    index = Index.create(tmp_path / "i", 20, codes=codes, labels=labels)
    index.add(codes[:50])
    index.remove(np.arange(0, 300, 3))
    left = [label for number, label in enumerate(labels) if number % 3 or number >= 300]
    wanted = {label: left.count(label) for label in sorted(set(left)) if label}
    assert index.labels() == wanted and super(Index, index).labels() == wanted


@pytest.mark.slow
def test_an_index_in_milvus(tmp_path, milvus_path):
    pytest.importorskip("milvus_lite")
    from dah_tf.index import create_index

    web.photos(tmp_path)
    codes = np.concatenate([web.code_of(number) for number in range(12)])
    keys = [f"dog/{number}.png" for number in range(12)]
    create_index(milvus_path, 20, fingerprint="fake", codes=codes, keys=keys).close()
    with web.client(
        tmp_path, index=milvus_path, open=True, root=str(tmp_path / "photos")
    ) as client:
        found = web.post(client, web.png(web.picture(4)), k=3).json()["neighbours"]
        assert (found[0]["id"], found[0]["distance"]) == (4, 0)
        added = web.post(client, web.png(web.picture(30)), "/v1/items", key="a", label="owl").json()
        found = web.post(client, web.png(web.picture(30)), k=1).json()["neighbours"][0]
        assert (found["id"], found["key"]) == (added["ids"][0], "a")
        assert client.delete("/v1/items/2").status_code == 204
        web.problem(client.get("/v1/items/2"), 404, "no_item")
        web.problem(client.delete("/v1/items/2"), 404, "no_item")
        facts = client.get("/v1/index").json()
        assert (facts["items"], facts["labels"]) == (12, [{"label": "owl", "items": 1}])
        assert client.get("/v1/items/4/image").status_code == 200
