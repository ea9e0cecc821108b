"""Real servers: their start and end, kills during writes, slow clients, and a model behind gRPC.

The environment variable DAH_TF_KILLS sets how often a service is killed while it writes
(default 5):

    DAH_TF_KILLS=100 python -m pytest -m slow tests/web/test_service_process.py -k kill
"""

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import numpy as np
import pytest
import web_services as web
from tiny_model import write_folder

from dah_tf.index import Index
from dah_tf.web import SearchClient, SearchError

pytest.importorskip("fastapi", reason="the service needs FastAPI")
pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("DAH_TF_KILLS", "5"))


def connection(address):
    parts = urllib.parse.urlsplit(address)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)


def test_sigterm_finishes_what_runs(tmp_path):
    web.photos(tmp_path)
    with web.running(tmp_path, "open=True", "deadline=30.0") as (process, address):
        running = connection(address)
        running.putrequest("POST", "/v1/items")
        running.putheader("Content-Type", "image/png")
        contents = web.png(web.picture(1))
        running.putheader("Content-Length", str(len(contents)))
        running.endheaders(contents[:10])
        idle = connection(address)
        idle.request("GET", "/healthz")
        idle.getresponse().read()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)  # A service that stopped at once would be gone by then.
        assert process.poll() is None
        running.send(contents[10:])
        response = running.getresponse()
        assert response.status == 201 and json.loads(response.read())["ids"] == [12]
        assert process.wait() == 0
        with pytest.raises(OSError):
            connection(address).connect()
    assert len(Index(tmp_path / "photos.index")) == 13


def test_a_slow_client_holds_nothing(tmp_path):
    web.photos(tmp_path)
    with web.running(tmp_path, "queue=2", "body_seconds=1.0") as (_, address):
        parts = urllib.parse.urlsplit(address)
        slow = [socket.create_connection((parts.hostname, parts.port)) for _ in range(20)]
        for each in slow:
            head = "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            each.sendall(f"{head}Content-Length: 1000\r\n\r\nabc".encode())
        with SearchClient(address) as client:
            assert len(client.search(image=web.png(web.picture(1)), k=3)["neighbours"]) == 3
        for each in slow:
            each.settimeout(60)
            assert b"408 Request Timeout" in each.recv(1000)
            each.close()


def test_a_body_that_is_longer_than_it_says(tmp_path):
    web.photos(tmp_path)
    with web.running(tmp_path, "max_body_bytes=100") as (_, address):
        parts = urllib.parse.urlsplit(address)
        head = "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        for rest in (
            "Content-Length: 5\r\n\r\n" + "x" * 5000,
            "Content-Length: -5\r\n\r\nxxxxx",
            "Content-Length: 5\r\nContent-Length: 500\r\n\r\nxxxxx",
            "Transfer-Encoding: chunked\r\n\r\n" + "50\r\n" + "x" * 80 + "\r\n" + "50\r\n",
            "Content-Length: 99999999999999999999\r\n\r\nx",
        ):
            with socket.create_connection((parts.hostname, parts.port)) as raw:
                raw.sendall((head + rest).encode() + b"x" * 100)
                raw.settimeout(60)
                assert re.match(rb"HTTP/1.1 4(00|13|22) ", raw.recv(1000)), rest[:40]
        with SearchClient(address) as client:
            assert client.is_ready()


@pytest.mark.parametrize("proxy", [True, False])
def test_the_address_of_a_client_behind_a_proxy(tmp_path, proxy):
    web.photos(tmp_path)
    with web.running(tmp_path, f"proxy={proxy}", "rate=1/hour") as (_, address):
        statuses = []
        for client in ("10.0.0.1", "10.0.0.2", "10.0.0.1"):
            asked = connection(address)
            headers = {"X-Forwarded-For": client, "Content-Type": "application/json"}
            asked.request("POST", "/v1/search", b'{"id": 1}', headers)
            statuses.append(asked.getresponse().status)
        assert statuses == ([200, 200, 429] if proxy else [200, 429, 429])


def writes(address, answered, removed):
    """Adds items and removes some until the service dies; records what was answered."""
    rng = random.Random(len(answered))
    try:
        with SearchClient(address, timeout=60) as client:
            while True:
                number = rng.randrange(1 << 20)
                key = f"{threading.get_ident()}-{number}-{len(answered)}"
                code = web.code_of(number)
                (added,) = client.add_codes([code.tobytes().hex()], [key], ["new"])["ids"]
                answered[added] = key, code
                if rng.random() < 0.3:
                    client.remove(added)
                    removed.add(added)
    except SearchError as error:
        assert error.status is None, error


def test_a_kill_loses_nothing_that_was_answered(tmp_path):
    web.photos(tmp_path)
    answered, removed, total = {}, set(), 0
    for number in range(KILLS):
        with web.running(tmp_path, "open=True", ending=signal.SIGKILL) as (process, address):
            before = len(answered)
            threads = [
                threading.Thread(target=writes, args=(address, answered, removed)) for _ in range(3)
            ]
            for each in threads:
                each.start()
            time.sleep(random.Random(number).uniform(0.02, 0.5))
            process.kill()
            for each in threads:
                each.join()
            total += len(answered) > before
        index = Index(tmp_path / "photos.index")
        assert index.verify() == []
        kept = {i: what for i, what in answered.items() if i not in removed}
        unanswered = _removals_in_flight(index, kept)
        # Each of the three clients may have had one removal without an answer.
        assert len(unanswered) <= 3 * (number + 1)
        for i in unanswered:
            removed.add(i)
            del kept[i]
        ids = np.array(list(kept), np.int64)
        if len(ids):
            assert index.describe(ids)[0] == [kept[i][0] for i in ids.tolist()]
            wanted = np.concatenate([kept[i][1] for i in ids.tolist()])
            assert np.array_equal(index.codes(ids), wanted)
        there = {i for found, _, _ in index.items() for i in found.tolist()}
        assert not removed & there
    assert total >= KILLS / 2
    print(f"{KILLS} kills, {len(answered)} answered additions, {len(removed)} removals")


def _removals_in_flight(index, kept):
    there = {i for found, _, _ in index.items() for i in found.tolist()}
    return set(kept) - there


def command(*flags):
    return web.start(["-m", "dah_tf.app"], "--port=0", *flags)


def test_one_command_from_a_folder_to_a_service(tmp_path, encoder):
    paths = write_folder(tmp_path / "photos", 9)
    flags = (f"--images={tmp_path / 'photos'}", f"--model={encoder.path}", "--open")
    process = command(*flags)
    try:
        address = web.address_of(process)
        with SearchClient(address) as client:
            facts = client.index()
            assert (facts["items"], facts["features"]["images"]) == (9, True)
            answer = client.search(image=paths[4], k=1)
            code = encoder.files(str(paths[4])).codes[0]
            assert answer["query"]["code"] == code.tobytes().hex()
            assert answer["neighbours"][0]["distance"] == 0
            assert client.image(answer["neighbours"][0]["id"])[:4] == b"\x89PNG"
            client.remove(2)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        process.communicate()
    again = command(*flags, f"--index={tmp_path / 'photos.index'}", "--root_path=/search")
    try:
        address = web.address_of(again)
        assert address.endswith("/search")
        # A proxy removes the path.
        with SearchClient(address.removesuffix("/search")) as client:
            assert client.index()["items"] == 8
            document = json.loads(client._ask("GET", "/openapi.json"))
            assert document["servers"] == [{"url": "/search"}]
    finally:
        again.send_signal(signal.SIGINT)
        assert again.wait() == 0
        again.communicate()


def test_answers_are_sent_at_once(tmp_path):
    # With Nagle's algorithm each answer waits 40 ms for the client's acknowledgement.
    web.photos(tmp_path)
    with web.running(tmp_path) as (_, address), SearchClient(address) as client:
        seconds = []
        for _ in range(30):
            start = time.monotonic()
            client.search(id=1)
            seconds.append(time.monotonic() - start)
        assert min(seconds) < 0.03


def test_wrong_starts_are_one_line(tmp_path):
    web.photos(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for flags, message in (
            (["--index=nowhere", "--encoder=grpc://localhost:1/dah"], "not an index"),
            ([f"--index={tmp_path / 'photos.index'}", "--model=nowhere"], "not a model"),
            (["--index=i", "--model=m", "--host=0.0.0.0"], "--api_key_file"),
            (
                [f"--index={tmp_path / 'photos.index'}", "--encoder=grpc://x/y", f"--port={port}"],
                "cannot listen",
            ),
            (["--index=i", "--model=m", "--api_key_file=missing"], "cannot read"),
        ):
            command_line = [sys.executable, "-m", "dah_tf.app", *flags]
            done = subprocess.run(
                command_line, cwd=web.ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 2 and message in done.stderr, done.stderr
            assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")


def test_a_model_behind_grpc(tmp_path):
    pytest.importorskip("grpc")
    import serving_models
    import serving_servers

    from dah_tf.serving import Client
    from dah_tf.web import Settings, create_app, encoders

    contents = [web.png(web.picture(number).repeat(4, 0).repeat(4, 1)) for number in range(3)]
    with serving_servers.grpc_server() as served:
        with Client(served.address) as plain:
            codes = plain.encode(contents).codes
        bits = json.loads((serving_models.model_folder() / "1" / "dah.json").read_bytes())["bits"]
        Index.create(tmp_path / "i", bits, codes=codes)
        settings = Settings(index=str(tmp_path / "i"), encoder=served.address, open=True)
        from starlette.testclient import TestClient

        app = create_app(settings, encoders.load(settings), lambda _: None)
        with TestClient(app, web.ADDRESS, raise_server_exceptions=False) as client:
            answer = web.post(client, contents[1], k=1).json()
            assert answer["query"]["code"] == codes[1].tobytes().hex()
            assert answer["neighbours"][0]["distance"] == 0
            damaged = web.post(client, contents[1][:100])
            web.problem(damaged, 422, "unreadable_image")
            web.problem(web.post(client, b"text"), 422, "unreadable_image")
            web.problem(web.post(client, contents[0], rerank=5), 422, "no_values")
            assert web.post(client, contents[2], "/v1/items").status_code == 201
            assert client.get("/v1/index").json()["features"]["rerank"] is False
            served.plan.append("INTERNAL")
            found = web.post(client, contents[0])
            web.problem(found, 503, "encoder_failed")
            assert "retry-after" in found.headers
