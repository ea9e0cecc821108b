"""Services for tests: a small index, an encoder without a model, clients, and real processes."""

import contextlib
import hashlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np
from PIL import Image

from dah_tf import codes as packed
from dah_tf import images
from dah_tf.index import Index

ROOT = pathlib.Path(__file__).parents[1]
BITS, SIDE = 20, 8
READ, WRITE = "a key that reads", "a key that writes"
ADDRESS = "http://127.0.0.1:8000"


class FakeEncoder:
    """Has the interface of `Encoder`. The bits of a code say where the image is bright.

    Attributes:
        gate: `threading.Event`; encoding waits until it is set.
        batches: list of the size of each batch.
    """

    bits, fingerprint, classes = BITS, "fake", ["cat", "dog"]
    span, image_size, channels = (0.0, 1.0), SIDE, 3

    def __init__(self):
        self.gate, self.batches = threading.Event(), []
        self.gate.set()

    def decode(self, contents):
        pixels = images.decode(contents)
        return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))

    def __call__(self, batch):
        self.gate.wait()
        self.batches.append(len(batch))
        values = batch.mean(axis=3).reshape(len(batch), -1)[:, :BITS] / np.float32(255)
        return {"codes": packed.pack(values > 0.5), "hash": values.astype(np.float32)}


def local(encoder=None):
    """The encoder as the service wants it."""
    from dah_tf.web.encoders import Local

    return Local(encoder or FakeEncoder())


def picture(number):
    """uint8 array of shape `(SIDE, SIDE, 3)`, another one for each number."""
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def png(pixels, **options):
    """The bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def code_of(number):
    """The packed code of `picture(number)`: uint8 array of shape `(1, bytes)`."""
    return FakeEncoder()(picture(number)[None])["codes"]


def photos(folder, count=12):
    """Writes pictures below a folder, and makes an index of them; returns its path.

    Item i has the picture i, the key `cat/i.png` or `dog/i.png`, and the label cat or dog.
    """
    keys = [f"{'cat' if number % 2 else 'dog'}/{number}.png" for number in range(count)]
    for number, key in enumerate(keys):
        path = folder / "photos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture(number)))
    codes = np.concatenate([packed.pack(np.zeros((0, BITS))), *map(code_of, range(count))])
    Index.create(
        folder / "photos.index",
        BITS,
        fingerprint="fake",
        codes=codes,
        keys=keys,
        labels=[key[:3] for key in keys],
        root=str(folder / "photos"),
    )
    return folder / "photos.index"


def key_file(folder):
    """Writes a file with `READ` and `WRITE`; returns its path."""
    path = folder / "keys"
    lines = [
        f"{role} {hashlib.sha256(key.encode()).hexdigest()} {role}er"
        for role, key in (("read", READ), ("write", WRITE))
    ]
    path.write_text("\n".join(["# keys for tests", "", *lines]) + "\n")
    return str(path)


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@contextlib.contextmanager
def client(folder, encoder=None, said=None, address=ADDRESS, **settings):
    """Yields Starlette's TestClient of a service over `photos.index` in a folder.

    Args:
        folder: path, for `photos`.
        encoder: `FakeEncoder`, or None for a new one.
        said: list that gets the lines of the log.
        address: the address by which the client calls the service.
        **settings: as in `Settings`.
    """
    from starlette.testclient import TestClient

    from dah_tf.web import Settings, create_app

    if not (folder / "photos.index").exists():
        photos(folder)
    made = Settings(**{"index": str(folder / "photos.index"), "model": "fake", **settings})
    say = (said if said is not None else []).append
    app = create_app(made, local(encoder), say)
    with TestClient(app, address, raise_server_exceptions=False) as found:
        found.service = app.state.service
        yield found


def post(client, contents, path="/v1/search", kind="image/png", **options):
    """Sends an image as the body of a request."""
    headers = {"Content-Type": kind, **options.pop("headers", {})}
    return client.post(path, content=contents, headers=headers, params=options)


def problem(response, status, code):
    """Checks that an answer is a problem of RFC 9457; returns its content."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content["status"] == status and content["code"] == code, content
    assert content["title"] and content["detail"] and content["type"] == "about:blank"
    return content


def start(program, *arguments, **environment):
    """Starts a Python program in a process; it prints an address when it is ready."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **environment}
    env.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def address_of(process):
    """Waits for the line with the address; fails with what the process wrote if it ends before."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("http"):
            return line.strip()
    raise AssertionError(f"ended with {process.wait()}: {lines} {process.stderr.read()}")


@contextlib.contextmanager
def running(folder, *flags, ending=signal.SIGTERM):
    """Yields the process and the address of a service with `FakeEncoder` on a free port."""
    process = start([__file__], folder / "photos.index", *flags)
    try:
        yield process, address_of(process)
    finally:
        if process.poll() is None:
            process.send_signal(ending)
        process.communicate()


def main(index, *settings):
    """Serves an index with `FakeEncoder`: arguments such as `open=True`."""
    import ast

    from dah_tf.web import Settings, encoders, serve

    encoders.load = lambda *_: local()
    pairs = dict(each.split("=", 1) for each in settings)
    values = {}
    for name, value in pairs.items():
        try:
            values[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            values[name] = value
    serve(Settings(**{"index": index, "model": "fake", "port": 0, "rate": "none", **values}))


if __name__ == "__main__":
    main(*sys.argv[1:])
