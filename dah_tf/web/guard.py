"""What holds for every request: its host, the size of its body, and the headers of its answer."""

import ipaddress
import logging
import re
import socket

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from dah_tf.web.problems import Problem

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=()",
}
"""The headers of every answer. A page may not load, or be shown in, anything of another host."""

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")

LOG = logging.getLogger("dah_tf.web")


def host_names(settings):
    """Returns the names by which clients may call the service: a set of str."""
    names = {settings.host, *settings.hosts}
    if settings.is_loopback:
        names |= {"localhost", "127.0.0.1", "::1"}
    else:
        names |= {socket.gethostname(), socket.getfqdn()}
    return {f"[{name}]" if ":" in name else name for name in map(str.lower, names)}


class Guard:
    """Checks requests before they reach a route, and completes their answers.

    A web page can make a browser call this service under a name of its own, which it resolves to
    this machine (DNS rebinding). The check of the Host header prevents that.

    Args:
        app: ASGI application.
        settings: `Settings`.
        metrics: `Metrics`.
    """

    def __init__(self, app, settings, metrics):
        self._app, self._metrics = app, metrics
        self._hosts, self._max_body = host_names(settings), settings.max_body_bytes
        # An address cannot be resolved to something else, unlike a name.
        self._any_address = not settings.is_loopback

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def completed(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            problem = self._refused(Headers(scope=scope))
            if problem:
                self._metrics.rejected(problem.code)
                await problem.response()(scope, receive, completed)
            else:
                await self._app(scope, receive, completed)
        except ClientDisconnect:
            status = status or 499  # nobody reads an answer
        except Exception:
            LOG.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            problem = Problem(500, "internal", "the service has a fault; its log says more")
            await problem.response()(scope, receive, completed)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.request(route, method, status)

    def _refused(self, headers):
        """Returns the problem of a request that no route may see, or None."""
        hosts = headers.getlist("host")
        found = HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if not found:
            return Problem(400, "host", "the request must have one Host header")
        if not self._is_allowed(found[1].lower()):
            return Problem(
                421, "host", "this host name is not served; the service names others by --hosts"
            )
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self._max_body:
            return too_large(self._max_body)
        return None

    def _is_allowed(self, host):
        if host in self._hosts:
            return True
        try:
            return self._any_address and bool(ipaddress.ip_address(host.strip("[]")))
        except ValueError:
            return False


METHODS = {"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"}


def too_large(limit):
    """Returns the problem of a body that is too large."""
    return Problem(413, "too_large", f"the body may have at most {limit:,} bytes")
