"""Many requests at a time: batches, full queues, deadlines, slow clients, and one state for each."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import web_services as web
from waiting import until

from dah_tf.index import Index, disk
from dah_tf.web import problems
from dah_tf.web.bodies import Bodies
from dah_tf.web.pools import Budget, Pool

pytest.importorskip("fastapi", reason="the service needs FastAPI")


def test_requests_share_batches_and_get_their_own_answers(tmp_path):
    encoder = web.FakeEncoder()
    with web.client(tmp_path, encoder, rate="none") as client, ThreadPoolExecutor(24) as pool:
        encoder.gate.clear()
        jobs = [
            pool.submit(web.post, client, web.png(web.picture(number)), k=1) for number in range(12)
        ]
        until(lambda: client.service.pipeline.length == 12)
        until(lambda: client.service.pipeline._decoding == 0)
        assert "dah_tf_queue_length 12.0" in client.get("/metrics").text
        encoder.gate.set()
        found = [job.result().json()["neighbours"][0] for job in jobs]
        assert [each["id"] for each in found] == list(range(12))
        assert {each["distance"] for each in found} == {0}
        # The first batch took what was there when it began, and the second one all others.
        assert sum(encoder.batches) == 12 and len(encoder.batches) <= 3
        assert client.service.pipeline.length == 0


def test_a_full_queue_refuses_before_the_body_is_read(tmp_path):
    encoder = web.FakeEncoder()
    with (
        web.client(tmp_path, encoder, rate="none", queue=3, open=True) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        encoder.gate.clear()
        jobs = [pool.submit(web.post, client, web.png(web.picture(n)), k=1) for n in range(3)]
        until(lambda: client.service.pipeline.length == 3)
        sent = []

        def body():
            sent.append(1)
            yield web.png(web.picture(1))

        for path in ("/v1/search", "/v1/items"):
            response = client.post(path, content=body(), headers={"Content-Type": "image/png"})
            web.problem(response, 503, "queue_full")
            assert int(response.headers["retry-after"]) >= 1
        # What needs no encoder is answered all the same.
        assert client.get("/v1/items/1").status_code == 200
        assert client.get("/healthz").status_code == 200
        encoder.gate.set()
        assert [job.result().status_code for job in jobs] == [200] * 3
        assert web.post(client, web.png(web.picture(1))).status_code == 200
        assert 'rejected_total{reason="queue_full"} 2.0' in client.get("/metrics").text


def test_a_request_with_more_images_than_the_queue_holds(tmp_path):
    with web.client(tmp_path, queue=3, open=True) as client:
        files = [("image", web.png(web.picture(number))) for number in range(4)]
        web.problem(client.post("/v1/items", files=files), 503, "queue_full")
        assert client.service.pipeline.length == 0


def test_after_the_deadline_an_item_leaves_the_queue(tmp_path):
    encoder = web.FakeEncoder()
    with (
        web.client(tmp_path, encoder, rate="none", deadline=0.2) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        encoder.gate.clear()
        jobs = [pool.submit(web.post, client, web.png(web.picture(n)), k=1) for n in range(2)]
        for job in jobs:
            web.problem(job.result(), 504, "deadline")
        assert client.service.pipeline.length == 0
        assert len(client.service.pipeline._batcher) == 0
        encoder.gate.set()
        assert web.post(client, web.png(web.picture(1))).status_code == 200
        assert sum(encoder.batches) <= 3  # The one that waited was not encoded any more.


def test_a_change_that_waits_too_long_is_not_made_later(tmp_path):
    with (
        web.client(tmp_path, open=True, deadline=0.3) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        entered, leave = threading.Event(), threading.Event()

        def slow(_):
            entered.set()
            leave.wait()

        blocking = client.service.catalog._writer.submit(slow, None)
        entered.wait()
        job = pool.submit(web.post, client, web.png(web.picture(1)), "/v1/items")
        web.problem(job.result(), 504, "deadline")
        leave.set()
        blocking.result()
        assert web.post(client, web.png(web.picture(1)), "/v1/items").json()["items"] == 13


def test_concurrent_changes_are_all_made(tmp_path):
    with (
        web.client(tmp_path, open=True, rate="none") as client,
        ThreadPoolExecutor(8) as pool,
    ):
        code = web.code_of(0).tobytes().hex()

        def add(number):
            items = [{"code": code, "key": f"k{number}"}]
            return client.post("/v1/items", json={"items": items}).json()["ids"][0]

        def look(_):
            answer = client.post("/v1/search", json={"code": code, "k": 100})
            found = answer.json()
            # An answer is one state of the index: all of its items, and all of their keys.
            assert len(found["neighbours"]) == 12 + found["changes"]
            assert all(each["key"] for each in found["neighbours"])

        looks = [pool.submit(look, number) for number in range(40)]
        ids = list(pool.map(add, range(30)))
        for each in looks:
            each.result()
        assert sorted(ids) == list(range(12, 42))
        stored = Index(tmp_path / "photos.index")
        assert [stored.describe([i])[0][0] for i in ids] == [f"k{n}" for n in range(30)]


def test_a_writer_waits_for_another_process(tmp_path, monkeypatch):
    tries, add = [], Index.add

    def trying(*arguments, **options):
        tries.append(1)
        return add(*arguments, **options)

    monkeypatch.setattr(Index, "add", trying)
    with web.client(tmp_path, open=True) as client, ThreadPoolExecutor(1) as pool:
        with disk.lock(tmp_path / "photos.index"):
            job = pool.submit(web.post, client, web.png(web.picture(1)), "/v1/items")
            until(lambda: len(tries) > 1 or job.done())
            assert not job.done() and client.get("/v1/index").status_code == 200
        assert job.result().status_code == 201


def test_many_decodes_share_their_memory():
    budget, most, now, lock = Budget(100), [0], [0], threading.Lock()

    def use(size):
        with budget.take(size, float("inf")):
            with lock:
                now[0] += min(100, size or 100)
                most[0] = max(most[0], now[0])
            with lock:
                now[0] -= min(100, size or 100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, [60, 60, 30, 10, None, 1000, 40, 100] * 20))
    assert 0 < most[0] <= 100
    with budget.take(60, 0), pytest.raises(TimeoutError), budget.take(50, 0):
        pass


def test_a_pool_is_bounded_and_keeps_to_the_time():
    async def calls():
        pool, leave = Pool(1, "test", 2), threading.Event()
        later = asyncio.get_running_loop().time() + 3600
        jobs = [asyncio.ensure_future(pool.run(later, leave.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(problems.Problem) as full:
            await pool.run(later, leave.wait)
        leave.set()
        assert await asyncio.gather(*jobs) == [True, True]
        leave.clear()
        with pytest.raises(problems.Problem) as late:
            await pool.run(0.0, leave.wait)
        leave.set()
        pool.close()
        return full.value.status, late.value.status

    assert asyncio.run(calls()) == (503, 504)


class Slow:
    """The receiving side of a request whose client sends a byte now and then."""

    def __init__(self, parts):
        self.parts = parts

    async def __call__(self):
        if not self.parts:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": self.parts.pop(0), "more_body": True}


def read(bodies, parts):
    from starlette.requests import Request

    scope = {"type": "http", "headers": [(b"content-type", b"image/png")], "method": "POST"}

    async def reading():
        async with bodies.read(Request(scope, Slow(parts)), 1):
            pass

    with pytest.raises(problems.Problem) as error:
        asyncio.run(reading())
    assert bodies._held == 0
    return error.value


def test_a_slow_body_is_given_up():
    assert read(Bodies(0.05), [b"a", b"b"]).status == 408


def test_all_bodies_share_their_memory():
    assert read(Bodies(5, memory=10), [bytes(6), bytes(6)]).status == 503
