"""GET /health: is the process alive, and can it do its work? Asked without a token, so it names no address and no secret."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

import anyio
import anyio.to_thread
from fastapi import APIRouter, Response
from pydantic import BaseModel

from .._version import __version__
from ..decide.health import MAKE_ANEW
from ..errors import EmbedqError
from ..wellbeing import peek
from .service import Service, TheService

router = APIRouter(tags=["health"])
KEPT_S, PATIENCE_S = 1.0, 2.0


class Check(BaseModel):
    ok: bool
    detail: str


class Health(BaseModel):
    """`status` is ok, or degraded: alive, with something away. `ready`: articles can be saved and read."""

    status: Literal["ok", "degraded"]
    ready: bool
    version: str
    mode: str | None
    maintenance: str | None
    checks: dict[str, Check]


class Checked:
    """The last look, kept for a second: a monitor that hammers reaches neither PostgreSQL nor the broker.

    It has a thread of its own and a bound: a database that hangs must not make a live process look dead.
    """

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(1)
        self._looking = asyncio.Lock()
        self._until = 0.0
        self._found = unanswered()

    async def look(self, service: Service) -> Health:
        if time.monotonic() > self._until:
            async with self._looking:  # who waits here gets what the one before has seen, and does not look again
                if time.monotonic() > self._until:
                    self._found = await self._look(service)
                    self._until = time.monotonic() + KEPT_S
        return self._found

    async def _look(self, service: Service) -> Health:
        with anyio.move_on_after(PATIENCE_S):
            return await anyio.to_thread.run_sync(looked, service, limiter=self._limiter, abandon_on_cancel=True)
        return unanswered()


def unanswered() -> Health:
    away = Check(ok=False, detail=f"no answer within {PATIENCE_S:g} s")
    return Health(status="degraded", ready=False, version=__version__, mode=None, maintenance=None, checks={"database": away})


def looked(service: Service) -> Health:
    live: dict[str, object] = {}

    def ask_database() -> str:
        live.update(service.client.store.status.live() or {})
        return "answers"

    checks = {"database": _check(ask_database), "broker": _broker(service.client.broker.url)}
    if checks["database"].ok:
        checks["provider"] = _check(lambda: _provider(service))
    window = live.get("maintenance")
    return Health(
        status="ok" if all(check.ok for check in checks.values()) else "degraded",
        ready=checks["database"].ok,
        version=__version__,
        mode=str(live["mode"]) if live else None,
        maintenance=str(window.get("state")) if isinstance(window, dict) else None,
        checks=checks,
    )


def _check(ask: Callable[[], str]) -> Check:
    try:
        return Check(ok=True, detail=ask())
    except EmbedqError as away:
        return Check(ok=False, detail=f"does not answer ({type(away).__name__})")


def _broker(url: str) -> Check:
    """Looked at past the circuit, whose word is of a while ago; without the address, which is for those with a token."""
    seen = peek(url)
    if not seen.reachable:
        return Check(ok=False, detail="does not answer")
    if seen.of_another_kind:
        queues = ", ".join(seen.of_another_kind)
        return Check(ok=False, detail=f"has queues of another kind than ours: {queues}; next: {MAKE_ANEW}")
    return Check(ok=True, detail="answers")


def _provider(service: Service) -> str:
    troubled = service.client.store.overview.troubled_providers()
    return "is paused after faults; tasks wait" if troubled else "no fault is known"


@router.get("/health", summary="Liveness, and readiness in detail")
async def health(service: TheService) -> Health:
    """Always 200 while the process lives; `ready` and `checks` say what it can do."""
    return await service.checked.look(service)


@router.get(
    "/health/ready",
    summary="Readiness alone, for load balancers",
    responses={503: {"model": Health, "description": "PostgreSQL is away"}},
)
async def ready(service: TheService, response: Response) -> Health:
    """503 while PostgreSQL is away."""
    found = await service.checked.look(service)
    if not found.ready:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return found
