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
    """Connections to a model that stay open between requests. Several threads may share them.

    Args:
        address: `Address`.
        version: int or None.
        certificates: `Certificates`.

    Raises:
        UserError: TLS does not accept the certificates.
    """

    def __init__(self, address, version, certificates):
        self._address = address
        path = f"/v1/models/{urllib.parse.quote(address.model, safe='')}"
        path += "" if version is None else f"/versions/{version}"
        self._path = f"{path}:predict"
        self._context = _context(certificates) if address.secure else None
        self._idle = collections.deque()  # connections; its operations are atomic

    def predict(self, images, timeout):
        """Sends a request.

        Args:
            images: list of bytes.
            timeout: float, the seconds for the whole request.

        Returns:
            Pair of a dict of the name of each output to its array, and None, because REST does not
            name the version.

        Raises:
            ServingError: there is no answer, or it cannot be read.
        """
        rows = [{"b64": base64.b64encode(image).decode()} for image in images]
        # With columns in place of rows, each output comes as one array.
        body = {"signature_name": "serving_default", "inputs": {"image_bytes": rows}}
        status, reply = self._post(json.dumps(body).encode(), time.monotonic() + timeout)
        if status != 200:
            raise ServingError(STATUS.get(status, "UNKNOWN"), f"HTTP {status}: {_reason(reply)}")
        try:
            outputs = json.loads(reply)["outputs"]
            return {name: _array(outputs[name], DTYPES[name]) for name in DTYPES}, None
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ServingError("INTERNAL", f"the answer cannot be read: {error!r}") from error

    def close(self):
        while self._idle:
            self._idle.pop().close()

    def _post(self, body, end):
        """Returns the status and the body of the answer to a request."""
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
                # The server may have closed an idle connection, which is not an error.
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
    """A wrapper of a socket for `HTTPResponse`. The whole answer must come before `end`.

    The time-out of a socket is for each piece, so that an answer in small pieces could take for
    ever.
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
    """Converts nested lists to an array of `dtype`. Values of another kind raise ValueError."""
    array = np.asarray(values)
    kinds = {"b": "b", "u": "iu", "f": "fiu"}[np.dtype(dtype).kind]
    if array.size and array.dtype.kind not in kinds:
        raise ValueError(f"{array.dtype} where {np.dtype(dtype)} was expected")
    if np.dtype(dtype) == np.uint8 and array.size and (array.min() < 0 or array.max() > 255):
        raise ValueError("a number is not between 0 and 255")
    return array.astype(dtype)


def _context(certificates):
    try:
        context = ssl.create_default_context(cafile=certificates.root)
        if certificates.client is not None:
            context.load_cert_chain(certificates.client, certificates.key)
    except (ssl.SSLError, OSError) as error:
        raise UserError(f"TLS does not accept the certificates: {error}") from error
    return context


def _reason(reply, limit=500):
    """Returns the message in an error of TensorFlow Serving, or the start of the answer."""
    try:
        return json.loads(reply)["error"][:limit]
    except (ValueError, TypeError, KeyError):
        return reply[:limit].decode(errors="replace") or "no reason given"
