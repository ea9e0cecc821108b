"""Runs the service: the encoder, the index, a socket, and an orderly end."""

import importlib.util
import logging
import signal
import socket
import sys

from dah_tf.errors import UserError

ENDING = (signal.SIGTERM, signal.SIGINT)
PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "limits")


def serve(settings, say=None):
    """Serves until SIGTERM or SIGINT, then finishes the requests that run.

    With `settings.images`, it encodes the images that are not known yet, and adds them to the
    index, before it serves. The first line on stdout that starts with `http` is the address.

    Args:
        settings: `Settings`.
        say: function that gets a line of text for the user. None prints it.

    Raises:
        UserError: a setting is wrong, a package, the model or the index is missing, the model does
            not fit the index, or the address is in use.
    """
    say = say or _say
    missing = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"{missing[0]} is missing: run python -m pip install 'dah_tf[app]'")
    from dah_tf.web import encoders
    from dah_tf.web.application import create_app

    # The socket comes first, because encoding a folder only to find the port in use is no fun.
    listening = _listen(settings)
    if settings.images:
        from dah_tf.web import folder

        folder.bring_in(settings, say)
    app = create_app(settings, encoders.load(settings, say), say)
    app.state.service.warm_up()
    _run(app, settings, listening, say)


def _run(app, settings, listening, say):
    import uvicorn

    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        root_path=settings.root_path,
        proxy_headers=settings.proxy,
        timeout_graceful_shutdown=int(settings.deadline + settings.body_seconds) + 1,
        ws="none",
    )
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            say(f"http://{shown}:{port}{settings.root_path}")

    # When it has ended in order, uvicorn sends the signal again to the handlers from before.
    before = {each: signal.signal(each, lambda *_: None) for each in ENDING}
    try:
        with listening:
            Server(config).run([listening])
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _listen(settings):
    """Returns a socket at the address of the settings."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise UserError(
            f"cannot listen on host={settings.host} port={settings.port}: {error.strerror}; "
            "port=0 takes a free port"
        ) from None
    return listening


def _say(line):
    print(line, flush=True)
