"""Reads the bodies of requests under limits of time and memory. Nothing is named by a client."""

import asyncio
import contextlib
import time
import typing

from starlette.requests import Request

from dah_tf.web import problems

MEMORY = 512 << 20
"""The bytes of all bodies that are held at a time."""

FIELD_BYTES = 1 << 16
"""The largest field of a form that is not a file."""

BINARY = "application/octet-stream"
FORM = "multipart/form-data"
JSON = "application/json"


class Body(typing.NamedTuple):
    """The content of a request.

    Attributes:
        json: bytes of a JSON document, or None.
        images: list of bytes, the files of images.
        fields: dict of the name of each field of a form to the list of its values.
    """

    json: bytes | None
    images: list[bytes]
    fields: dict[str, list[str]]


class Bodies:
    """Reads bodies.

    Args:
        seconds: float, the time in which a body must arrive.
        memory: int, the bytes of all bodies that are held at a time.
    """

    def __init__(self, seconds, memory=MEMORY):
        self._seconds, self._memory = seconds, memory
        self._held = 0  # changes only on the event loop

    @contextlib.asynccontextmanager
    async def read(self, request, max_images):
        """Reads the body of a request, and holds its memory until the block ends.

        Args:
            request: Starlette's `Request`, whose body was not read.
            max_images: int, the most files of a form.

        Yields:
            `Body`.

        Raises:
            Problem: 408 if the body arrives too slowly, 415 if its type is not accepted, 422 if
                a form has no image, and 503 if the bodies of all requests take too much memory.
            HTTPException: 413 if the body is too large, and 400 if a form is malformed.
        """
        held, end = 0, time.monotonic() + self._seconds

        async def receive():
            nonlocal held
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    message = await request.receive()
            except TimeoutError:
                raise problems.Problem(
                    408, "slow_body", f"the body did not arrive within {self._seconds:g} seconds"
                ) from None
            size = len(message.get("body", b""))
            held, self._held = held + size, self._held + size
            if self._held > self._memory:
                raise problems.busy("memory", "too many uploads at the moment; try again")
            return message

        try:
            yield await _content(Request(request.scope, receive), max_images)
        finally:
            self._held -= held


async def _content(request, max_images):
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        return Body(await request.body(), [], {})
    if kind == BINARY or kind.startswith("image/"):
        return Body(None, [await request.body()], {})
    if kind != FORM:
        raise problems.Problem(
            415,
            "media_type",
            f"send an image as image/* or {BINARY}, a form as {FORM}, or {JSON}",
            {"Accept": f"image/*, {BINARY}, {FORM}, {JSON}"},
        )
    files, fields = [], {}
    async with request.form(
        max_files=max_images, max_fields=4 * max_images + 8, max_part_size=FIELD_BYTES
    ) as form:
        for name, value in form.multi_items():
            if isinstance(value, str):
                fields.setdefault(name, []).append(value)
            elif name == "image":
                files.append(await value.read())
            else:
                raise problems.Problem(
                    422, "wrong_field", "the field of an image must have the name image"
                )
    if not files:
        raise problems.Problem(422, "no_image", "the form has no file with the name image")
    return Body(None, files, fields)
