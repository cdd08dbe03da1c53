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
from tests.acceptance.service import ADMIN, AUTH, Served, serving
from tests.conftest import fresh_database

EXAMPLES = int(os.environ.get("EMBEDQ_TEST_HTTP_EXAMPLES", "8"))
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
    its = {
        "DATABASE_URL": database_url,
        "REDIS_URL": servers.redis_url,
        "EMBEDDING_PROVIDER": "hashing",
        "EMBEDDING_DIMENSIONS": "64",
    }
    with serving(its) as running:
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


def test_every_body_of_the_articles_paths_has_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    assert [name for name in ("NewArticle", "Batch", "Edit", "Search", "Problem") if not schemas[name].get("examples")] == []


def test_the_batchs_bound_is_the_settings(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["Batch"]["properties"]["articles"]["maxItems"] == 200
