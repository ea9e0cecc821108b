"""The requests and answers of the API, as they stand in its OpenAPI document."""

import typing

import pydantic

from dah_tf.web.settings import MAX_K

Hex = typing.Annotated[
    str,
    pydantic.Field(
        pattern="^[0-9a-f]+$",
        max_length=64,
        description="A packed code in hexadecimal, with bit 0 first.",
    ),
]
Id = typing.Annotated[int, pydantic.Field(ge=0, le=2**63 - 1, description="The id of an item.")]
Label = typing.Annotated[str, pydantic.Field(max_length=256)]
KeyText = typing.Annotated[str, pydantic.Field(max_length=1024)]


class Options(pydantic.BaseModel):
    """What a search returns."""

    k: int = pydantic.Field(10, ge=1, le=MAX_K, description="The number of neighbours.")
    max_distance: int | None = pydantic.Field(
        None, ge=0, le=256, description="Items that are farther away are left out."
    )
    label: Label | None = pydantic.Field(
        None, description="Only items with exactly this label are found."
    )
    key_prefix: KeyText | None = pydantic.Field(
        None, description="Only items whose key starts with this text are found."
    )
    rerank: int = pydantic.Field(
        0,
        ge=0,
        le=MAX_K,
        description="The number of nearest items that are sorted again by the float hash values "
        "of the query. A query by id or code has only bits, by which the order stays the same.",
    )


class ById(Options):
    """Searches with the code of an item."""

    model_config = pydantic.ConfigDict(extra="forbid", json_schema_extra={"title": "by id"})
    id: Id


class ByCode(Options):
    """Searches with a code."""

    model_config = pydantic.ConfigDict(extra="forbid", json_schema_extra={"title": "by code"})
    code: Hex


class Query(pydantic.BaseModel):
    """What was searched for. `id`, `key` and `label` are those of an item."""

    type: typing.Literal["image", "id", "code"]
    code: Hex
    id: int | None = None
    key: str | None = None
    label: str | None = None


class Neighbour(pydantic.BaseModel):
    """A found item. `score` is there if the items were sorted again."""

    rank: int
    id: int
    distance: int = pydantic.Field(description="The number of bits that differ.")
    key: str
    label: str
    code: Hex
    score: float | None = None


class Latency(pydantic.BaseModel):
    """The milliseconds of each stage. The first three are 0 without an image."""

    decode: float
    queue: float
    encode: float
    search: float
    total: float


class Answer(pydantic.BaseModel):
    """The answer to a search, nearest first."""

    query: Query
    neighbours: list[Neighbour]
    bits: int
    last_distance: int | None = pydantic.Field(description="The largest distance that is shown.")
    shown: int = pydantic.Field(description="How many of the neighbours are at this distance.")
    at_last_distance: int = pydantic.Field(
        description="How many items of the index are at this distance. If there are more than "
        "shown, it is not defined which of them are shown."
    )
    changes: int = pydantic.Field(description="The state of the index that was searched.")
    latency_ms: Latency


class Item(pydantic.BaseModel):
    """An item of the index."""

    id: int
    key: str
    label: str
    code: Hex
    bits: int


class NewItem(pydantic.BaseModel):
    """An item whose code is known."""

    model_config = pydantic.ConfigDict(extra="forbid")
    code: Hex
    key: KeyText = ""
    label: Label = ""


class NewItems(pydantic.BaseModel):
    """Items whose codes are known."""

    model_config = pydantic.ConfigDict(extra="forbid")
    items: list[NewItem] = pydantic.Field(min_length=1, max_length=10_000)


class Added(pydantic.BaseModel):
    """The items that were added. They are on the disk."""

    ids: list[int]
    keys: list[str]
    codes: list[Hex]
    items: int = pydantic.Field(description="The number of items of the index now.")
    changes: int


class LabelCount(pydantic.BaseModel):
    """A label, and how many items have it."""

    label: str
    items: int


class Model(pydantic.BaseModel):
    """The model that encodes the images of queries."""

    fingerprint: str | None
    classes: list[str]
    image_size: int | None
    fits: bool = pydantic.Field(description="Whether its codes can be compared with the index.")


class Limits(pydantic.BaseModel):
    """What one request may ask for."""

    k: int
    items: int
    body_bytes: int
    pixels: int


class Features(pydantic.BaseModel):
    """What this service can do."""

    rerank: bool
    write: bool = pydantic.Field(description="Whether the caller may add and remove items.")
    write_with_key: bool = pydantic.Field(description="Whether a key would allow it.")
    store: bool = pydantic.Field(description="Whether images of added items can be stored.")
    images: bool = pydantic.Field(description="Whether the folder of the images is known.")


class Facts(pydantic.BaseModel):
    """Facts about the index and the service."""

    version: str
    items: int
    bits: int
    backend: str
    recall: float | None
    recall_reached: float | None
    fingerprint: str | None
    changes: int
    megabytes: float | None
    distinct_codes: int | None
    removed: int | None
    labels: list[LabelCount] | None = pydantic.Field(
        description="The most frequent labels, at most 1,000; null if they are not known yet."
    )
    label_count: int | None
    model: Model
    limits: Limits
    features: Features


class Fault(pydantic.BaseModel):
    """A problem (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str = pydantic.Field(description="A name for programs.")
    errors: list[dict] | None = None


class State(pydantic.BaseModel):
    """The state of the service."""

    status: str


PROBLEMS = {
    400: "The request is malformed.",
    401: "The API key is missing or not known.",
    403: "This caller may not do this.",
    404: "There is no such thing.",
    408: "The body arrived too slowly.",
    409: "The model and the index do not fit.",
    413: "The body is too large.",
    415: "The type of the body is not accepted.",
    421: "The service does not have this host name.",
    422: "The request has a wrong value, or an image cannot be read.",
    429: "The caller has sent too many requests.",
    503: "The service has too much to do at the moment.",
    504: "The answer was not ready within the deadline.",
    507: "The disk is full.",
}


def form_fields(model):
    """Returns the JSON schemas of a model's fields in a form, which has no null."""
    fields = {}
    for name, schema in model.model_json_schema()["properties"].items():
        kinds = [each for each in schema.get("anyOf", [schema]) if each != {"type": "null"}]
        about = {key: schema[key] for key in ("title", "description") if key in schema}
        fields[name] = {**kinds[0], **about}
    return fields


def problems(*statuses):
    """Returns the part of `responses` of a route about its problems."""
    return {
        status: {
            "description": PROBLEMS[status],
            "content": {
                "application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/Fault"},
                }
            },
        }
        for status in statuses
    }


def ok(model, description, example, status=200):
    """Returns the part of `responses` of a route about its success."""
    content = {"application/json": {"example": example}}
    return {status: {"model": model, "description": description, "content": content}}


def code_pattern(bits):
    """Returns the regular expression of the packed codes of `bits` in hexadecimal."""
    whole, rest = divmod(bits, 4)
    digits = f"[0-9a-f]{{{whole}}}"
    if rest:
        digits += f"[{''.join(f'{n:x}' for n in range(0, 16, 1 << (4 - rest)))}]"
    return f"^{digits}{'0' * (2 * -(-bits // 8) - -(-bits // 4))}$"
