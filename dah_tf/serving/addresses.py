"""Addresses of models, and certificates for TLS. Standard library only."""

import dataclasses
import urllib.parse
from pathlib import Path

from dah_tf.errors import UserError

PORTS = {"grpc": 8500, "grpcs": 8500, "http": 8501, "https": 8501}
"""The schemes of addresses, and the ports of TensorFlow Serving."""

LOCAL = "saved-model"


@dataclasses.dataclass(frozen=True)
class Address:
    """The address of a model on a server.

    Attributes:
        scheme: str, one of `PORTS`.
        host: str, without the brackets of IPv6.
        port: int.
        model: str, the name of the model on the server.
    """

    scheme: str
    host: str
    port: int
    model: str

    @property
    def authority(self):
        """str, the host and the port in the form of an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def secure(self):
        """bool, whether the connection uses TLS."""
        return self.scheme in ("grpcs", "https")


def parse(text):
    """Reads an `Address` from a text such as `grpc://host:8500/dah`.

    Raises:
        UserError: the text has another form.
    """
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UserError(f"{text!r} is not the address of a model: {error}") from error
    name = urllib.parse.unquote(parts.path[1:])
    extra = parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in PORTS or not parts.hostname or not name or "/" in name or extra:
        raise UserError(
            f"{text!r} is not the address of a model; write grpc://HOST:8500/NAME, "
            "http://HOST:8501/NAME (grpcs and https for TLS), or saved-model:PATH"
        )
    return Address(parts.scheme, parts.hostname, port or PORTS[parts.scheme], name)


@dataclasses.dataclass(frozen=True)
class Certificates:
    """PEM files for TLS.

    Attributes:
        root: path of the trusted certificates, or None for the installed ones.
        client: path of the client's certificate, or None.
        key: path of the client's private key, or None.
    """

    root: str | None = None
    client: str | None = None
    key: str | None = None

    def check(self, secure):
        """Raises `UserError` if a file cannot be read or cannot be used with this address."""
        paths = [path for path in (self.root, self.client, self.key) if path is not None]
        if paths and not secure:
            raise UserError("certificates need an address with grpcs:// or https://")
        if (self.client is None) != (self.key is None):
            raise UserError("the certificate of the client and its key must be given together")
        for path in paths:
            read(path)


def read(path):
    """Returns the bytes of a file, or None for None.

    Raises:
        UserError: the file cannot be read.
    """
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
