"""The checks of GET /health: the database, the broker, the providers. The answer contains no address and no secret."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal

import anyio
import anyio.to_thread
from pydantic import BaseModel

from .._version import __version__
from ..broker.peek import Peek, peek
from ..client.client import Client
from ..decide.facts import Level
from ..decide.health import MAKE_ANEW, NO_PROGRESS
from ..decide.modes import LiveState, decide
from ..errors import EmbedqError, StoreMissing
from ..operations.status import Glance, glance

KEPT_S, PATIENCE_S = 1.0, 2.0


class Check(BaseModel):
    ok: bool
    detail: str


class Health(BaseModel):
    """`status` is ok, or degraded: alive, with something away or wrong. `ready`: articles can be saved and read. `problems`: the rules of
    `embedq health` that found one; GET /admin/queue/health tells what and which command helps."""

    status: Literal["ok", "degraded"]
    ready: bool
    version: str
    mode: str | None
    maintenance: str | None
    checks: dict[str, Check]
    problems: list[str]


class Checked:
    """The last result, cached for one second, so that frequent requests of a monitor do not reach PostgreSQL and the broker.

    Checks run in a separate thread with a time limit, so that /health answers while the database hangs.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._limiter = anyio.CapacityLimiter(1)
        self._looking = asyncio.Lock()
        self._until = 0.0
        self._found = unanswered()

    async def look(self) -> Health:
        if time.monotonic() > self._until:
            async with self._looking:  # a request that waited here gets the result of the one before it
                if time.monotonic() > self._until:
                    self._found = await self._look()
                    self._until = time.monotonic() + KEPT_S
        return self._found

    async def _look(self) -> Health:
        with anyio.move_on_after(PATIENCE_S):
            return await anyio.to_thread.run_sync(looked, self.client, limiter=self._limiter, abandon_on_cancel=True)
        return unanswered()


def unanswered() -> Health:
    away = Check(ok=False, detail=f"no answer within {PATIENCE_S:g} s")
    return Health(
        status="degraded",
        ready=False,
        version=__version__,
        mode=None,
        maintenance=None,
        checks={"database": away},
        problems=["database-away"],
    )


def looked(client: Client) -> Health:
    seen: Glance | None = None

    def ask_database() -> str:
        nonlocal seen
        seen = glance(client.store, client.settings)
        return "answers"

    checks = {"database": _check(ask_database), "broker": _broker((seen and seen.peek) or peek(client.broker.url))}
    problems = (
        [*dict.fromkeys(found.rule for found in seen.found if found.level is Level.PROBLEM)]
        if seen
        else _without_database(checks["database"])
    )
    if seen:
        checks["provider"] = _check(lambda: _provider(client))
        checks["progress"] = _progress(problems)
    return Health(
        status="degraded" if problems or not all(check.ok for check in checks.values()) else "ok",
        ready=checks["database"].ok,
        version=__version__,
        mode=_mode(client, seen.live) if seen else None,
        maintenance=str(seen.live.maintenance.get("state")) if seen and seen.live.maintenance else None,
        checks=checks,
        problems=problems,
    )


def _without_database(check: Check) -> list[str]:
    return ["database-not-set-up" if check.detail.startswith("answers") else "database-away"]


def _mode(client: Client, live: LiveState) -> str | None:
    """Of this process: its settings may only take away from the live one."""
    return None if live.missing else decide(live, client.settings.switches).mode.value


def _progress(problems: Sequence[str]) -> Check:
    still = NO_PROGRESS in problems
    return Check(ok=not still, detail="tasks are due and nothing ends" if still else "what is due moves")


def _check(ask: Callable[[], str]) -> Check:
    try:
        return Check(ok=True, detail=ask())
    except StoreMissing:
        return Check(ok=False, detail="answers, and embedq's schema is not there; next: `embedq db upgrade`")
    except EmbedqError as away:
        return Check(ok=False, detail=f"does not answer ({type(away).__name__})")


def _broker(seen: Peek) -> Check:
    """Checked regardless of the circuit breaker, whose state may be old; without the address, which only requests with a token may see."""
    if not seen.reachable:
        return Check(ok=False, detail="does not answer")
    if seen.of_another_kind:
        queues = ", ".join(seen.of_another_kind)
        return Check(ok=False, detail=f"has queues of another kind than ours: {queues}; next: {MAKE_ANEW}")
    if seen.refuses:
        return Check(ok=False, detail=f"answers, and takes no message ({seen.refuses.partition(' ')[0]})")
    if any(state.refuses for state in seen.states):
        return Check(ok=False, detail="answers, and messages do not get through; next: `embedq health` says why")
    return Check(ok=True, detail="answers")


def _provider(client: Client) -> str:
    troubled = client.store.providers.troubled()
    return "is paused after faults; tasks wait" if troubled else "no fault is known"
