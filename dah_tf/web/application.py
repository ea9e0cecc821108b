"""Puts the routes, the guards and the parts of the service together as an ASGI application."""

import contextlib
import pathlib

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from dah_tf import __version__
from dah_tf.gallery import palette
from dah_tf.web import access, guard, items, problems, schemas, searching
from dah_tf.web.service import Service

PAGE = pathlib.Path(__file__).parent / "page"


def create_app(settings, encoder, say=print):
    """Makes the application.

    Args:
        settings: `Settings`.
        encoder: `encoders.Local` or `encoders.Remote`.
        say: function that gets a line of text for the log.

    Returns:
        `fastapi.FastAPI`. Its `state.service` is the `Service`, which closes at shutdown.

    Raises:
        UserError: a setting is wrong, or the model does not fit the index.
    """
    service = Service(settings, encoder, say)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        yield
        service.close()

    middleware = [Middleware(guard.Guard, settings=settings, metrics=service.metrics)]
    if settings.origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Authorization", "Content-Type"],
            )
        )
    middleware.append(Middleware(RequestBodyLimitMiddleware, max_body_size=settings.max_body_bytes))
    app = FastAPI(
        title="dah_tf search",
        version=__version__,
        summary="Finds the nearest images by short binary codes.",
        root_path=settings.root_path,
        docs_url=None,  # Its page would load scripts from another host.
        redoc_url=None,
        lifespan=lifespan,
        middleware=middleware,
        telemetry={"tracing": False, "auto_configure": False},
        responses={},
    )
    app.state.service = service
    _add_errors(app, service)
    app.include_router(searching.router, tags=["search"])
    app.include_router(items.router, tags=["items"])
    _add_states(app, service)
    _add_page(app)
    app.openapi = lambda: _document(app, service)
    return app


class _Page(StaticFiles):
    """The files of the page. A browser asks each time whether they have changed."""

    async def get_response(self, path, scope):
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _add_page(app):
    """Serves `page/index.html` at `/`, and the folder `page` at `/page`.

    A mount at `/` would answer wrong methods of the API with 404.
    """

    @app.get("/", include_in_schema=False)
    async def page():
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/page/palette.css", include_in_schema=False)
    async def colours():
        # They are those of all pages of the package.
        return Response(palette.css(), media_type="text/css")

    app.mount("/page", _Page(directory=PAGE), name="page")


def _add_states(app, service):
    example = {"status": "ok"}

    @app.get(
        "/healthz",
        tags=["state"],
        summary="Whether the service runs",
        operation_id="healthz",
        responses=schemas.ok(schemas.State, "It runs.", example),
    )
    async def healthz():
        return problems.answer(example)

    @app.get(
        "/readyz",
        tags=["state"],
        summary="Whether the service can answer",
        operation_id="readyz",
        responses=schemas.ok(schemas.State, "It can.", example) | schemas.problems(503),
    )
    async def readyz():
        if service.not_ready():
            # Everybody may ask, so that the reason stands only in the log and in /v1/index.
            raise problems.Problem(503, "not_ready", "the index and the model do not fit")
        return problems.answer(example)

    @app.get(
        "/metrics",
        tags=["state"],
        summary="Measurements for Prometheus",
        operation_id="metrics",
        response_class=Response,
        responses={200: {"description": "The measurements.", "content": {"text/plain": {}}}}
        | schemas.problems(401),
    )
    async def metrics(_: access.Reader):
        text, kind = service.metrics.text()
        return Response(text, media_type=kind)


def _add_errors(app, service):
    def told(problem):
        service.metrics.rejected(problem.code)
        return problem.response()

    @app.exception_handler(problems.Problem)
    async def on_problem(_: Request, error: problems.Problem):
        return told(error)

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException):
        if error.status_code == 413:
            return told(guard.too_large(service.settings.max_body_bytes))
        known = {404: "not_found", 405: "method", 400: "malformed"}
        code = known.get(error.status_code, "refused")
        problem = problems.Problem(error.status_code, code, str(error.detail), error.headers)
        return told(problem)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError):
        wrong = [
            {"where": ".".join(map(str, each["loc"])), "detail": each["msg"]}
            for each in error.errors()
        ]
        first = f"{wrong[0]['where']}: {wrong[0]['detail']}" if wrong else "a wrong value"
        return told(problems.Problem(422, "wrong_value", first, errors=wrong))


def _document(app, service):
    """Returns the OpenAPI document, with the length of the codes of this index."""
    bits = service.catalog.current.bits
    known = getattr(app.state, "document", None)
    if known and known[0] == bits:
        return known[1]
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        servers=[{"url": service.settings.root_path}] if service.settings.root_path else None,
    )
    parts = document["components"]["schemas"]
    models = [schemas.ById, schemas.ByCode, schemas.NewItems, schemas.Fault]
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        parts |= schema.pop("$defs", {})
        parts[model.__name__] = schema
    for name in ("ByCode", "NewItem"):
        parts[name]["properties"]["code"]["pattern"] = schemas.code_pattern(bits)
    if service.keys is None:
        document["components"].pop("securitySchemes")
    for path in document["paths"].values():
        for operation in path.values():
            if service.keys is None:
                operation.pop("security", None)
            # FastAPI adds a schema of its own for wrong values, which is not the one that is sent.
            shown = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in shown:
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        parts.pop(name, None)
    app.state.document = bits, document
    return document
