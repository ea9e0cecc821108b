"""Requests to TensorFlow Serving over HTTP and JSON. Standard library and NumPy."""

import base64
import collections
import http.client
import io
import json
import ssl
import time
import urllib.parse

import numpy as np

from dah_tf.errors import UserError
from dah_tf.serving.failure import ServingError

STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

DTYPES = {"codes": np.uint8, "probabilities": np.float32, "valid": np.bool_}


class Rest:
    """Connections to a model that are kept open between requests; threads may share them.

    Args:
        address: `Address`.
        version: int or None.
        certificates: `Certificates`.

    Raises:
        UserError: certificates that TLS does not accept.
    """

    def __init__(self, address, version, certificates):
        self._address = address
        path = f"/v1/models/{urllib.parse.quote(address.model, safe='')}"
        path += "" if version is None else f"/versions/{version}"
        self._path = f"{path}:predict"
        self._context = _context(certificates) if address.secure else None
        self._idle = collections.deque()  # connections; its operations are atomic

    def predict(self, images, timeout):
        """One request.

        Args:
            images: list of bytes.
            timeout: float, seconds, for all of it.

        Returns:
            Pair of dict, name of an output to array, and None: REST does not tell the version.

        Raises:
            ServingError: no answer, or one that cannot be read.
        """
        rows = [{"b64": base64.b64encode(image).decode()} for image in images]
        # Columns, not rows: each output comes as one array.
        body = {"signature_name": "serving_default", "inputs": {"image_bytes": rows}}
        status, reply = self._post(json.dumps(body).encode(), time.monotonic() + timeout)
        if status != 200:
            raise ServingError(STATUS.get(status, "UNKNOWN"), f"HTTP {status}: {_reason(reply)}")
        try:
            outputs = json.loads(reply)["outputs"]
            return {name: _array(outputs[name], DTYPES[name]) for name in DTYPES}, None
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ServingError("INTERNAL", f"an answer that cannot be read: {error!r}") from error

    def close(self):
        while self._idle:
            self._idle.pop().close()

    def _post(self, body, end):
        """Status and body of the answer to a request."""
        while True:
            try:
                connection, kept = self._idle.pop(), True
            except IndexError:
                connection, kept = self._connection(), False
            connection.timeout = max(end - time.monotonic(), 1e-3)
            try:
                return self._exchange(connection, body, end)
            except TimeoutError as error:
                connection.close()
                raise ServingError("DEADLINE_EXCEEDED", "no answer in time") from error
            except ssl.SSLCertVerificationError as error:
                connection.close()
                raise ServingError("UNAUTHENTICATED", error) from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # The server may have closed a connection that was idle: no failure of its own.
                if not kept:
                    raise ServingError("UNAVAILABLE", repr(error)) from error

    def _connection(self):
        host, port = self._address.host, self._address.port
        if self._context is None:
            return http.client.HTTPConnection(host, port)
        return http.client.HTTPSConnection(host, port, context=self._context)

    def _exchange(self, connection, body, end):
        def response(sock, **options):
            return http.client.HTTPResponse(_Timed(sock, end), **options)

        if connection.sock:
            connection.sock.settimeout(connection.timeout)
        connection.response_class = response
        headers = {"Content-Type": "application/json"}
        connection.request("POST", self._path, body, headers)
        answer = connection.getresponse()
        contents = answer.read()
        if not answer.will_close:
            self._idle.append(connection)
        return answer.status, contents


class _Timed(io.RawIOBase):
    """What `HTTPResponse` reads a socket through: all of it must come before `end`.

    A socket's own time-out is for each piece: an answer in small pieces could take for ever.
    """

    def __init__(self, sock, end):
        self._sock, self._end = sock, end
        self._raw = sock.makefile("rb", buffering=0)

    def makefile(self, _mode):
        return io.BufferedReader(self)

    def readable(self):
        return True

    def readinto(self, buffer):
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self):
        self._raw.close()
        super().close()


def _array(values, dtype):
    """Nested lists as an array of `dtype`; what is not of its kind is an error, never rounded."""
    array = np.asarray(values)
    kinds = {"b": "b", "u": "iu", "f": "fiu"}[np.dtype(dtype).kind]
    if array.size and array.dtype.kind not in kinds:
        raise ValueError(f"{array.dtype} where {np.dtype(dtype)} was expected")
    if np.dtype(dtype) == np.uint8 and array.size and (array.min() < 0 or array.max() > 255):
        raise ValueError("a number that is no byte")
    return array.astype(dtype)


def _context(certificates):
    try:
        context = ssl.create_default_context(cafile=certificates.root)
        if certificates.client is not None:
            context.load_cert_chain(certificates.client, certificates.key)
    except (ssl.SSLError, OSError) as error:
        raise UserError(f"certificates that TLS does not accept: {error}") from error
    return context


def _reason(reply, limit=500):
    """The message in TensorFlow Serving's error, or what else the answer says."""
    try:
        return json.loads(reply)["error"][:limit]
    except (ValueError, TypeError, KeyError):
        return reply[:limit].decode(errors="replace") or "no reason given"
