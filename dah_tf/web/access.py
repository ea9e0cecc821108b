"""Who may do what: dependencies of routes. No path of a request decides about it.

`starlette.requests.URL` builds addresses from the Host header, so that nothing here reads them.
"""

import math
import re
import time
import typing

import limits
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from dah_tf.errors import UserError
from dah_tf.web.problems import Problem

BEARER = HTTPBearer(
    auto_error=False, scheme_name="key", description="An API key of the service's api_key_file."
)
Credentials = typing.Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


class Caller(typing.NamedTuple):
    """Who sent a request.

    Attributes:
        name: the name of the key for the log, or "anonymous".
        identity: what the rate is counted for: the key, or else the address of the client.
        address: the address of the client.
    """

    name: str
    identity: str
    address: str


class Rates:
    """Limits the requests of each caller.

    Args:
        text: str, such as `100/second` or `1000/minute`, or "none".

    Raises:
        UserError: the text is not a rate.
    """

    def __init__(self, text):
        self._rate = None
        if text != "none":
            try:
                self._rate = limits.parse(text)
            except ValueError:
                raise UserError(f"rate={text} must be like 100/second, or none") from None
            self._window = limits.strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())

    def check(self, identity):
        """Counts a request.

        Raises:
            Problem: 429 if the caller has sent too many.
        """
        if self._rate is None or self._window.hit(self._rate, identity):
            return
        reset = self._window.get_window_stats(self._rate, identity).reset_time
        seconds = max(1, math.ceil(reset - time.time()))
        raise Problem(429, "rate", f"only {self._rate} are allowed", {"Retry-After": str(seconds)})


def _caller(request, credentials, role):
    service = request.app.state.service
    address = request.client.host if request.client else "unknown"
    if service.keys is None:
        if role == "write" and not service.settings.open:
            raise Problem(
                403,
                "no_key_file",
                "adding and removing items needs a key, and the service was started without "
                "--api_key_file",
            )
        return Caller("anonymous", address, address)
    if credentials is None and role == "read" and service.settings.public_search:
        return Caller("anonymous", address, address)
    key = service.keys.find(credentials.credentials) if credentials else None
    if key is None:
        what = "is not known" if credentials else "is missing"
        raise Problem(
            401, "key", f"the API key {what}", {"WWW-Authenticate": 'Bearer realm="dah_tf"'}
        )
    if role == "write" and key.role != "write":
        raise Problem(403, "role", "this key may only read")
    return Caller(key.name, key.digest.hex(), address)


async def reading(request: Request, credentials: Credentials) -> Caller:
    """Lets callers pass who may read."""
    return _caller(request, credentials, "read")


async def same_origin(request: Request) -> None:
    """Refuses what a page of another host makes a browser send."""
    settings = request.app.state.service.settings
    origin = request.headers.get("origin")
    if origin is None:
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Problem(403, "origin", "another website sent this request")
        return
    host = re.sub(r"^https?://", "", origin).lower()
    named = host != origin.lower() and host == request.headers.get("host", "").lower()
    if not named and origin not in settings.origins:
        raise Problem(403, "origin", "the page that sent this request is not one of --origins")


async def writing(
    request: Request, credentials: Credentials, _: typing.Annotated[None, Depends(same_origin)]
) -> Caller:
    """Lets callers pass who may add and remove items, within their rate."""
    caller = _caller(request, credentials, "write")
    request.app.state.service.rates.check(caller.identity)
    return caller


async def asking(
    request: Request,
    caller: typing.Annotated[Caller, Depends(reading)],
    _: typing.Annotated[None, Depends(same_origin)],
) -> Caller:
    """Lets callers pass who may search, within their rate."""
    request.app.state.service.rates.check(caller.identity)
    return caller


async def room(request: Request) -> None:
    """Refuses a request before its body is read if the queue of the encoder is full."""
    request.app.state.service.pipeline.check()


Reader = typing.Annotated[Caller, Depends(reading)]
Writer = typing.Annotated[Caller, Depends(writing)]
Searcher = typing.Annotated[Caller, Depends(asking)]
Room = Depends(room)


def may_write(service, credentials):
    """Says whether a caller with these credentials may add and remove items."""
    if service.keys is None:
        return service.settings.open
    key = service.keys.find(credentials.credentials) if credentials else None
    return key is not None and key.role == "write"
