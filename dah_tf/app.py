"""Serves a search for images: `python -m dah_tf.app --model=MODEL --index=INDEX`.

It prints the address of the service, which has an HTTP API; its OpenAPI document is at
/openapi.json. dah_tf/web/README.md describes the API.

  --images=photos --model=pretrained:cifar10-compact-36
                     encodes the images of a folder and makes the index first; a later start encodes
                     only what is new
  --index=photos.index --model=models/dah
                     serves an index that exists

Only this machine can reach the service, unless --host and --api_key_file are given. Adding and
removing items needs a key with the role write, or --open on this machine. SIGTERM ends the service
after the requests that run.
"""

import dataclasses

from absl import flags

from dah_tf.terminal import cli
from dah_tf.web.settings import Settings

FLAGS = flags.FLAGS

HELP = {
    "index": "the folder of the index, or milvus:URI/COLLECTION. With --images the default is the "
    "path of the images with .index at its end.",
    "model": "a SavedModel, a folder that contains versions of one, the folder of a run, or "
    "pretrained:NAME.",
    "encoder": "the address of a model of TensorFlow Serving that encodes instead, such as "
    "grpc://HOST:8500/NAME.",
    "runtime": "one of the formats to which the model was exported. By default it is the fastest "
    "of those that are installed and give equal codes.",
    "backend": "the backend that searches, as in dah_tf.search. By default it is that of the index.",
    "images": "a folder of images that are encoded and added to the index before the start.",
    "labels": "the labels of --images: folder takes the name of the first subfolder, auto does so "
    "only if it is one of the model's classes, and none stores no labels.",
    "root": "the only folder from which images are read; relative keys start there. By default it "
    "is the folder that the index has stored.",
    "uploads": "a folder that stores added images if a request asks for it. By default no image is "
    "stored.",
    "host": "the address to listen on.",
    "port": "the port to listen on; 0 takes a free one.",
    "api_key_file": "a file with a role (read or write), the SHA-256 digest of an API key and a "
    "name in each line. All requests then need a key.",
    "open": "everybody on this machine may add and remove items without a key.",
    "public_search": "searching needs no key although there is --api_key_file.",
    "hosts": "further host names by which clients may call the service.",
    "origins": "addresses of other websites whose pages may use the API, such as "
    "https://example.org.",
    "root_path": "the path under which a reverse proxy offers the service; the proxy removes it.",
    "proxy": "the address of a client is taken from X-Forwarded-For, which a reverse proxy on this "
    "machine sets.",
    "max_body_bytes": "the largest body of a request in bytes.",
    "max_pixels": "the largest number of pixels of an image.",
    "max_items": "the most items that one request adds.",
    "queue": "the most images that wait for the encoder; further requests get status 503.",
    "deadline": "the seconds from the end of a request's body to its answer; then it gets status "
    "504.",
    "body_seconds": "the seconds in which the body of a request must arrive.",
    "rate": "the most searches and changes of each key, or else of each client address, such as "
    "100/second; none sets no limit.",
}


def define_flags():
    """Defines a flag for each setting, with the default of the setting."""
    for field in dataclasses.fields(Settings):
        about, default = HELP[field.name], field.default
        text = f"{field.name}: {about}"
        if field.name == "labels":
            flags.DEFINE_enum(field.name, default, ["auto", "folder", "none"], text)
        elif isinstance(default, bool):
            flags.DEFINE_boolean(field.name, default, text)
        elif isinstance(default, int):
            flags.DEFINE_integer(field.name, default, text)
        elif isinstance(default, float):
            flags.DEFINE_float(field.name, default, text)
        elif isinstance(default, tuple):
            flags.DEFINE_list(field.name, list(default), text)
        else:
            flags.DEFINE_string(field.name, default, text)


def main():
    values = {field.name: FLAGS[field.name].value for field in dataclasses.fields(Settings)}
    settings = Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    from dah_tf.web import serve

    serve(settings)


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__, keras=False)
