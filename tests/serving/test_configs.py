"""The settings in configs/serving, as far as they can be tested without TensorFlow Serving."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import serving_servers
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from dah_tf.serving import client, warmup

CONFIGS = Path(__file__).parents[2] / "configs" / "serving"


@pytest.fixture(scope="module")
def compose():
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the compose file")
    return yaml.safe_load((CONFIGS / "compose.yaml").read_text())


def test_models_config():
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((CONFIGS / "models.config").read_text(), config)
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("dah", "/models/dah")
    assert model.model_version_policy.latest.num_versions == 1


def test_the_server_batches_what_the_client_sends_and_the_warmup_has_run():
    text = (CONFIGS / "batching.config").read_text()
    allowed = tuple(
        int(size) for size in re.findall(r"^allowed_batch_sizes: (\d+)$", text, re.MULTILINE)
    )
    largest = int(re.search(r"^max_batch_size { value: (\d+) }$", text, re.MULTILINE)[1])
    assert allowed == warmup.BATCH_SIZES
    assert largest == max(allowed) == client.BATCH_SIZE == serving_servers.MAX_BATCH_SIZE
    assert "\npad_variable_length_inputs: false\n" in text  # true would change codes


def test_compose_names_files_that_exist(compose):
    serving = compose["services"]["serving"]
    mounts = dict(volume.rsplit(":", 2)[:2] for volume in serving["volumes"])
    assert mounts["."] == "/config" and mounts["${MODELS:-../../models}"] == "/models"
    named = [flag.split("=")[1] for flag in serving["command"] if "=/config/" in flag]
    assert len(named) == 3
    for path in named:
        assert (CONFIGS / Path(path).name).is_file()
    profiles = {name: s.get("profiles") for name, s in compose["services"].items()}
    assert profiles == {"serving": None, "prometheus": ["metrics"], "milvus": ["milvus"]}
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_metrics_are_where_prometheus_looks(compose):
    yaml = pytest.importorskip("yaml")
    (job,) = yaml.safe_load((CONFIGS / "prometheus.yaml").read_text())["scrape_configs"]
    monitoring = (CONFIGS / "monitoring.config").read_text()
    assert f'path: "{job["metrics_path"]}"' in monitoring and "enable: true" in monitoring
    assert job["static_configs"] == [{"targets": ["serving:8501"]}]
    mount = "./prometheus.yaml:/etc/prometheus/prometheus.yml:ro"
    assert mount in compose["services"]["prometheus"]["volumes"]


@pytest.mark.skipif(not shutil.which("bash"), reason="the health check runs in bash")
def test_the_health_check(compose):
    test = compose["services"]["serving"]["healthcheck"]["test"]
    assert test[:3] == ["CMD", "bash", "-c"]
    with serving_servers.rest_server() as served:
        port = served.address.split(":")[2].split("/")[0]
        command = [*test[1:3], test[3].replace("/8501", f"/{port}")]
        assert subprocess.run(command, check=False).returncode == 0
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode != 0
