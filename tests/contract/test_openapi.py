"""The service keeps what its own OpenAPI document promises, also when the requests are made up by a machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from embedq.decide.access import Scope
from embedq.local.servers import Servers
from embedq.store import Store
from embedq.store.database import Database
from tests.acceptance.service import ADMIN, ATTACHED, AUTH, SOURCE, Served, hashing_at, serving
from tests.conftest import fresh_database
from tests.contract.openapi import Tried, filled, tried

EXAMPLES = int(os.environ.get("HTTP_EXAMPLES", "2"))
PROMISED = {
    "/health": {"get"},
    "/api/articles": {"get", "post"},
    "/api/articles/{article_id}": {"get", "put", "delete"},
    "/api/articles/batch": {"post"},
    "/api/articles/{article_id}/versions": {"get"},
    "/api/articles/{article_id}/similar": {"get"},
    "/api/search": {"post"},
    "/admin/embedding/status": {"get"},
    "/admin/embedding/requeue": {"post"},
    "/admin/queue/health": {"get"},
    "/admin/queue/stats": {"get"},
    "/admin/queue/shutdown-workers": {"post"},
    "/admin/mode": {"post"},
    "/admin/maintenance/emergency-mode": {"post"},
    "/admin/maintenance/disable-emergency-mode": {"post"},
    "/admin/maintenance/schedule": {"post"},
    "/admin/maintenance/pause-task-submission": {"post"},
    "/admin/maintenance/resume-task-submission": {"post"},
    "/metrics": {"get"},
}


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    with fresh_database(servers, template) as url:
        yield url


@pytest.fixture(scope="module")
def served(servers: Servers, database_url: str) -> Iterator[Served]:
    with serving(hashing_at(database_url, servers.redis_url)) as running:
        filled(running)
        yield running


@pytest.fixture(scope="module")
def live(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def document(served: Served) -> dict[str, Any]:
    found: dict[str, Any] = served.stranger.get("/openapi.json").json()
    return found


SCOPES = ("read", "write", "admin", "write, of a tenant")


@pytest.fixture(scope="module")
def found(served: Served, database_url: str) -> Tried:
    store = Store(Database(database_url))
    tokens = {
        scope: store.tokens.create(scope, Scope(scope.split(",")[0]), "a test", tenant="acme" if "tenant" in scope else None)[0]
        for scope in SCOPES
    }
    store.close()
    return tried(served, database_url, EXAMPLES, tokens=tokens)


@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing_that_is_not_named_with_a_reason(found: Tried) -> None:
    """All of its checks and phases, with few examples: `python -m tests.contract.openapi --cases 10000` has more."""
    assert found.complete
    assert found.failures == [], found.output


def test_schemathesis_had_the_service_call_no_address_but_loopback(found: Tried, served: Served) -> None:
    called = [line for line in served.process.output().splitlines() if "the webhook was not told" in line]

    assert found.complete
    assert [line for line in called if "127.0.0.1:9" not in line] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scope", SCOPES)
def test_schemathesis_finds_nothing_with_a_token_of_any_scope(scope: str, found: Tried, document: dict[str, Any]) -> None:
    assert found.complete
    assert found.refuted[scope] == []
    closed = {name for name, operation in operations(document) if operation.get("security")}
    assert {label.lower() for label in found.sent[scope]} == {name.lower() for name in closed}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_the_document_has_every_promised_path(document: dict[str, Any]) -> None:
    documented = {path: set(methods) for path, methods in document["paths"].items()}

    assert {path: methods & documented.get(path, set()) for path, methods in PROMISED.items()} == PROMISED


def test_every_operation_says_what_it_does_who_may_and_how_it_fails(document: dict[str, Any]) -> None:
    lacking = [
        name
        for name, operation in operations(document)
        if not operation.get("summary")
        or (not operation.get("security") and not name.startswith("get /health"))
        or not ("503" in operation["responses"] or "401" in operation["responses"] or name == "get /health")
    ]

    assert lacking == []


def body_of(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of a body; None when the operation takes none."""
    if "requestBody" not in operation:
        return None
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    name = (schema if "$ref" in schema else next(one for one in schema["anyOf"] if "$ref" in one))["$ref"].rsplit("/", 1)[1]
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


def test_every_body_has_an_example_and_so_have_what_is_read_and_found(document: dict[str, Any]) -> None:
    bodies = {name: body_of(document, operation) for name, operation in operations(document)}
    schemas = document["components"]["schemas"]

    assert [name for name, body in bodies.items() if body and not body.get("examples")] == []
    assert [name for name in ("Problem", "ArticleOut", "Results") if not schemas[name].get("examples")] == []


# An article that is read, edited and deleted is there, with a vector; whatever the operation before has switched off is on again.
AS_USUAL = """
    UPDATE embedding_worker_status SET mode = 'celery', is_running = true, submissions_accepted = true, maintenance = NULL;
    DELETE FROM articles; INSERT INTO articles (id, title, slug) VALUES ('t', 'Tea', 'green-tea');
    INSERT INTO embedding_vectors (model_id, article_id, chunk, tenant_id, chunk_hash, starts_at, ends_at, embedding)
    SELECT model_id, 't', 0, 'default', sha256('Tea'), 0, 3, array_fill(1::real, ARRAY[64])::vector FROM embedding_active_model
"""


def test_every_operation_is_closed_without_its_token_and_takes_its_own_example_with_it(
    document: dict[str, Any], served: Served, live: psycopg.Connection[Any]
) -> None:
    other, wrong = {AUTH: ADMIN, ADMIN: AUTH}, []
    for name, operation in operations(document):
        method, path = name.split(" ")
        path = path.replace("{article_id}", "t").replace("{name}", SOURCE)
        examples = (body_of(document, operation) or {"examples": [None]})["examples"]
        (scheme,) = [key for one in operation.get("security", [{"none": []}]) for key in one]
        token = {"AUTH_TOKEN": AUTH, "ADMIN_TOKEN": ADMIN, "none": ""}[scheme]
        tokens = (
            {"no token": "", "the other's": other[token], "a strange one": "guess", "its own": token} if token else {"none": ""}
        )
        for whose, sent in tokens.items():
            for example in examples:
                live.execute(AS_USUAL + ATTACHED)
                headers = {"Authorization": f"Bearer {sent}"} if sent else {}
                answer = served.stranger.request(method, path, json=example, headers=headers)
                good = answer.is_success if sent == token else answer.status_code == 401
                if not good or str(answer.status_code) not in operation["responses"]:
                    wrong.append(f"{name} with {whose}: {answer.status_code} {answer.text[:200]}")
                if answer.status_code == 401 and not answer.headers.get("www-authenticate", "").startswith("Bearer"):
                    wrong.append(f"{name} with {whose}: the 401 does not say how")

    assert wrong == []


ALWAYS = {"400", "403", "405", "500", "503"}
WITH_A_BODY = {"408", "413", "415", "422"}


def test_every_answer_is_documented_with_its_shape_and_headers(document: dict[str, Any]) -> None:
    wrong = []
    for name, operation in operations(document):
        wanted = (
            ALWAYS | ({"401"} if "security" in operation else set()) | (WITH_A_BODY if "requestBody" in operation else set())
        )
        if lacking := wanted - set(operation["responses"]):
            wrong.append(f"{name} lacks {sorted(lacking)}")
        for status, response in operation["responses"].items():
            told = document["components"]["responses"][status] if "$ref" in response else response
            if "X-Request-ID" not in told["headers"] or (status >= "400" and "application/problem+json" not in told["content"]):
                wrong.append(f"{name} {status}: {told}")
    responses = document["components"]["responses"]

    assert wrong == []
    assert {"WWW-Authenticate"} <= set(responses["401"]["headers"])
    assert {"Allow"} <= set(responses["405"]["headers"])
    assert all("Retry-After" in responses[status]["headers"] for status in ("429", "503"))


def test_the_batchs_bound_is_the_settings(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["Batch"]["properties"]["articles"]["maxItems"] == 200
