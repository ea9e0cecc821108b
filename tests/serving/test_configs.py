"""The settings in configs/serving, as far as they can be tested without TensorFlow Serving."""

import configparser
import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import serving_servers
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from dah_tf.serving import client, warmup
from dah_tf.web.settings import Settings

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
    assert profiles == {
        "serving": None,
        "app": ["app"],
        "prometheus": ["metrics", "app"],
        "milvus": ["milvus", "app"],
    }
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_metrics_are_where_prometheus_looks(compose):
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load((CONFIGS / "prometheus.yaml").read_text())["scrape_configs"]
    job, app = jobs
    monitoring = (CONFIGS / "monitoring.config").read_text()
    assert f'path: "{job["metrics_path"]}"' in monitoring and "enable: true" in monitoring
    assert job["static_configs"] == [{"targets": ["serving:8501"]}]
    mount = "./prometheus.yaml:/etc/prometheus/prometheus.yml:ro"
    assert mount in compose["services"]["prometheus"]["volumes"]
    assert app["static_configs"] == [{"targets": ["app:8000"]}]
    assert app["authorization"]["credentials_file"].startswith("/keys/")


def settings_of(arguments):
    """The settings of the search service in a list of its flags."""
    fields = {each.name: each.default for each in dataclasses.fields(Settings)}
    given = dict(each.removeprefix("--").split("=", 1) for each in arguments if "=" in each)
    given |= {each.removeprefix("--"): True for each in arguments if "=" not in each}
    assert given.keys() <= fields.keys()
    return {n: tuple(v.split(",")) if fields[n] == () else v for n, v in given.items()}


def test_the_search_service_in_the_compose_file(compose):
    app = compose["services"]["app"]
    found = settings_of(app["command"])
    assert found["encoder"] == "grpc://serving:8500/dah" and "serving" in app["depends_on"]
    mounts = {
        volume.rsplit(":", 2 if volume.endswith(":ro") else 1)[1] for volume in app["volumes"]
    }
    assert {found["root"], "/index", "/keys"} == mounts and found[
        "api_key_file"
    ] == "/keys/app.keys"
    # It is reached as localhost from this machine, and as app by Prometheus.
    assert set(found["hosts"]) == {"localhost", "app"} and found["host"] == "0.0.0.0"
    build = app["build"]
    assert (CONFIGS / build["context"] / build["dockerfile"]).resolve() == CONFIGS / "Dockerfile"


def test_the_image_installs_extras_that_exist():
    text = (CONFIGS / "Dockerfile").read_text()
    extras = re.search(r"/src\[([\w,]+)\]", text)[1].split(",")
    setup = configparser.ConfigParser()
    setup.read(CONFIGS.parents[1] / "setup.cfg")
    assert set(extras) <= set(setup["options.extras_require"]) and "app" in extras
    assert 'ENTRYPOINT ["python", "-m", "dah_tf.app"]' in text and "USER app" in text


def test_the_unit_and_the_proxy_start_the_service_with_flags_that_exist():
    unit = (CONFIGS / "app.service").read_text()
    command = re.search(r"ExecStart=(.*?)\n(?!    )", unit, re.DOTALL)[1].replace("\\\n", " ")
    found = settings_of(command.split()[3:])
    assert "LoadCredential=keys:" in unit and found["api_key_file"] == "%d/keys"
    assert f"ReadWritePaths={found['index']}" in unit
    proxy = (CONFIGS / "nginx.conf").read_text()
    shown = [each for each in proxy.replace("\n#", " ").split() if each.startswith("--")]
    found = settings_of(shown[: shown.index("--hosts=example.org") + 1])
    assert found["root_path"] == "/search" and found["proxy"] is True


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
