"""What the service does and allows, in one place. Standard library only."""

import dataclasses
import ipaddress
import os
import re

from dah_tf.errors import UserError

MAX_K = 10_000
"""The most neighbours of an answer."""

KEY_BYTES, LABEL_BYTES = 4096, 1024
"""The longest key and label of an item in UTF-8; Milvus stores no longer ones."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of the service.

    Attributes:
        index: the folder of the index, or `milvus:URI/COLLECTION`. None is allowed only with
            `images`; it is then the path of the images with `.index` at its end.
        model: a model as in `Encoder`. It encodes in this process, unless there is an `encoder`.
        encoder: the address of a model of TensorFlow Serving, such as `grpc://HOST:8500/NAME`.
        runtime: the exported format that encodes. None takes the fastest one.
        backend: the backend that searches. None is the one of the index.
        images: a folder of images to encode and add to the index before the service starts.
        labels: the labels of the images in `images`, as in `encode_folder`.
        root: the only folder from which images are read. Relative keys start there too. None is
            `images`, or else the folder that the index has stored.
        uploads: a folder that stores the images of added items. None stores no image.
        host, port: the address to listen on. Port 0 takes a free one.
        api_key_file: a file with one API key in each line; see `keys`.
        open: whether everybody on this machine may add and remove items without a key.
        public_search: whether reading needs no key although there are keys.
        hosts: further host names by which clients may call the service.
        origins: web pages of other hosts that may use the API, such as `https://example.org`.
        root_path: the path under which a reverse proxy offers the service.
        proxy: whether the address of the client is taken from `X-Forwarded-For`.
        max_body_bytes: the largest body of a request.
        max_pixels: the largest number of pixels of an image.
        max_items: the most items that one request adds.
        queue: the most images that wait or are worked on at a time.
        deadline: the seconds from the end of a request's body to its answer.
        body_seconds: the seconds in which the body of a request must arrive.
        rate: the rate of requests that encode or change something, of each key or else of each
            client address, such as `100/second`; "none" sets no limit.

    Raises:
        UserError: a setting is wrong, or the settings are not safe together.
    """

    index: str | None = None
    model: str | None = None
    encoder: str | None = None
    runtime: str | None = None
    backend: str | None = None
    images: str | None = None
    labels: str = "auto"
    root: str | None = None
    uploads: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    api_key_file: str | None = None
    open: bool = False
    public_search: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    root_path: str = ""
    proxy: bool = False
    max_body_bytes: int = 32 << 20
    max_pixels: int = 64 << 20
    max_items: int = 64
    queue: int = 256
    deadline: float = 10.0
    body_seconds: float = 60.0
    rate: str = "100/second"

    def __post_init__(self):
        if self.images and not self.index:
            object.__setattr__(self, "index", f"{os.path.normpath(self.images)}.index")
        if not self.index:
            raise UserError("name the index: index=photos.index, or the images: images=photos")
        if not self.model and not self.encoder:
            raise UserError("name the model that encodes the images: model=models/dah")
        if self.images and not self.model:
            raise UserError(f"images={self.images} needs a model: model=models/dah")
        if self.images and self.root:
            raise UserError("images and root exclude each other; leave out root")
        if self.encoder and not re.match(r"(grpcs?|https?)://", self.encoder):
            raise UserError(f"encoder={self.encoder} must begin with grpc:// or http://")
        for name in ("max_body_bytes", "max_pixels", "max_items", "queue"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1. Received: {getattr(self, name)}")
        for name in ("deadline", "body_seconds"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be above 0. Received: {getattr(self, name)}")
        if not 0 <= self.port <= 65535:
            raise UserError(f"port must be 0 to 65535. Received: {self.port}")
        if self.root_path and not re.fullmatch(r"(/[\w.~-]+)+", self.root_path):
            raise UserError(
                f"root_path={self.root_path} must be like /search, without / at its end"
            )
        for origin in self.origins:
            if not re.fullmatch(r"https?://[\w.:\[\]-]+", origin):
                raise UserError(
                    f"origins={origin} must be like https://example.org, without a path"
                )
        if self.open and self.api_key_file:
            raise UserError("open and api_key_file exclude each other; leave out one of them")
        if self.public_search and not self.api_key_file:
            raise UserError(
                "public_search needs api_key_file, because only keys restrict searching"
            )
        if not self.is_loopback and not self.api_key_file:
            raise UserError(
                f"host={self.host} can be reached by others, which needs api_key_file=FILE; "
                "host=127.0.0.1 serves this machine only"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
