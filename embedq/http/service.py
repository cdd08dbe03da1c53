"""The parts of the service, and how a request gets them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import anyio
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from ..client.client import Client
from ..operations.authentication import Admission
from ..operations.embedding_status import Pace
from ..settings import Settings
from .attempts import Attempts
from .bodies import Bodies
from .checked import Checked
from .gate import Gate
from .problems import Refusal
from .session import Sessions

# Threads that answer requests, and others that search. Each holds one connection to PostgreSQL at most; four more are for health checks.
THREADS, SEARCH_THREADS = 16, 8
CONNECTIONS = THREADS + SEARCH_THREADS + 4
# lock_timeout of the service's sessions: another transaction that holds an article's row must not hold all threads.
LOCK_TIMEOUT_S = 3.0


@dataclass(slots=True)
class Service:
    settings: Settings
    client: Client
    admission: Admission
    gate: Gate = field(init=False)
    pace: Pace = field(init=False)
    checked: Checked = field(init=False)
    bodies: Bodies = field(default_factory=Bodies)
    sessions: Sessions = field(init=False)
    attempts: Attempts = field(default_factory=Attempts)
    # Searches wait for the provider, which may hang. They have threads of their own, so that a save never waits for a search (G7).
    searchers: anyio.CapacityLimiter = field(init=False)

    def __post_init__(self) -> None:
        self.searchers = anyio.CapacityLimiter(SEARCH_THREADS)
        self.pace = Pace(lambda: self.client.store)
        self.checked = Checked(self.client)
        self.gate = Gate(self.admission)
        self.sessions = Sessions(self.admission, self.client.store)


def the_service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


async def _service(request: Request) -> Service:
    return the_service(request)


TheService = Annotated[Service, Depends(_service)]

# For OpenAPI only: `AuthorizedRoute` has checked the token before.
ARTICLES_BEARER = HTTPBearer(
    auto_error=False, scheme_name="AUTH_TOKEN", description="For articles and search; or a named token."
)
ADMIN_BEARER = HTTPBearer(
    auto_error=False, scheme_name="ADMIN_TOKEN", description="For /admin and /metrics; or a named token of all tenants."
)


async def no_strange_query(request: Request) -> None:
    """Raises Refusal for a misspelt `tenant_id`, which would otherwise select the default tenant."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    strange = next((name for name in request.query_params if name not in known), None)
    if strange is not None:
        step = f"leave it out, or use one of: {', '.join(known)}" if known else "leave it out; this path takes none"
        shown = strange.encode("utf-8", "replace").decode()[:100]
        raise Refusal(422, "input", "The input is wrong", "this path has no such query parameter", step, field=shown)
