"""A client of the search service. Standard library only."""

import http.client
import json
import os
import secrets
import urllib.parse

from dah_tf.errors import UserError


class SearchError(UserError):
    """The service refused a request, or did not answer.

    Attributes:
        status: int, the HTTP status, or None if there was no answer.
        code: str, the name of the problem, such as "queue_full".
    """

    def __init__(self, message, status=None, code="unreachable"):
        super().__init__(" ".join(str(message).split()))
        self.status, self.code = status, code


class SearchClient:
    """Talks to a search service. It keeps one connection, and is for one thread.

    Args:
        address: str, such as `http://127.0.0.1:8000`, with the path of a reverse proxy if any.
        key: str, an API key, or None.
        timeout: float, the seconds for one request.

    Raises:
        UserError: the address is wrong.

    Example:
        >>> with SearchClient("http://127.0.0.1:8000") as client:
        ...     answer = client.search(image="query.jpg", k=20)
        ...     [each["key"] for each in answer["neighbours"]]
    """

    def __init__(self, address, key=None, timeout=30.0):
        parts = urllib.parse.urlsplit(address)
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        if parts.scheme not in kinds or not parts.hostname:
            raise UserError(f"{address!r} is not an address; write http://HOST:PORT")
        self._address, self._path = address, parts.path.rstrip("/")
        self._connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def search(self, image=None, id=None, code=None, **options):
        """Finds the nearest items of an image, of an item or of a code.

        Args:
            image: path or bytes of an image file.
            id: int, the id of an item.
            code: str in hexadecimal, or bytes, a packed code.
            **options: `k`, `max_distance`, `label`, `key_prefix` and `rerank`.

        Returns:
            Dict, as the OpenAPI document describes it: `query`, `neighbours`, `latency_ms`, ...

        Raises:
            UserError: not exactly one of image, id and code is given, or a file cannot be read.
            SearchError: the service refused the request, or did not answer.
        """
        if sum(each is not None for each in (image, id, code)) != 1:
            raise UserError("give exactly one of image, id and code")
        options = {name: value for name, value in options.items() if value is not None}
        if image is not None:
            query = urllib.parse.urlencode(options)
            return self._json("POST", f"/v1/search?{query}", _contents(image), BINARY)
        if code is not None:
            code = code.hex() if isinstance(code, (bytes, bytearray)) else code
        given = {"id": id} if code is None else {"code": code}
        return self._json("POST", "/v1/search", json.dumps(given | options).encode(), JSON)

    def add(self, images, keys=None, labels=None, store=False):
        """Adds images. They are on the disk when the method returns.

        Args:
            images: list of paths and bytes of image files.
            keys, labels: lists of as many str, or None.
            store: bool, whether the service keeps the images, which gives them their keys.

        Returns:
            Dict with `ids`, `keys`, `codes` and more.

        Raises:
            UserError: a file cannot be read.
            SearchError: the service refused the request, or did not answer. Nothing was added, or
                with a `status` of None or 504 perhaps all.
        """
        fields = [("key", each) for each in keys or []]
        fields += [("label", each) for each in labels or []]
        body, kind = _form(fields, [_contents(each) for each in images])
        return self._json("POST", f"/v1/items?store={str(store).lower()}", body, kind)

    def add_codes(self, codes, keys=None, labels=None):
        """Adds items whose codes are known: a list of str in hexadecimal. See `add`."""
        keys, labels = keys or [""] * len(codes), labels or [""] * len(codes)
        items = [
            {"code": code, "key": key, "label": label}
            for code, key, label in zip(codes, keys, labels, strict=True)
        ]
        return self._json("POST", "/v1/items", json.dumps({"items": items}).encode(), JSON)

    def remove(self, id):
        """Removes an item."""
        self._ask("DELETE", f"/v1/items/{int(id)}")

    def item(self, id):
        """Returns the key, the label and the code of an item: a dict."""
        return self._json("GET", f"/v1/items/{int(id)}")

    def image(self, id):
        """Returns the image of an item: bytes of a JPEG or PNG without metadata."""
        return self._ask("GET", f"/v1/items/{int(id)}/image")

    def thumbnail(self, id, side=192):
        """Returns a small image of an item, at most `side` pixels wide or high: bytes."""
        return self._ask("GET", f"/v1/items/{int(id)}/thumbnail?side={int(side)}")

    def index(self):
        """Returns the facts about the index and the service: a dict."""
        return self._json("GET", "/v1/index")

    def is_ready(self):
        """Says whether the service can answer."""
        try:
            self._ask("GET", "/readyz")
        except SearchError:
            return False
        return True

    def close(self):
        """Closes the connection."""
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _json(self, *request):
        try:
            return json.loads(self._ask(*request))
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            raise SearchError(f"{self._address} did not answer with JSON") from None

    def _ask(self, method, path, body=None, kind=None):
        headers = self._headers | ({"Content-Type": kind} if kind else {})
        try:
            status, data = self._exchange(method, path, body, headers)
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise SearchError(f"{self._address} did not answer: {error}") from error
        if status >= 400:
            raise _error(self._address, status, data)
        return data

    def _exchange(self, method, path, body, headers):
        idle = self._connection.sock is not None
        try:
            self._connection.request(method, self._path + path, body, headers)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # A service closes connections that were idle. Only a request that changes nothing is
            # sent again, because the first one may have arrived.
            self._connection.close()
            if not idle or (method, path.partition("?")[0]) not in AGAIN and method != "GET":
                raise
            self._connection.request(method, self._path + path, body, headers)
            response = self._connection.getresponse()
        return response.status, response.read()


BINARY, JSON = "application/octet-stream", "application/json"
AGAIN = {("POST", "/v1/search")}


def _error(address, status, data):
    try:
        problem = json.loads(data)
        return SearchError(f"{address}: {status}: {problem['detail']}", status, problem["code"])
    except (ValueError, KeyError, TypeError):
        return SearchError(f"{address}: {status}", status, "unknown")


def _contents(image):
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    try:
        with open(image, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"cannot read {os.fspath(image)}: {error.strerror}") from error


def _form(fields, files):
    """Returns the bytes of a form, and its type."""
    boundary = secrets.token_hex(16)
    parts = []
    for name, value in fields:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        parts += [head.encode(), value.encode(), b"\r\n"]
    for contents in files:
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n'
            f"Content-Type: {BINARY}\r\n\r\n"
        )
        parts += [head.encode(), contents, b"\r\n"]
    return b"".join(
        [*parts, f"--{boundary}--\r\n".encode()]
    ), f"multipart/form-data; boundary={boundary}"
