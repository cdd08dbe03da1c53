"""For schemathesis (SCHEMATHESIS_HOOKS): the service is as usual before each request, what a schema cannot say is named, and made-up
requests are sent with a token of every scope as well."""

from __future__ import annotations

import atexit
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import schemathesis
from requests.structures import CaseInsensitiveDict
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation.meta import TestPhase
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.acceptance.service import ADMIN, AUTH

# Whatever the request before has switched off is on again.
AS_USUAL = (
    "UPDATE embedding_worker_status SET mode = 'celery', is_running = true, submissions_accepted = true, maintenance = NULL"
)


class Named(NamedTuple):
    """A refusal of what the schema allows: where, with which status and detail, and why the schema cannot say it."""

    operation: str
    status: int
    detail: str
    reason: str


NAMED = (
    Named(
        r"(PUT|DELETE) /api/articles/\{article_id\}",
        412,
        "",
        "whether a precondition holds depends on the article as it is at that moment",
    ),
    Named("POST /api/articles", 422, "Idempotency-Key", "a key that stands for another article, or beside an id of its own"),
    Named("POST /api/articles", 410, "was deleted since", "a key whose article was deleted"),
    Named(
        "POST /api/articles/batch",
        422,
        "is in the batch twice",
        "an id or slug twice in one batch: JSON Schema compares whole articles",
    ),
    Named(
        r"PUT /api/articles/\{article_id\}", 422, "title and content are both empty", "the other of the two is in the database"
    ),
    Named(
        "POST /api/search",
        422,
        "filter",
        "which comparisons a filter may have, and how they nest, is the filter's own language",
    ),
    Named("POST /api/search", 422, "offset is", "offset and k together must not go beyond the ranking that pages are cut from"),
    Named(
        "POST /api/search", 422, "there is no reranker", "which rerankers there are depends on the packages that are installed"
    ),
    Named("POST /admin/sources", 422, "", "which tables there are, and which SQL their columns allow, is in the database"),
    Named(
        r"(POST|PUT) /api/articles.*",
        422,
        "in metadata|metadata.* holds|of the metadata",
        "metadata may be any JSON that PostgreSQL can store",
    ),
)

# Nothing listens there.
LOOPBACK = "http://127.0.0.1:9/"

_connection = psycopg.connect(os.environ["OPENAPI_DATABASE_URL"], autocommit=True)
_tokens: dict[str, str] = json.loads(os.environ["OPENAPI_TOKENS"])
_found: Counter[str] = Counter()
_sent: dict[str, set[str]] = {scope: set() for scope in _tokens}
_refuted: dict[str, list[str]] = {scope: [] for scope in _tokens}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    _connection.execute(AS_USUAL)
    # The service would call an address that was made up. One that is no address stays, to be refused.
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("webhook"), str) and body["webhook"].startswith(("http://", "https://")):
        case.body = {**body, "webhook": LOOPBACK}


@schemathesis.check
def accepted_unless_named(ctx: Any, response: Any, case: Any) -> bool | None:
    """`positive_data_acceptance`, which this stands in for, but for the named refusals; those are counted."""
    try:
        return positive_data_acceptance(ctx, response, case)
    except Failure:
        detail = response.json()["detail"]
        for named in NAMED:
            if (
                response.status_code == named.status
                and re.fullmatch(named.operation, case.operation.label)
                and re.search(named.detail, detail)
            ):
                _found[named.reason] += 1
                return None
        raise


@schemathesis.check
def kept_with_a_token_of_every_scope(ctx: Any, response: Any, case: Any) -> bool | None:
    """The same request with each of the other tokens, with all other checks. One run for all scopes: making the requests up takes longer
    than sending them."""
    failures: list[Failure] = []
    for scope, token in _tokens.items() if _has_a_token(case) else ():
        if case.meta.phase.name == TestPhase.FUZZING or case.operation.label not in _sent[scope]:
            failures += _failures_with(scope, token, case)
    if failures:
        raise FailureGroup(failures)
    return None


def _has_a_token(case: Any) -> bool:
    return case.headers.get("Authorization") in (f"Bearer {token}" for token in (AUTH, ADMIN))


def _failures_with(scope: str, token: str, case: Any) -> list[Failure]:
    other = case.derive(headers=CaseInsensitiveDict({**case.headers, "Authorization": f"Bearer {token}"}), keep_auth=True)
    _sent[scope].add(case.operation.label)
    try:
        other.validate_response(other.call(timeout=60), excluded_checks=[kept_with_a_token_of_every_scope])
    except FailureGroup as found:
        _refuted[scope].append(str(found))
        return list(found.exceptions)
    return []


@atexit.register
def _tell() -> None:
    sent = {scope: sorted(labels) for scope, labels in _sent.items()}
    Path(os.environ["OPENAPI_TOLD"]).write_text(json.dumps({"named": _found, "sent": sent, "refuted": _refuted}))
