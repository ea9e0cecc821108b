"""Errors as problem details (RFC 9457): one JSON object for every status from 400 on."""

import http
import json

from starlette.responses import Response

PROBLEM = "application/problem+json"


class Problem(Exception):
    """An error that becomes the answer to a request.

    Args:
        status: int, the HTTP status.
        code: str, a name for programs that does not change.
        detail: str, one sentence for people.
        headers: dict of further headers.
        errors: list of dicts, if several things are wrong.
    """

    def __init__(self, status, code, detail, headers=None, errors=None):
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.errors = headers or {}, errors

    def response(self):
        """Returns the response that tells the client about the problem."""
        content = {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors is not None:
            content["errors"] = self.errors
        return answer(content, self.status, self.headers, PROBLEM)


def busy(code, detail, seconds=1):
    """Returns the problem of a service that has too much to do at the moment."""
    return Problem(503, code, detail, {"Retry-After": str(seconds)})


def late():
    """Returns the problem of a request that could not be answered in time."""
    return Problem(504, "deadline", "the answer was not ready within the deadline; try again")


def answer(content, status=200, headers=None, media_type="application/json"):
    """Returns a response with JSON in ASCII, because keys may hold bytes that are not UTF-8."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, headers, media_type)
