"""The OpenAPI document: as FastAPI makes it, with what every path may answer besides what its own code does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from ..settings import Settings
from .needs import need_of
from .problems import MEDIA_TYPE, WORDS, Problem

Schema = dict[str, Any]

OF_PROBLEMS = "#/components/schemas/Problem"
# Each is a response of its own among the components, with the headers that it has beside X-Request-ID.
ALWAYS = (400, 403, 405, 500, 503)
WITH_A_TOKEN = (401, 429)
WITH_A_BODY = (408, 413, 415, 422)
SECONDS = {"type": "integer", "minimum": 1}
REQUEST_ID: Schema = {
    "description": "The request's own, or made here; it is in the service's log and in the audit log.",
    "schema": {"type": "string", "pattern": r"^[A-Za-z0-9._-]{1,64}$"},
}
HEADERS: dict[int, Schema] = {
    401: {
        "WWW-Authenticate": {
            "description": "Which token.",
            "required": True,
            "schema": {"type": "string", "pattern": "^Bearer "},
        }
    },
    405: {"Allow": {"description": "All methods of the path.", "required": True, "schema": {"type": "string"}}},
    412: {"ETag": {"description": "Of the article as it is now.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds.", "required": True, "schema": SECONDS}},
    503: {"Retry-After": {"description": "Seconds.", "required": True, "schema": SECONDS}},
}


def describe(app: FastAPI, settings: Settings) -> None:
    """The application's document, made when it is first asked for."""
    made = app.openapi

    def openapi() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = completed(made(), settings)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def completed(document: Schema, settings: Settings) -> Schema:
    components = document["components"]
    shape = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= shape.pop("$defs", {}) | {"Problem": shape}
    components["schemas"]["Batch"]["properties"]["articles"]["maxItems"] = settings.article_batch_max
    components["responses"] = {str(status): problem(status) for status in WORDS}
    say_needs(document)
    for operation in operations(document):
        answers = operation["responses"]
        for status in possible(operation):
            answers.setdefault(str(status), {})
        operation["responses"] = {status: told(status, answers[status]) for status in sorted(answers)}
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    return document


def say_needs(document: Schema) -> None:
    """With each path's token, the scope that it must have (OpenAPI 3.1, security requirement)."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            need = need_of(method.upper(), path)
            if need is not None:
                operation["security"] = [{scheme: [need.scope.value] for scheme in one} for one in operation["security"]]


def operations(document: Schema) -> Iterator[Schema]:
    for methods in document["paths"].values():
        yield from methods.values()


def possible(operation: Schema) -> Iterator[int]:
    yield from ALWAYS
    yield from WITH_A_TOKEN if operation.get("security") else ()
    yield from WITH_A_BODY if "requestBody" in operation else ()


def problem(status: int) -> Schema:
    content = {MEDIA_TYPE: {"schema": {"$ref": OF_PROBLEMS}}}
    return {"description": WORDS[status], "headers": HEADERS.get(status, {}) | {"X-Request-ID": REQUEST_ID}, "content": content}


def told(status: str, response: Schema) -> Schema:
    """A problem is the component's; what is answered otherwise has its own words, and the request's id."""
    own = {kind: shape for kind, shape in response.get("content", {}).items() if "HTTPValidationError" not in str(shape)}
    if int(status) in WORDS and not own:
        return {"$ref": f"#/components/responses/{status}"}
    if int(status) in WORDS:
        response = problem(int(status)) | {
            "description": response["description"],
            "content": own | problem(int(status))["content"],
        }
    return response | {"headers": response.get("headers", {}) | {"X-Request-ID": REQUEST_ID}}
