"""The application, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI

from .._version import __version__
from ..client import Client
from ..errors import EmbedqError
from ..settings import Settings
from . import admin, articles, cockpit, exposition, health, problems, reference, searching
from .envelope import BODY_MAX, PATIENCE_S, Envelope
from .guard import guard_of
from .service import CONNECTIONS, LOCK_TIMEOUT_S, THREADS, Service

log = logging.getLogger(__name__)

ABOUT = """
Save articles, find them by meaning, and operate the queue in between.

* An article is **saved at once**; a task to embed it is committed with it. `embedding` in its answer tells how that goes.
* Errors are `application/problem+json`: what is wrong, in which `field`, and the `next_step`.
* `ETag` changes with every edit; sent back as `If-Match`, it keeps an edit or a delete from undoing somebody else's.
* `X-Request-ID` comes back with every answer and is in the service's log and in the audit log.
* Every read and write is of **one tenant** (`tenant_id`, else `default`).
"""
TAGS = [
    {"name": "articles", "description": "With `Authorization: Bearer` and the value of AUTH_TOKEN."},
    {"name": "search", "description": "With the same token."},
    {"name": "operator", "description": "With the value of ADMIN_TOKEN. The cockpit for people is at `/`."},
    {"name": "health", "description": "Without a token."},
]


def make_app(settings: Settings, *, body_max: int = BODY_MAX, patience_s: float = PATIENCE_S) -> FastAPI:
    """The service over these settings. The database may come later; the first request after it answers."""
    guard = guard_of(settings)
    client = Client(settings, connections=CONNECTIONS)
    client.store.database.lock_timeout_s = LOCK_TIMEOUT_S
    service = Service(settings, guard, client)
    app = FastAPI(
        title="embedq", version=__version__, description=ABOUT, openapi_tags=TAGS, docs_url=None, redoc_url=None, lifespan=_lifespan
    )  # fmt: skip
    app.state.service = service
    for part in (articles, searching, admin, exposition, health, cockpit, reference):
        app.include_router(part.router)
    problems.install(app)
    app.add_middleware(Envelope, guard=guard, body_max=body_max, patience_s=patience_s)
    _describe(app, settings)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    await anyio.to_thread.run_sync(_warm_up, app.state.service)
    yield
    app.state.service.client.close()


def _warm_up(service: Service) -> None:
    """What the first request would pay for: importing the broker's library, and its first look at PostgreSQL."""
    try:
        _ = service.client.broker.app
        service.pace.flow()
    except EmbedqError as away:
        log.warning("the service starts all the same: %s", away)


def _describe(app: FastAPI, settings: Settings) -> None:
    """OpenAPI as FastAPI makes it, with what only we know: problems, and the batch's bound."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            told = made()
            schemas = told["components"]["schemas"]
            shape = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= shape.pop("$defs", {}) | {"Problem": shape}
            schemas["Batch"]["properties"]["articles"]["maxItems"] = settings.article_batch_max
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            app.openapi_schema = told
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
