"""The routes that search, and the facts about the index."""

import time
import typing

import numpy as np
import pydantic
from fastapi import APIRouter, Request
from fastapi import Query as InQuery
from fastapi.exceptions import RequestValidationError

from dah_tf import __version__
from dah_tf.errors import UserError
from dah_tf.web import access, examples, problems, schemas, service
from dah_tf.web.settings import MAX_K

SHOWN_LABELS = 1000

router = APIRouter(prefix="/v1")

BINARY = {"schema": {"type": "string", "format": "binary"}}
SEARCH_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    {"$ref": "#/components/schemas/ById"},
                    {"$ref": "#/components/schemas/ByCode"},
                ]
            },
            "examples": examples.SEARCH,
        },
        "image/*": BINARY,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": BINARY["schema"],
                    **{
                        name: {"$ref": f"#/components/schemas/ById/properties/{name}"}
                        for name in schemas.Options.model_fields
                    },
                },
                "additionalProperties": False,
            },
            "encoding": {"image": {"contentType": "image/*"}},
        },
    },
}


def parsed(model, body):
    """Returns the pydantic model of a JSON document or of a dict.

    Raises:
        RequestValidationError: it has a wrong value.
    """
    try:
        if isinstance(body, bytes):
            return model.validate_json(body)
        return model.validate_python(body)
    except pydantic.ValidationError as error:
        # The values are left out, because they may be long and are the client's own.
        raise RequestValidationError(error.errors(include_url=False, include_input=False)) from None


BY_ID_OR_CODE = pydantic.TypeAdapter(schemas.ById | schemas.ByCode)
OPTIONS = pydantic.TypeAdapter(schemas.Options)


@router.post(
    "/search",
    summary="Find the nearest items",
    operation_id="search",
    dependencies=[access.Room],
    responses=schemas.ok(schemas.Answer, "The nearest items.", examples.ANSWER)
    | schemas.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503, 504),
    openapi_extra={"requestBody": SEARCH_BODY},
)
async def search(
    request: Request,
    _: access.Searcher,
    options: typing.Annotated[schemas.Options, InQuery()],
):
    """Searches by an image, by the id of an item, or by a code.

    An image is the body itself, or the file `image` of a form. The options stand in the query
    string, and can also stand in the form or in the JSON document.
    """
    shared, start, times, span = request.app.state.service, time.monotonic(), {}, None
    end = start + shared.settings.deadline
    async with shared.bodies.read(request, 1) as body:
        start = time.monotonic()
        end = start + shared.settings.deadline
        fingerprint = None
        if body.json is not None:
            given = parsed(BY_ID_OR_CODE, body.json)
            options = options.model_copy(update=given.model_dump(exclude_unset=True))
            if isinstance(given, schemas.ById):
                query = {"type": "id", "id": given.id}
            else:
                code = shared.code(given.code, shared.catalog.current.bits)
                query = {"type": "code", "code": code}
        else:
            options = _with_fields(options, body.fields)
            if options.rerank and shared.encoder.span is None:
                raise problems.Problem(
                    422, "no_values", "the model of this service has no hash values for rerank"
                )
            encoded = await shared.pipeline.encode(body.images, end)
            times = encoded._asdict()
            span, fingerprint = shared.encoder.span, shared.encoder.fingerprint
            (output,) = encoded.outputs
            values = None if output.values is None else output.values[None]
            query = {"type": "image", "code": np.asarray(output.code)[None], "values": values}
    try:
        answer, seconds = await shared.catalog.read(
            service.find, query, options, fingerprint, span, times, start
        )
    except UserError as error:
        raise service.refused(error) from None
    shared.metrics.stage("search", seconds)
    return problems.answer(answer)


def _with_fields(options, fields):
    """Returns options with the fields of a form, which come before those of the query string."""
    known = {name: values[-1] for name, values in fields.items()}
    wrong = known.keys() - schemas.Options.model_fields
    if wrong:
        raise problems.Problem(422, "wrong_field", f"there is no field {min(wrong)[:80]!r}")
    given = parsed(OPTIONS, known)
    return options.model_copy(update=given.model_dump(exclude_unset=True))


@router.get(
    "/index",
    summary="Facts about the index and the service",
    operation_id="index",
    responses=schemas.ok(schemas.Facts, "The facts.", examples.FACTS)
    | schemas.problems(401, 421, 503),
)
async def index(request: Request, _: access.Reader, credentials: access.Credentials):
    """Says what the index contains, what the service allows, and which labels there are."""
    shared = request.app.state.service
    settings, store = shared.settings, shared.catalog.current
    labels = await shared.catalog.labels()
    facts = await shared.catalog.read(lambda newest: newest.stats())
    return problems.answer(
        {
            "version": __version__,
            **{name: facts.get(name) for name in STATS},
            "labels": labels
            if labels is None
            else [
                {"label": label, "items": count}
                for label, count in sorted(labels.items(), key=lambda each: -each[1])[:SHOWN_LABELS]
            ],
            "label_count": None if labels is None else len(labels),
            "model": {
                "fingerprint": shared.encoder.fingerprint,
                "classes": list(shared.encoder.classes),
                "image_size": shared.encoder.image_size,
                "fits": service.encoders.check(shared.encoder, store) is None,
            },
            "limits": {
                "k": MAX_K,
                "items": settings.max_items,
                "body_bytes": settings.max_body_bytes,
                "pixels": settings.max_pixels,
            },
            "features": {
                "rerank": shared.encoder.span is not None,
                "write": access.may_write(shared, credentials),
                "write_with_key": shared.keys is not None,
                "store": shared.uploads is not None,
                "images": shared.has_images,
            },
        }
    )


STATS = (
    "items",
    "bits",
    "backend",
    "recall",
    "recall_reached",
    "fingerprint",
    "changes",
    "megabytes",
    "distinct_codes",
    "removed",
)
