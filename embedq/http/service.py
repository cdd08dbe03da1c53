"""One service's parts, and the way a request reaches them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ..client import Client
from ..decide.estimate import Flow
from ..decide.switching import deliveries
from ..model import Delivery, Mode
from ..settings import Settings
from .guard import Area, Guard
from .problems import Refusal

if TYPE_CHECKING:
    from .health import Checked

# Threads that answer requests, and others that search. Each holds one connection to PostgreSQL at most; four more are for looks.
THREADS, SEARCH_THREADS = 16, 8
CONNECTIONS = THREADS + SEARCH_THREADS + 4
# Whoever else holds an article's row may keep a writer of it for so long, and not all threads for ever.
LOCK_TIMEOUT_S = 3.0
RATE_OVER_S = 60.0
# A look is kept for at least this long, and for twenty times as long as it took.
KEPT_S, KEPT_TIMES = 0.5, 20


class Pace:
    """The queue at a glance, looked up once for many requests."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._lock = threading.Lock()
        self._until = 0.0
        self._flow = Flow({}, 0.0, 0)

    def flow(self) -> Flow:
        """As it was a moment ago; whoever comes while it is looked up gets the one before, not a queue."""
        if time.monotonic() < self._until or not self._lock.acquire(blocking=self._until == 0.0):
            return self._flow
        try:
            if time.monotonic() >= self._until:
                started = time.monotonic()
                self._flow = flow_of(self.client)
                now = time.monotonic()
                self._until = now + max(KEPT_S, KEPT_TIMES * (now - started))
        finally:
            self._lock.release()
        return self._flow


def flow_of(client: Client) -> Flow:
    store = client.store
    live: dict[str, Any] = store.status.live() or {}
    waiting: dict[str, int] = {}
    for row in store.overview.depth():
        waiting[row["priority"]] = waiting.get(row["priority"], 0) + row["tasks"]
    allowed = deliveries(Mode(live.get("mode", Mode.CELERY)))
    workers = [
        w for w in store.workers.all() if w["alive"] and w["delivery"] in tuple(Delivery) and Delivery(w["delivery"]) in allowed
    ]
    return Flow(
        waiting,
        per_s=store.overview.settled(RATE_OVER_S).get("settled", 0) / RATE_OVER_S,
        workers=len(workers),
        is_running=live.get("is_running", True),
        paused_priorities=frozenset(live.get("paused_priorities", ())),
        paused_tenants=frozenset(live.get("paused_tenants", ())),
        provider_pause_s=max((row["left_s"] or 0.0 for row in store.overview.troubled_providers()), default=0.0),
    )


@dataclass(slots=True)
class Service:
    settings: Settings
    guard: Guard
    client: Client
    pace: Pace = field(init=False)
    checked: Checked = field(init=False)
    # Searches wait for the provider, which may hang: they have threads of their own, so that saving never waits behind them (G7).
    searchers: anyio.CapacityLimiter = field(init=False)

    def __post_init__(self) -> None:
        from .health import Checked

        self.searchers = anyio.CapacityLimiter(SEARCH_THREADS)
        self.pace = Pace(self.client)
        self.checked = Checked()


def the_service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


async def _service(request: Request) -> Service:
    return the_service(request)


TheService = Annotated[Service, Depends(_service)]

ARTICLES_BEARER = HTTPBearer(auto_error=False, scheme_name="AUTH_TOKEN", description="For articles and search.")
ADMIN_BEARER = HTTPBearer(auto_error=False, scheme_name="ADMIN_TOKEN", description="For /admin and /metrics.")


def check_token(guard: Guard, area: Area, given: HTTPAuthorizationCredentials | None) -> None:
    if guard.admits(area, given.credentials if given else None):
        return
    if guard.closed(area):
        detail, step = f"{area} is not set on the service, so this is closed", f"set {area} where the service runs"
    else:
        detail, step = "no token, or not the right one", f"send `Authorization: Bearer` with the value of {area}"
    raise Refusal(
        401, "token", "A token is needed", detail, step, headers={"WWW-Authenticate": f'Bearer realm="embedq {area}"'}
    )


async def no_strange_query(request: Request) -> None:
    """A misspelt `tenant_id` must not quietly mean another tenant's article. Raises Refusal."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    strange = next((name for name in request.query_params if name not in known), None)
    if strange is not None:
        step = f"leave it out, or use one of: {', '.join(known)}" if known else "leave it out; this path takes none"
        shown = strange.encode("utf-8", "replace").decode()[:100]
        raise Refusal(422, "input", "The input is wrong", "this path has no such query parameter", step, field=shown)


# Coroutines, not functions: a token is compared in place, without a thread.
async def with_auth_token(
    service: TheService, given: Annotated[HTTPAuthorizationCredentials | None, Depends(ARTICLES_BEARER)]
) -> None:
    check_token(service.guard, Area.ARTICLES, given)


async def with_admin_token(
    service: TheService, given: Annotated[HTTPAuthorizationCredentials | None, Depends(ADMIN_BEARER)]
) -> None:
    check_token(service.guard, Area.ADMIN, given)
