"""Who may do what: keys, hosts, origins, rates, and settings that are refused."""

import hashlib
import socket

import pytest
import web_services as web

from dah_tf.errors import UserError
from dah_tf.web import Settings, keys
from dah_tf.web.guard import host_names

pytest.importorskip("fastapi", reason="the service needs FastAPI")

READS = ("/v1/index", "/v1/items/1", "/v1/items/1/image", "/v1/items/1/thumbnail", "/metrics")


def write(client, **options):
    return web.post(client, web.png(web.picture(1)), "/v1/items", **options)


def search(client, **options):
    return web.post(client, web.png(web.picture(1)), **options)


def test_without_keys_everybody_here_reads_and_nobody_writes(tmp_path):
    with web.client(tmp_path) as client:
        assert all(client.get(path).status_code == 200 for path in READS)
        assert search(client).status_code == 200
        web.problem(write(client), 403, "no_key_file")
        web.problem(client.delete("/v1/items/1"), 403, "no_key_file")
        web.problem(client.delete("/v1/items/1", headers=web.bearer("x")), 403, "no_key_file")
        assert client.get("/v1/index").json()["items"] == 12
        assert "components" not in client.get("/openapi.json").json().get("security", {})


def test_keys_for_reading_and_for_writing(tmp_path):
    said = []
    with web.client(tmp_path, api_key_file=web.key_file(tmp_path), said=said) as client:
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert client.get(path).status_code == 200
        for headers in ({}, web.bearer("wrong"), web.bearer(""), {"Authorization": "Basic x"}):
            answers = [client.get(path, headers=headers) for path in READS]
            answers += [search(client, headers=headers), write(client, headers=headers)]
            answers += [client.delete("/v1/items/1", headers=headers)]
            for answer in answers:
                web.problem(answer, 401, "key")
                assert answer.headers["www-authenticate"].startswith("Bearer")
        reader, writer = web.bearer(web.READ), web.bearer(web.WRITE)
        assert all(client.get(path, headers=reader).status_code == 200 for path in READS)
        assert search(client, headers=reader).status_code == 200
        web.problem(write(client, headers=reader), 403, "role")
        web.problem(client.delete("/v1/items/1", headers=reader), 403, "role")
        assert search(client, headers=writer).status_code == 200
        assert write(client, headers=writer).status_code == 201
        assert client.delete("/v1/items/1", headers=writer).status_code == 204
        features = [
            client.get("/v1/index", headers=each).json()["features"] for each in (reader, writer)
        ]
        assert [each["write"] for each in features] == [False, True]
    assert "by writeer from" in said[0] and web.WRITE not in "".join(said)


def test_public_search(tmp_path):
    made = {"api_key_file": web.key_file(tmp_path), "public_search": True}
    with web.client(tmp_path, **made) as client:
        assert all(client.get(path).status_code == 200 for path in READS)
        assert search(client).status_code == 200
        web.problem(write(client), 401, "key")
        web.problem(client.get("/v1/index", headers=web.bearer("wrong")), 401, "key")
        assert write(client, headers=web.bearer(web.WRITE)).status_code == 201


def test_every_known_key_is_compared(tmp_path, monkeypatch):
    compared = []
    original = keys.hmac.compare_digest

    def compare(known, given):
        compared.append(known)
        return original(known, given)

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    known = keys.Keys(web.key_file(tmp_path))
    assert known.find(web.READ).role == "read" and len(compared) == 2
    assert known.find("x") is None and len(compared) == 4


def test_a_key_file_that_is_wrong(tmp_path):
    path = tmp_path / "keys"
    digest = hashlib.sha256(b"x").hexdigest()
    for text, message in (
        ("", "has no key"),
        ("# nothing\n", "has no key"),
        (f"admin {digest}\n", "line 1"),
        (f"read {digest}\nread secret\n", "line 2"),
        (f"read {digest[:-1]}\n", "line 1"),
        (f"{digest}\n", "line 1"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            keys.Keys(path)
    with pytest.raises(UserError, match="cannot read"):
        keys.Keys(tmp_path / "missing")
    path.write_text(f"read {digest}\n")
    path.chmod(0o646)
    with pytest.raises(UserError, match="chmod"):
        keys.Keys(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "0.0.0.0"}, "api_key_file"),
        ({"host": "::"}, "api_key_file"),
        ({"host": "example.org"}, "api_key_file"),
        ({"host": "0.0.0.0", "open": True}, "api_key_file"),
        ({"open": True, "api_key_file": "keys"}, "exclude"),
        ({"public_search": True}, "api_key_file"),
        ({"encoder": "ftp://x/y"}, "grpc"),
        ({"encoder": "saved-model:x"}, "grpc"),
        ({"root_path": "search"}, "root_path"),
        ({"root_path": "/search/"}, "root_path"),
        ({"origins": ("*",)}, "origins"),
        ({"origins": ("https://example.org/page",)}, "origins"),
        ({"queue": 0}, "queue"),
        ({"deadline": 0.0}, "deadline"),
        ({"port": 70000}, "port"),
        ({"index": None}, "index"),
        ({"model": None}, "model"),
        ({"images": "photos", "root": "photos"}, "exclude"),
        ({"images": "photos", "model": None, "encoder": "grpc://x/y"}, "model"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Settings(**{"index": "photos.index", "model": "dah", **settings})


def test_loopback_is_the_default():
    assert Settings(index="i", model="m").is_loopback
    assert Settings(index="i", model="m", host="::1").is_loopback
    assert Settings(images="a/photos/", model="m").index == "a/photos.index"


def test_only_known_hosts_are_answered(tmp_path):
    with web.client(tmp_path, open=True, hosts=("search.example.org",)) as client:
        for host in ("127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000"):
            assert client.get("/v1/index", headers={"Host": host}).status_code == 200, host
        assert client.get("/healthz", headers={"Host": "search.example.org"}).status_code == 200
        for host in (
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1",
        ):
            for path in ("/v1/index", "/healthz", "/nothing"):
                found = client.get(path, headers={"Host": host})
                web.problem(found, 421, "host")
                assert found.headers["x-content-type-options"] == "nosniff"
        for host in ("", "a b", "localhost/v1", "localhost:8000/healthz?", "user@localhost"):
            web.problem(client.get("/v1/index", headers={"Host": host}), 400, "host")
        two = [("Host", "localhost"), ("Host", "evil.example")]
        web.problem(client.get("/v1/index", headers=two), 400, "host")


def test_a_host_header_changes_no_path(tmp_path):
    # Starlette before 1.0.1 took the path from the Host header (CVE-2026-48710).
    with web.client(tmp_path, api_key_file=web.key_file(tmp_path)) as client:
        for host in ("localhost/healthz#", "localhost/healthz?", "127.0.0.1:8000/healthz"):
            assert client.get("/v1/index", headers={"Host": host}).status_code in (400, 421)


def test_addresses_are_hosts_where_others_can_call(tmp_path):
    settings = {"host": "0.0.0.0", "api_key_file": web.key_file(tmp_path)}
    assert socket.gethostname().lower() in host_names(Settings(index="i", model="m", **settings))
    with web.client(tmp_path, **settings) as client:
        for host in ("10.1.2.3:8000", "[fe80::1]"):
            assert client.get("/healthz", headers={"Host": host}).status_code == 200
        web.problem(client.get("/healthz", headers={"Host": "evil.example"}), 421, "host")


def test_other_websites_cannot_send_anything(tmp_path):
    with web.client(tmp_path, open=True) as client:
        calls = (search, write, lambda c, **o: c.delete("/v1/items/1", **o))
        for call in calls:
            for origin in (
                "http://evil.example",
                "null",
                "http://127.0.0.1:8001",
                "127.0.0.1:8000",
            ):
                web.problem(call(client, headers={"Origin": origin}), 403, "origin")
            for site in ("cross-site", "same-site"):
                web.problem(call(client, headers={"Sec-Fetch-Site": site}), 403, "origin")
        assert client.get("/v1/index").json()["items"] == 12
        for call in calls:
            for headers in ({"Origin": "http://127.0.0.1:8000"}, {"Sec-Fetch-Site": "none"}):
                assert call(client, headers=headers).status_code < 300 or call is calls[2]


def test_no_cors_unless_it_is_named(tmp_path):
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    with web.client(tmp_path) as client:
        response = client.options("/v1/search", headers=asked)
        assert response.status_code == 405 and "access-control-allow-origin" not in response.headers
    with web.client(tmp_path, origins=("https://page.example",)) as client:
        allowed = client.options("/v1/search", headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://page.example"
        assert "access-control-allow-credentials" not in allowed.headers
        found = search(client, headers={"Origin": "https://page.example"})
        assert found.status_code == 200
        assert found.headers["access-control-allow-origin"] == "https://page.example"
        other = client.options("/v1/search", headers={**asked, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        web.problem(search(client, headers={"Origin": "https://evil.example"}), 403, "origin")


def test_the_rate_of_each_key(tmp_path):
    made = {"api_key_file": web.key_file(tmp_path), "rate": "3/minute"}
    with web.client(tmp_path, **made) as client:
        reader, writer = web.bearer(web.READ), web.bearer(web.WRITE)
        assert [search(client, headers=reader).status_code for _ in range(3)] == [200] * 3
        refused = search(client, headers=reader)
        assert web.problem(refused, 429, "rate") and 1 <= int(refused.headers["retry-after"]) <= 60
        assert search(client, headers=writer).status_code == 200  # Another key has its own rate.
        assert client.get("/v1/items/1", headers=reader).status_code == 200
        web.problem(search(client, headers=web.bearer("wrong")), 401, "key")
    with pytest.raises(UserError, match="rate=often"), web.client(tmp_path, rate="often"):
        pass
