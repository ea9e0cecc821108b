"""The client when servers are slow, away, half gone or wrong."""

import pickle
import socket
import threading
import types

import numpy as np
import pytest
import serving_models
import serving_servers

from dah_tf.serving import Client, ServingError, client

TRANSPORTS = list(serving_servers.SERVERS)
HANG = 3600.0  # seconds that no answer takes, however busy the machine is


@pytest.fixture(scope="module")
def files():
    return serving_models.files(20)


@pytest.fixture(params=TRANSPORTS)
def served(request):
    with serving_servers.SERVERS[request.param]() as server:
        yield server


@pytest.fixture(scope="module")
def expected(files):
    """The codes of the files."""
    return serving_servers.saved_model().run("serving_default", {"image_bytes": files})["codes"]


@pytest.fixture
def pauses(monkeypatch):
    """The longest pause of each retry; none is waited for."""
    longest = []
    monkeypatch.setattr(client.random, "uniform", lambda low, high: longest.append(high) or 0.0)
    return longest


def test_unavailable_is_tried_again(served, files, expected, pauses):
    served.plan.extend(["UNAVAILABLE"] * 3)
    with Client(served.address, batch_size=10) as remote:
        codes = remote.encode(files).codes
    np.testing.assert_array_equal(codes, expected)
    assert served.batches == [10, 10, 10, 10, 10]
    assert pauses == [0.1, 0.2, 0.4]


def test_retries_end(served, files, pauses):
    served.plan.extend(["UNAVAILABLE"] * 20)
    error = pytest.raises(ServingError, match="UNAVAILABLE after 8 attempts")
    with Client(served.address, retries=7) as remote, error as caught:
        remote.encode(files)
    assert caught.value.code == "UNAVAILABLE" and served.address in str(caught.value)
    assert len(served.batches) == 8
    assert pauses[-2:] == [3.2, 5.0]


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "INTERNAL"])
def test_other_errors_are_not_tried_again(served, files, code):
    served.plan.extend([code] * 3)
    with Client(served.address) as remote, pytest.raises(ServingError) as caught:
        remote.encode(files)
    assert caught.value.code == code and f"planned {code}" in str(caught.value)
    assert len(served.batches) == 1


def test_a_slow_server_is_given_up(served, files):
    given_up = threading.Event()
    served.plan.append(given_up.wait)
    with Client(served.address, timeout=0.2) as remote:
        with pytest.raises(ServingError) as caught:
            remote.encode(files)
        given_up.set()
        assert caught.value.code == "DEADLINE_EXCEEDED"
        assert len(served.batches) <= 1
        remote._timeout = HANG
        assert remote.encode(files).valid.all()  # it works again


def test_the_deadline_is_for_the_whole_call(served, files, monkeypatch):
    now = [0.0]  # each batch takes 600 s by the client's clock

    def work():
        now[0] += 600.0

    served.plan.extend([work] * 20)
    clock = types.SimpleNamespace(monotonic=lambda: now[0])
    with Client(served.address, batch_size=1, timeout=HANG) as remote:
        monkeypatch.setattr(client, "time", clock)
        with pytest.raises(ServingError) as caught:
            remote.encode(files, deadline=2000.0)
        assert caught.value.code == "DEADLINE_EXCEEDED"
        assert len(served.batches) == 4


def test_the_deadline_ends_the_retries(served, files):
    served.plan.extend(["UNAVAILABLE"] * 100)
    with Client(served.address, retries=100) as remote:
        with pytest.raises(ServingError) as caught:
            remote.encode(files, deadline=0.5)
        assert len(served.batches) < 100
        assert caught.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("reset", [True, False])
def test_an_answer_that_breaks_off_is_asked_for_again(served, files, expected, reset):
    with serving_servers.breaker(served.address, after=150, times=2, reset=reset) as address:
        with Client(address) as remote:
            np.testing.assert_array_equal(remote.encode(files).codes, expected)
        assert len(served.batches) == 3  # twice the request had come, its answer broke off
    with serving_servers.breaker(served.address, after=150, times=99, reset=reset) as address:
        with Client(address, retries=1) as remote, pytest.raises(ServingError) as caught:
            remote.encode(files)
        assert caught.value.code == "UNAVAILABLE"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_starts_late(transport, files, expected, monkeypatch):
    port = serving_servers.free_port()
    with Client(f"{transport}://127.0.0.1:{port}/dah", retries=0) as remote:
        with pytest.raises(ServingError) as caught:
            remote.encode(files)
        assert caught.value.code == "UNAVAILABLE"

    refused, listens, done = (threading.Event() for _ in range(3))

    def serve():
        refused.wait()
        with serving_servers.SERVERS[transport](port):
            listens.set()
            done.wait()

    def pause(low, high):
        refused.set()
        listens.wait()
        return high

    monkeypatch.setattr(client.random, "uniform", pause)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with Client(f"{transport}://127.0.0.1:{port}/dah", retries=50) as remote:
            np.testing.assert_array_equal(remote.encode(files).codes, expected)
    finally:
        done.set()
        thread.join()


def test_a_version_that_changes_amid_a_call_is_an_error(files):
    with serving_servers.grpc_server() as served, Client(served.address, batch_size=1) as remote:

        def images():
            yield files[0]
            yield files[1]
            served.version = 2
            yield files[2]

        with pytest.raises(ServingError, match="changed the model's version") as caught:
            remote.encode(images())
        assert caught.value.code == "ABORTED"


def answer(n, width=2, classes=5):
    return {
        "codes": np.zeros((n, width), np.uint8),
        "valid": np.ones(n, bool),
        "probabilities": np.zeros((n, classes), np.float32),
    }


@pytest.mark.parametrize("other", [{"width": 3}, {"classes": 4}])
def test_another_model_amid_a_call_is_an_error(served, files, other):
    served.plan.extend([answer(1), answer(1, **other)])
    error = pytest.raises(ServingError, match="(codes|probabilities) has two lengths")
    with Client(served.address, batch_size=1) as remote, error as caught:
        remote.encode(files[:2], probabilities=True)
    assert caught.value.code == "ABORTED"


@pytest.mark.parametrize(
    "change",
    [
        {"codes": np.zeros((3, 2), np.uint8)},
        {"codes": np.zeros((2, 2), np.float32)},
        {"codes": np.full((2, 2), 300)},
        {"codes": np.full((2, 2), -1)},
        {"codes": np.zeros(2, np.uint8)},
        {"valid": np.ones((2, 1), bool)},
        {"valid": np.ones(2, np.float32)},
    ],
)
def test_answers_of_another_kind_are_an_error(served, files, change):
    served.plan.append({**answer(2), **change})
    with Client(served.address) as remote, pytest.raises(ServingError) as caught:
        remote.encode(files[:2])
    assert caught.value.code == "INTERNAL"
    assert len(served.batches) == 1


@pytest.mark.parametrize("reply", [b"", b"<html>", b"[1]", b'{"outputs": {"codes": [[1], 2]}}'])
def test_answers_that_are_no_json_are_an_error(files, reply):
    with serving_servers.rest_server() as served, Client(served.address) as remote:
        served.plan.append(reply)
        with pytest.raises(ServingError, match="cannot be read") as caught:
            remote.encode(files)
        assert caught.value.code == "INTERNAL"


def test_connections_are_kept_and_lost_ones_replaced(files):
    with (
        serving_servers.rest_server() as served,
        Client(served.address, batch_size=5, retries=0) as remote,
    ):
        remote.encode(files)
        remote.encode(files)
        assert len(served.connections) == 1
        served.connections[0].shutdown(2)  # as a server does after minutes of silence
        assert remote.encode(files).valid.all()
        assert len(served.connections) == 2


@pytest.mark.parametrize("drops", [1000, 16])
def test_an_answer_in_drops_is_given_up(files, drops):
    """Each piece comes in time, all of it does not; or nothing more comes after some."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip():
        connection, _ = listener.accept()
        with connection:
            for byte in (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)[:drops]:
                if stop.wait(0.05):
                    return
                connection.sendall(bytes([byte]))
            stop.wait()

    thread = threading.Thread(target=drip)
    thread.start()
    port = listener.getsockname()[1]
    remote = Client(f"http://127.0.0.1:{port}/dah", timeout=1.0)
    with remote, pytest.raises(ServingError) as caught:
        remote.encode(files)
    stop.set()
    thread.join()
    listener.close()
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_model_in_process_is_given_up_too():
    options = {"timeout": 0.001, "batch_size": 3000}
    local = Client(f"saved-model:{serving_models.model_folder()}", **options)
    with local, pytest.raises(ServingError) as caught:
        local.encode([b""] * 3000)
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(ServingError("UNAVAILABLE", "a\nb")))
    assert (error.code, str(error)) == ("UNAVAILABLE", "a b")
