"""A real TensorFlow Serving with the settings of configs/serving, wherever one is installed."""

import contextlib
import shutil
import subprocess
import urllib.request
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest
import serving_models
import serving_servers
from waiting import until

from dah_tf.serving import Client, ServingError

CONFIGS = Path(__file__).parents[2] / "configs" / "serving"

pytestmark = pytest.mark.skipif(
    not shutil.which("tensorflow_model_server"), reason="tensorflow_model_server is not on PATH"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Ports of gRPC and REST, and the server's log."""
    folder = tmp_path_factory.mktemp("server")
    models = (CONFIGS / "models.config").read_text()
    models = models.replace('"/models/dah"', f'"{serving_models.model_folder()}"')
    (folder / "models.config").write_text(models)
    ports, log = (serving_servers.free_port(), serving_servers.free_port()), folder / "log"
    command = ["tensorflow_model_server", f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    command += [f"--model_config_file={folder / 'models.config'}", "--enable_batching=true"]
    command += [f"--batching_parameters_file={CONFIGS / 'batching.config'}"]
    command += [f"--monitoring_config_file={CONFIGS / 'monitoring.config'}"]
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: is_available(ports[1]) or process.poll() is not None)
        assert process.poll() is None, log.read_text()[-3000:]
        yield *ports, log
    finally:
        process.terminate()
        process.wait()


def is_available(port):
    with contextlib.suppress(OSError):
        return b'"AVAILABLE"' in get(port, "/v1/models/dah")


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.read()


def test_codes(server):
    files = [*serving_models.files(150), b"", b"text", next(serving_models.crops(1))]
    with Client(f"saved-model:{serving_models.model_folder()}") as local:
        expected = local.encode(files, probabilities=True)
    for address in (f"grpc://127.0.0.1:{server[0]}/dah", f"http://127.0.0.1:{server[1]}/dah"):
        with Client(address, version=1) as remote, futures.ThreadPoolExecutor(4) as pool:
            for answer in pool.map(lambda _: remote.encode(files, probabilities=True), range(4)):
                np.testing.assert_array_equal(answer.codes, expected.codes)
                np.testing.assert_array_equal(answer.valid, expected.valid)
                np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-5)


def test_errors(server):
    for address in (f"grpc://127.0.0.1:{server[0]}", f"http://127.0.0.1:{server[1]}"):
        with Client(f"{address}/cat") as remote, pytest.raises(ServingError) as caught:
            remote.encode([b""])
        assert caught.value.code == "NOT_FOUND"
        too_many = Client(f"{address}/dah", batch_size=100)
        with too_many, pytest.raises(ServingError) as caught:
            too_many.encode([b""] * 100)
        assert caught.value.code == "INVALID_ARGUMENT"


def test_it_was_warm_and_tells_metrics(server):
    assert "Finished reading warmup data" in server[2].read_text()
    metrics = get(server[1], "/monitoring/prometheus/metrics").decode()
    assert ":tensorflow:serving" in metrics
