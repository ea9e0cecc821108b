"""The search service behind nginx, under a path, as configs/serving/nginx.conf has it."""

import contextlib
import json
import pathlib
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request

import pytest
import web_services as services
from waiting import until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIG = pathlib.Path(services.ROOT) / "configs" / "serving" / "nginx.conf"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
]


@contextlib.contextmanager
def proxied(folder, address):
    """Yields the address of an nginx that runs the example before a service."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    locations = CONFIG.read_text().replace("http://127.0.0.1:8000", address.rpartition("/")[0])
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        "events {}\nhttp {\naccess_log off;\n"
        + "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"server {{ listen 127.0.0.1:{port};\n{locations}\n}}\n}}\n"
    )
    process = subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    try:
        until(lambda: answers(port), process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def get(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return answer.url, answer.read(), answer.headers


def test_page_search_and_document_under_a_path(tmp_path):
    services.photos(tmp_path, 6)
    settings = ("root_path=/search", "proxy=True", "open=True", "hosts=('example.org',)")
    with (
        services.running(tmp_path, *settings) as (_, address),
        proxied(tmp_path, address) as outside,
    ):
        # Without the slash the page's relative addresses would be wrong.
        url, page, _ = get(f"{outside}/search")
        assert url == f"{outside}/search/" and b"<title>" in page
        for name in re.findall(rb'(?:href|src)="(page/[^"]+)"', page):
            assert get(f"{outside}/search/{name.decode()}")[1]
        document = json.loads(get(f"{outside}/search/openapi.json")[1])
        assert document["servers"] == [{"url": "/search"}]
        request = urllib.request.Request(
            f"{outside}/search/v1/search?k=3",
            services.png(services.picture(4)),
            {"Content-Type": "image/png", "Origin": outside},
        )
        with urllib.request.urlopen(request) as answer:
            found = json.load(answer)
        assert found["neighbours"][0]["id"] == 4 and len(found["neighbours"]) == 3
        assert get(f"{outside}/search/v1/items/4/thumbnail")[2]["Content-Type"] == "image/png"
        # Another name of the proxy is refused unless it is one of --hosts.
        assert get(f"{outside}/search/readyz", Host="example.org")[1]
        with pytest.raises(urllib.error.HTTPError, match="421"):
            get(f"{outside}/search/readyz", Host="example.com")
