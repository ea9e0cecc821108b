"""The OpenAPI document: its examples fit it, and requests drawn from it get what it promises."""

import functools
import json

import pytest
import web_services as web

from dah_tf.web import schemas

pytest.importorskip("fastapi", reason="the service needs FastAPI")

OPERATIONS = {
    "POST /v1/search",
    "GET /v1/index",
    "GET /v1/items/{id}",
    "GET /v1/items/{id}/image",
    "GET /v1/items/{id}/thumbnail",
    "POST /v1/items",
    "DELETE /v1/items/{id}",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("document")
    settings = {"api_key_file": web.key_file(folder), "rate": "none", "hosts": ("testserver",)}
    with web.client(folder, **settings) as client:
        yield client


def test_the_operations_and_who_may_call_them(client):
    document = client.get("/openapi.json").json()
    found = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert found.keys() == OPERATIONS
    for name, operation in found.items():
        assert bool(operation.get("security")) == (name not in ("GET /healthz", "GET /readyz"))
        assert operation["summary"] and operation["operationId"], name
    text = json.dumps(document)
    for reference in set(text.split('"$ref": "')[1:]):
        node = document
        for part in reference.partition('"')[0].removeprefix("#/").split("/"):
            node = node[part]


def test_the_examples_fit_the_models():
    from dah_tf.web import examples

    for model, example in (
        (schemas.Answer, examples.ANSWER),
        (schemas.Item, examples.ITEM),
        (schemas.Added, examples.ADDED),
        (schemas.Facts, examples.FACTS),
        (schemas.NewItems, examples.NEW),
        (schemas.ById, examples.SEARCH["by id"]["value"]),
        (schemas.ByCode, examples.SEARCH["by code"]["value"]),
    ):
        model.model_validate(example)


def test_answers_fit_the_models(client):
    headers = web.bearer(web.WRITE)
    found = web.post(client, web.png(web.picture(2)), rerank=5, headers=headers)
    schemas.Answer.model_validate_json(found.content, strict=True)
    by_id = client.post("/v1/search", json={"id": 2}, headers=headers)
    schemas.Answer.model_validate_json(by_id.content, strict=True)
    facts = client.get("/v1/index", headers=headers)
    schemas.Facts.model_validate_json(facts.content, strict=True)
    item = client.get("/v1/items/2", headers=headers)
    schemas.Item.model_validate_json(item.content, strict=True)
    added = web.post(client, web.png(web.picture(2)), "/v1/items", headers=headers)
    schemas.Added.model_validate_json(added.content, strict=True)
    schemas.Fault.model_validate_json(client.get("/v1/index").content, strict=True)


@pytest.mark.parametrize("bits", [8, 12, 20, 32, 36, 37, 48, 64, 255, 256])
def test_the_pattern_of_a_code_is_exact(bits):
    import re

    import numpy as np

    from dah_tf import codes as packed

    pattern = re.compile(schemas.code_pattern(bits))
    rng = np.random.default_rng(bits)
    for code in packed.pack(rng.integers(0, 2, (50, bits))):
        assert pattern.search(code.tobytes().hex())
    for code in rng.integers(0, 256, (50, -(-bits // 8)), np.uint8):
        try:
            packed.check(code[None], bits)
            fits = True
        except ValueError:
            fits = False
        assert bool(pattern.search(code.tobytes().hex())) == fits
    assert not pattern.search("00" * (-(-bits // 8) + 1))


class WithKey:
    """Tells schemathesis the key; it leaves it out, or sends others, where it tests the access."""

    def get(self, case, context):
        return web.WRITE

    def set(self, case, data, context):
        case.headers = {**(case.headers or {}), **web.bearer(data)}


async def without_end(app, scope, receive, send):
    """Calls an application, but does not start and end it with each client of schemathesis."""
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    for what in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{what}.complete"})


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_schemathesis_finds_nothing(client, name, mode):
    schemathesis = pytest.importorskip("schemathesis")
    import hypothesis
    from hypothesis import strategies

    numbers = strategies.integers(0, 50)
    schemathesis.openapi.media_type("image/*", numbers.map(lambda n: web.png(web.picture(n))))
    method, _, path = name.partition(" ")
    if mode == "negative" and path in ("/healthz", "/readyz"):
        pytest.skip("nothing can be wrong in a request without parameters")
    document = schemathesis.openapi.from_asgi(
        "/openapi.json", functools.partial(without_end, client.app)
    )
    document.auth()(WithKey)
    operation = document[path][method]

    @hypothesis.settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(schemathesis.GenerationMode(mode)))
    def call(case):
        response = case.call()
        # schemathesis sends the files of a list without names, by which they are no files, and
        # cannot know that there must be as many keys as images.
        form = case.media_type == "multipart/form-data" and path == "/v1/items"
        if not (form and response.status_code == 422):
            case.validate_response(response)
        assert response.status_code < 500

    call()
