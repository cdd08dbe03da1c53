"""The service keeps what its own OpenAPI document promises, also when the requests are made up by a machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig

from embedq.embedded import Servers
from tests.acceptance.service import ADMIN, AUTH, Served, hashing_at, serving
from tests.conftest import fresh_database

EXAMPLES = int(os.environ.get("HTTP_EXAMPLES", "8"))
CHECKED = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance", "response_schema_conformance",
    "negative_data_rejection", "ignored_auth",
)  # fmt: skip
PROMISED = {
    "/health": {"get"}, "/api/articles": {"get", "post"}, "/api/articles/{article_id}": {"get", "put", "delete"},
    "/api/articles/batch": {"post"}, "/api/articles/{article_id}/versions": {"get"}, "/api/search": {"post"},
    "/admin/embedding/status": {"get"}, "/admin/embedding/requeue": {"post"}, "/admin/queue/health": {"get"}, "/admin/queue/stats": {"get"},
    "/admin/queue/shutdown-workers": {"post"}, "/admin/mode": {"post"}, "/admin/maintenance/emergency-mode": {"post"},
    "/admin/maintenance/disable-emergency-mode": {"post"}, "/admin/maintenance/schedule": {"post"},
    "/admin/maintenance/pause-task-submission": {"post"}, "/admin/maintenance/resume-task-submission": {"post"}, "/metrics": {"get"},
}  # fmt: skip


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    with fresh_database(servers, template) as url:
        yield url


@pytest.fixture(scope="module")
def served(servers: Servers, database_url: str) -> Iterator[Served]:
    with serving(hashing_at(database_url, servers.redis_url)) as running:
        for number in range(3):
            running.articles.post("/api/articles", json={"title": f"Article {number}", "id": f"a{number}"})
        yield running


@pytest.fixture(scope="module")
def live(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def document(served: Served) -> dict[str, Any]:
    found: dict[str, Any] = served.stranger.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def api_schema(served: Served) -> Any:
    config = SchemathesisConfig.from_dict({"generation": {"allow-extra-parameters": False}})
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json", config=config)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
@pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path, methods in PROMISED.items() for method in sorted(methods)]
)
def test_no_made_up_request_breaks_the_service_or_its_promises(
    api_schema: Any, live: psycopg.Connection[Any], path: str, method: str, mode: GenerationMode
) -> None:
    operation = api_schema[path][method.upper()]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
        pytest.skip("nothing can be wrong with it")
    token = AUTH if path.startswith("/api") else ADMIN

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    def keeps_its_promises(case: Any) -> None:
        # Whatever the request before has switched off, this one meets the service as it usually is.
        live.execute(
            "UPDATE embedding_worker_status SET mode = 'celery', is_running = true, submissions_accepted = true, maintenance = NULL"
        )
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS.get_by_names(CHECKED), timeout=30)

    keeps_its_promises()


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


# An article that is read, edited and deleted is there; whatever the operation before has switched off is on again.
AS_USUAL = """
    UPDATE embedding_worker_status SET mode = 'celery', is_running = true, submissions_accepted = true, maintenance = NULL;
    DELETE FROM articles; INSERT INTO articles (id, title, slug) VALUES ('t', 'Tea', 'green-tea')
"""


def test_every_operation_is_closed_without_its_token_and_takes_its_own_example_with_it(
    document: dict[str, Any], served: Served, live: psycopg.Connection[Any]
) -> None:
    other, wrong = {AUTH: ADMIN, ADMIN: AUTH}, []
    for name, operation in operations(document):
        method, path = name.split(" ")
        path = path.replace("{article_id}", "t")
        examples = (body_of(document, operation) or {"examples": [None]})["examples"]
        (scheme,) = [key for one in operation.get("security", [{"none": []}]) for key in one]
        token = {"AUTH_TOKEN": AUTH, "ADMIN_TOKEN": ADMIN, "none": ""}[scheme]
        tokens = (
            {"no token": "", "the other's": other[token], "a strange one": "guess", "its own": token} if token else {"none": ""}
        )
        for whose, sent in tokens.items():
            for example in examples:
                live.execute(AS_USUAL)
                headers = {"Authorization": f"Bearer {sent}"} if sent else {}
                answer = served.stranger.request(method, path, json=example, headers=headers)
                good = answer.is_success if sent == token else answer.status_code == 401
                if not good or str(answer.status_code) not in operation["responses"]:
                    wrong.append(f"{name} with {whose}: {answer.status_code} {answer.text[:200]}")
                if answer.status_code == 401 and not answer.headers.get("www-authenticate", "").startswith("Bearer"):
                    wrong.append(f"{name} with {whose}: the 401 does not say how")

    assert wrong == []


def test_the_batchs_bound_is_the_settings(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["Batch"]["properties"]["articles"]["maxItems"] == 200
