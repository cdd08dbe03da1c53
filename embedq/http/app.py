"""Assembles the application: routes, middleware, error handlers, OpenAPI document."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from fastapi import FastAPI

from .._version import __version__
from ..client.client import Client
from ..errors import EmbedqError
from ..operations.authentication import Admission
from ..settings import Settings
from . import admin, articles, cockpit, console, document, exposition, health, mcp, problems, reference, searching, sources
from .bodies import Bodies
from .middleware import RequestMiddleware
from .needs import need_of
from .paths import Paths
from .service import CONNECTIONS, LOCK_TIMEOUT_S, THREADS, Service

log = logging.getLogger(__name__)

ROUTERS = (
    articles.router,
    searching.router,
    admin.router,
    sources.router,
    exposition.router,
    health.router,
    cockpit.router,
    cockpit.forms,
    reference.router,
    *console.ROUTERS,
)
ABOUT = """
Save articles, find them by meaning, and operate the queue in between.

* An article is **saved at once**; a task to embed it is committed with it. `embedding` in its answer tells how that goes.
* Errors are `application/problem+json`: what is wrong, in which `field`, and the `next_step`.
* `ETag` changes with every edit; sent back as `If-Match`, it keeps an edit or a delete from undoing another client's change.
* `X-Request-ID` comes back with every answer and is in the service's log and in the audit log.
* Every read and write is of **one tenant** (`tenant_id`, else the token's, else `default`).
* A named token (`embedq token create`) has a scope: `read`, `write` or `admin`. What a path needs stands beside its token.
"""
TAGS = [
    {"name": "articles", "description": "With `Authorization: Bearer` and the value of AUTH_TOKEN, or a named token."},
    {"name": "search", "description": "With the same token."},
    {
        "name": "operator",
        "description": "With the value of ADMIN_TOKEN, or a named token of all tenants. The cockpit for people is at `/`.",
    },
    {"name": "health", "description": "Without a token."},
]


def make_app(settings: Settings, *, body_within_s: float | None = None) -> FastAPI:
    """The service with these settings. It starts without the database, and serves requests once the database answers."""
    client = Client(settings, connections=CONNECTIONS)
    client.store.database.lock_timeout_s = LOCK_TIMEOUT_S
    service = Service(settings, client, Admission(settings, lambda: client.store.tokens), bodies=Bodies(body_within_s))
    app = FastAPI(
        title="embedq",
        version=__version__,
        description=ABOUT,
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,  # it would lead to whatever the client's Host names
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    app.state.mcp, its_route = mcp.route()
    app.router.routes.append(its_route)
    problems.install(app)
    for route in app.routes:
        for method in getattr(route, "methods", None) or ():
            need_of(
                method, getattr(route, "path", "")
            )  # a path that `needs` does not list is an error at start, not an open path
    paths = Paths((route for router in ROUTERS for route in router.routes), others={"/openapi.json": "GET", mcp.PATH: "POST"})
    app.add_middleware(RequestMiddleware, admission=service.admission, paths=paths)
    document.describe(app, settings)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    await anyio.to_thread.run_sync(_warm_up, app.state.service)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.state.mcp.run)
        yield
        tasks.cancel_scope.cancel()
    app.state.service.client.close()


def _warm_up(service: Service) -> None:
    """Done before the first request: import the broker's library, and connect to PostgreSQL."""
    try:
        _ = service.client.broker.app
        service.pace.flow()
    except EmbedqError as away:
        log.warning("the service starts all the same: %s", away)
