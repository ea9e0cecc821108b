"""The Python client against a server, and the examples of the README."""

import pathlib
import re
import subprocess

import numpy as np
import pytest
import web_services as web

from dah_tf.errors import UserError
from dah_tf.index import Index
from dah_tf.web import SearchClient, SearchError

pytest.importorskip("fastapi", reason="the service needs FastAPI")

README = web.ROOT / "dah_tf" / "web" / "README.md"


def test_wrong_arguments():
    for address in ("localhost:8000", "ftp://localhost", "http://"):
        with pytest.raises(UserError, match="not an address"):
            SearchClient(address)
    with SearchClient("http://127.0.0.1:9") as client:
        with pytest.raises(UserError, match="exactly one"):
            client.search()
        with pytest.raises(UserError, match="exactly one"):
            client.search(id=1, code="00")
        with pytest.raises(UserError, match="cannot read missing.png"):
            client.search(image="missing.png")
        with pytest.raises(SearchError, match="did not answer") as error:
            client.index()
        assert error.value.status is None and not client.is_ready()


@pytest.mark.slow
def test_everything_that_the_client_does(tmp_path):
    web.photos(tmp_path)
    keys = f"api_key_file={web.key_file(tmp_path)}"
    with web.running(tmp_path, keys) as (_, address):
        with SearchClient(address) as nobody:
            assert nobody.is_ready()
            with pytest.raises(SearchError, match="the API key is missing") as error:
                nobody.search(id=1)
            assert (error.value.status, error.value.code) == (401, "key")
        with SearchClient(f"{address}/", key=web.WRITE) as client:
            path = tmp_path / "photos" / "cat" / "3.png"
            answers = [
                client.search(image=path, k=4, label="cat"),
                client.search(image=path.read_bytes(), k=4, label="cat"),
                client.search(id=3, k=4, label="cat", max_distance=None),
                client.search(code=web.code_of(3).tobytes(), k=4, label="cat"),
                client.search(code=web.code_of(3).tobytes().hex(), k=4, label="cat"),
            ]
            assert all(each["neighbours"] == answers[0]["neighbours"] for each in answers)
            assert [each["label"] for each in answers[0]["neighbours"]] == ["cat"] * 4
            images = [web.png(web.picture(80)), path]
            added = client.add(images, keys=["ä b&c", "d"], labels=["owl", "cat"])
            assert client.item(added["ids"][0])["key"] == "ä b&c"
            code = web.code_of(90).tobytes().hex()
            assert client.add_codes([code])["items"] == 15
            client.remove(added["ids"][1])
            with pytest.raises(SearchError, match="no such item"):
                client.item(added["ids"][1])
            assert client.index()["items"] == 14
            assert client.image(3).startswith(b"\x89PNG")
            assert client.thumbnail(3, side=64).startswith(b"\x89PNG")
            # A connection that the service has closed in the meantime is made again.
            client._connection.sock.shutdown(2)
            assert client.index()["items"] == 14
    assert np.array_equal(Index(tmp_path / "photos.index").codes([12]), web.code_of(80))


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_examples_of_the_readme(tmp_path):
    """The lines of curl and the Python example, against a service on another port."""
    web.photos(tmp_path)
    (tmp_path / "query.jpg").write_bytes(web.png(web.picture(5)))
    keys = next(block for block in blocks("bash") if "sha256sum" in block)
    subprocess.run(["bash", "-euo", "pipefail", "-c", keys], cwd=tmp_path, check=True)
    with web.running(tmp_path, f"api_key_file={tmp_path / 'api_keys'}") as (_, address):
        (curl,) = (block for block in blocks("bash") if "curl" in block)
        commands = curl.replace("http://127.0.0.1:8000", address)
        for name in set(re.findall(r"curl (.*)", commands)):
            commands = commands.replace(f"curl {name}", f"curl --fail-with-body -sS {name}")
        script = f"key=$(cat key.txt)\n{commands}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert done.stdout.count('"neighbours"') == 4
        (example,) = blocks("python")
        example = example.replace("http://127.0.0.1:8000", address)
        program = pathlib.Path(tmp_path, "example.py")
        program.write_text(example.replace('key="..."', 'key=open("key.txt").read().strip()'))
        process = web.start([str(program)], cwd=tmp_path)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.strip()
