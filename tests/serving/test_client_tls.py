"""The client over TLS: whom it trusts, and how it shows who it is."""

import shutil

import pytest
import serving_models
import serving_servers

from dah_tf.serving import Client, ServingError

pytestmark = pytest.mark.skipif(
    not shutil.which("openssl"), reason="needs the openssl command, to make certificates"
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: serving_servers.certificate(folder, name) for name in ("server", "me", "other")}


@pytest.fixture(scope="module")
def files():
    return serving_models.files(4)


@pytest.mark.parametrize("transport", list(serving_servers.SERVERS))
def test_a_trusted_certificate(transport, keys, files):
    with serving_servers.SERVERS[transport](0, *keys["server"]) as served:
        with Client(served.address, root_certificates=keys["server"][0]) as remote:
            assert remote.encode(files).valid.all()
        assert served.address.startswith(f"{transport}s://")


@pytest.mark.parametrize(
    ("transport", "code"), [("grpc", "UNAVAILABLE"), ("http", "UNAUTHENTICATED")]
)
def test_a_certificate_that_is_not_trusted(transport, code, keys, files):
    with serving_servers.SERVERS[transport](0, *keys["server"]) as served:
        for trusted in (None, keys["other"][0]):
            error = pytest.raises(ServingError, match=r"(?i)certificate.verify.failed")
            options = {"root_certificates": trusted, "retries": 1}
            with Client(served.address, **options) as remote, error as caught:
                remote.encode(files)
            assert caught.value.code == code
        assert not served.batches


@pytest.mark.parametrize("transport", list(serving_servers.SERVERS))
def test_a_client_that_shows_its_certificate(transport, keys, files):
    server = serving_servers.SERVERS[transport]
    with server(0, *keys["server"], client_root=keys["me"][0]) as served:
        trust = {"root_certificates": keys["server"][0], "retries": 0}
        mine = {"client_certificate": keys["me"][0], "client_key": keys["me"][1]}
        with Client(served.address, **trust, **mine) as remote:
            assert remote.encode(files).valid.all()
        with Client(served.address, **trust) as remote, pytest.raises(ServingError) as caught:
            remote.encode(files)
        assert caught.value.code == "UNAVAILABLE"
        assert len(served.batches) == 1
