"""For schemathesis (SCHEMATHESIS_HOOKS): the service is as usual before each request, and what a schema cannot say is named."""

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
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi.checks import positive_data_acceptance

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

_connection = psycopg.connect(os.environ["OPENAPI_DATABASE_URL"], autocommit=True)
_found: Counter[str] = Counter()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    _connection.execute(AS_USUAL)


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


@atexit.register
def _tell() -> None:
    Path(os.environ["OPENAPI_NAMED"]).write_text(json.dumps(_found))
