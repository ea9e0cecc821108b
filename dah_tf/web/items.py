"""The routes of items: their facts and images, adding and removing them."""

import time
import typing

import numpy as np
import pydantic
from fastapi import APIRouter, Path, Request, Response
from fastapi import Query as InQuery

from dah_tf.errors import UserError
from dah_tf.web import access, examples, problems, schemas, service
from dah_tf.web.pictures import NoPicture
from dah_tf.web.searching import BINARY, parsed

IMAGE_SIDE = 2048
SIDES = (32, 512)  # the smallest and the largest side of a thumbnail

router = APIRouter(prefix="/v1/items")

Number = typing.Annotated[
    int, Path(alias="id", ge=0, le=2**63 - 1, description="The id of the item.")
]
NEW_ITEMS = pydantic.TypeAdapter(schemas.NewItems)
PICTURE = {
    200: {
        "description": "The image.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/jpeg", "image/png")
        },
    },
    304: {"description": "The image has not changed."},
}
NEW_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/NewItems"},
            "example": examples.NEW,
        },
        "image/*": BINARY,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": {"type": "array", "items": BINARY["schema"], "minItems": 1},
                    "key": {"type": "array", "items": {"type": "string", "maxLength": 1024}},
                    "label": {"type": "array", "items": {"type": "string", "maxLength": 256}},
                },
                "additionalProperties": False,
            },
            "encoding": {"image": {"contentType": "image/*"}},
        },
    },
}


@router.get(
    "/{id}",
    summary="Facts about an item",
    operation_id="item",
    responses=schemas.ok(schemas.Item, "The item.", examples.ITEM)
    | schemas.problems(401, 404, 422),
)
async def item(request: Request, _: access.Reader, number: Number):
    """Returns the key, the label and the code of an item."""
    shared = request.app.state.service
    try:
        return problems.answer(await shared.catalog.read(service.item, number))
    except UserError as error:
        raise service.refused(error) from None


@router.get(
    "/{id}/image",
    summary="The image of an item",
    operation_id="image",
    response_class=Response,
    responses=PICTURE | schemas.problems(401, 404, 422, 503, 504),
)
async def image(request: Request, _: access.Reader, number: Number):
    """Returns the image, at most 2,048 pixels wide or high, without its metadata."""
    return await _picture(request, number, IMAGE_SIDE, False)


@router.get(
    "/{id}/thumbnail",
    summary="A small image of an item",
    operation_id="thumbnail",
    response_class=Response,
    responses=PICTURE | schemas.problems(401, 404, 422, 503, 504),
)
async def thumbnail(
    request: Request,
    _: access.Reader,
    number: Number,
    side: typing.Annotated[
        int, InQuery(ge=SIDES[0], le=SIDES[1], description="The longest side in pixels.")
    ] = 192,
):
    """Returns a small image without metadata. Tiny images are enlarged by a whole factor."""
    return await _picture(request, number, side, True)


async def _picture(request, number, side, enlarge):
    shared, start = request.app.state.service, time.monotonic()
    known = request.headers.get("if-none-match")

    def version(store):
        key = service.item(store, number)["key"]
        return key, f'"{shared.pictures.version(key)}-{side}"'

    try:
        key, tag = await shared.catalog.read(version)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if known == tag:
            return Response(status_code=304, headers=headers)
        end = start + shared.settings.deadline
        picture = await shared.thumbnails.run(shared.pictures.show, key, side, enlarge, end)
    except UserError as error:
        raise service.refused(error) from None
    except NoPicture as error:
        raise problems.Problem(404, "no_image", str(error)) from None
    shared.metrics.stage("thumbnails", time.monotonic() - start)
    return Response(picture.data, 200, headers, picture.media_type)


@router.post(
    "",
    summary="Add items",
    operation_id="add",
    status_code=201,
    dependencies=[access.Room],
    responses=schemas.ok(schemas.Added, "The items are on the disk.", examples.ADDED, 201)
    | schemas.problems(400, 401, 403, 408, 409, 413, 415, 422, 429, 503, 504, 507),
    openapi_extra={"requestBody": NEW_BODY},
)
async def add(
    request: Request,
    caller: access.Writer,
    key: typing.Annotated[
        schemas.KeyText | None, InQuery(description="The key of an image that is the body.")
    ] = None,
    label: typing.Annotated[
        schemas.Label | None, InQuery(description="The label of all images without an own one.")
    ] = None,
    store: typing.Annotated[
        bool, InQuery(description="Whether to keep the images; their keys are then given.")
    ] = False,
):
    """Adds images, or items whose codes are known. If one of them is refused, none is added.

    A form has the files `image`, and for each of them at most one field `key` and one `label`, in
    the same order. An answer means that the items are on the disk.
    """
    shared = request.app.state.service
    fields = {"key": [] if key is None else [key], "label": [] if label is None else [label]}
    async with shared.bodies.read(request, shared.settings.max_items) as body:
        end = time.monotonic() + shared.settings.deadline
        if body.json is not None:
            new = parsed(NEW_ITEMS, body.json).items
            bits = shared.catalog.current.bits
            codes = np.concatenate([shared.code(each.code, bits) for each in new])
            keys, labels = [each.key for each in new], [each.label for each in new]
            fingerprint, contents = None, None
        else:
            wrong = body.fields.keys() - fields.keys()
            if wrong:
                raise problems.Problem(422, "wrong_field", f"there is no field {min(wrong)[:80]!r}")
            fields |= body.fields
            count = len(body.images)
            keys = _spread("key", fields["key"], count, 1)
            labels = _spread("label", fields["label"], count, count)
            contents = body.images if store else None
            _check_storing(shared, store, keys)
            encoded = await shared.pipeline.encode(body.images, end)
            codes = np.stack([each.code for each in encoded.outputs])
            fingerprint = shared.encoder.fingerprint
        service.check_texts(keys, labels)
        start = time.monotonic()

        def change(index):
            return _added(shared, index, codes, keys, labels, fingerprint, contents)

        try:
            (ids, keys), after = await shared.catalog.change(change, end)
        except UserError as error:
            raise service.refused(error) from None
        except OSError as error:
            raise service.refused(_caused(error)) from None
    shared.metrics.stage("write", time.monotonic() - start)
    shared.audit(caller, f"add {len(ids)} items {_span(ids)}")
    return problems.answer(
        {
            "ids": ids,
            "keys": keys,
            "codes": [each.tobytes().hex() for each in codes],
            "items": len(after),
            "changes": after.stats()["changes"],
        },
        201,
    )


def _added(shared, index, codes, keys, labels, fingerprint, contents):
    """Adds items in the thread that writes, and stores their images before that."""
    names = shared.uploads.write(contents) if contents is not None else []
    keys = [shared.uploads.key(name) for name in names] or keys
    try:
        ids = index.add(codes, keys=keys, labels=labels, fingerprint=fingerprint)
    except BaseException:
        if names:
            shared.uploads.drop(names)
        raise
    if names:
        shared.uploads.settle(names)
    return ids.tolist(), keys


@router.delete(
    "/{id}",
    summary="Remove an item",
    operation_id="remove",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "The item is removed from the disk too."}}
    | schemas.problems(401, 403, 404, 422, 429, 503, 504, 507),
)
async def remove(request: Request, caller: access.Writer, number: Number):
    """Removes an item, and its image if the service stores it."""
    shared = request.app.state.service
    start = time.monotonic()

    def change(index):
        (key,), _ = index.describe([number])
        name = shared.uploads.name(key) if shared.uploads and key else None
        if name:
            shared.uploads.mark([name])
        try:
            index.remove(np.array([number]))
        except BaseException:
            if name:
                shared.uploads.settle([name])
            raise
        if name:
            shared.uploads.drop([name])

    try:
        await shared.catalog.change(change, start + shared.settings.deadline)
    except UserError as error:
        raise service.refused(error) from None
    except OSError as error:
        raise service.refused(_caused(error)) from None
    shared.metrics.stage("write", time.monotonic() - start)
    shared.audit(caller, f"remove item {number}")
    return Response(status_code=204)


def _spread(name, values, count, repeats):
    """Returns a value for each of `count` images."""
    if len(values) == count:
        return values
    if not values:
        return [""] * count
    if len(values) == 1 and repeats == count:
        return values * count
    raise problems.Problem(
        422, f"wrong_{name}", f"{count} images need as many fields {name}, or none"
    )


def _check_storing(shared, store, keys):
    if store and shared.uploads is None:
        raise problems.Problem(
            422, "no_uploads", "this service stores no images; it was started without --uploads"
        )
    if store and any(keys):
        raise problems.Problem(
            422, "wrong_key", "a stored image gets its key from the service; leave out key"
        )


def _caused(error):
    """Returns a `UserError` that an error of the disk has caused."""
    made = UserError(error.strerror or str(error))
    made.__cause__ = error
    return made


def _span(ids):
    return str(ids[0]) if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
