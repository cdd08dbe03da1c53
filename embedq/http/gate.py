"""Authentication of every request, before its body is read: whose token it has, whether the token may use the path, and its rate limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.to_thread

from ..decide.access import ANYBODY, Area, Need, Principal, why_not
from ..errors import StoreUnavailable
from ..operations.authentication import Admission
from .problems import Refusal

if TYPE_CHECKING:
    from ..store.tokens import Known

T = TypeVar("T")
PATIENCE_S: Final = 3.0
SETTING: Final = {Area.ARTICLES: "AUTH_TOKEN", Area.SEARCH: "AUTH_TOKEN", Area.OPERATOR: "ADMIN_TOKEN", Area.MCP: "AUTH_TOKEN"}


class Gate:
    """Used by one event loop. Token look-ups have threads of their own, so that unauthenticated requests cannot use up the request threads."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self._limiter = anyio.CapacityLimiter(2)
        self._looking = asyncio.Lock()

    async def admit(self, authorization: str | None, need: Need) -> Principal:
        """Raises Refusal: 401 without a token or with an unknown one, 403 for a missing scope, 429 beyond its rate."""
        given = bearer_of(authorization)
        principal, known = await self._whose(given)
        said = why_not(principal, need) if principal else None
        if principal is None or (said and not principal.token):
            raise nobody(need.area, closed=self.admission.closed(SETTING[need.area]))
        if said:
            raise forbidden(said, need)
        if known is not None and not self.admission.is_noted(known):
            check_rate(await self._asked(lambda: self.admission.use(known)), principal)
        return principal

    async def look(self) -> None:
        """Raises StoreUnavailable when the valid tokens cannot be read now."""
        if self.admission.must_look:
            async with self._looking:  # a request that waited here uses the result of the one before it
                if self.admission.must_look:
                    await self._asked(self.admission.look)

    async def _whose(self, given: str | None) -> tuple[Principal | None, Known | None]:
        found = self.admission.built_in(given)
        if found is not None:
            return found, None
        if given is None or not self.admission.may_be_named(given):
            return (ANYBODY if self.admission.everything_open else None), None
        known = await self._named(given)
        return (known.principal if known else None), known

    async def _named(self, given: str) -> Known | None:
        came = self.admission.now()
        await self.look()
        if self.admission.named(given) is None:
            async with self._looking:
                if not self.admission.looked_since(came):
                    await asyncio.sleep(self.admission.look_in_s)
                    await self._asked(self.admission.look)
        return self.admission.named(given)

    async def _asked(self, ask: Callable[[], T]) -> T:
        with anyio.move_on_after(PATIENCE_S):
            return await anyio.to_thread.run_sync(ask, limiter=self._limiter, abandon_on_cancel=True)
        raise StoreUnavailable(
            "PostgreSQL does not answer, so the token cannot be checked", hint="`embedq db health` looks closer"
        )


def bearer_of(authorization: str | None) -> str | None:
    scheme, _, given = (authorization or "").partition(" ")
    return given.strip() or None if scheme.lower() == "bearer" else None


def nobody(area: Area, *, closed: bool) -> Refusal:
    setting = SETTING[area]
    detail, step = (
        "no token, or not the right one",
        f"send `Authorization: Bearer` with the value of {setting}, or with a token of `embedq token create`",
    )
    if closed:
        detail = f"{setting} is not set on the service, so this is closed to all but named tokens"
        step = f"set {setting} where the service runs, or send a token of `embedq token create`"
    return Refusal(
        401, "token", "A token is needed", detail, step, headers={"WWW-Authenticate": f'Bearer realm="embedq {setting}"'}
    )


def forbidden(said: str, need: Need) -> Refusal:
    headers = {"WWW-Authenticate": f'Bearer realm="embedq", error="insufficient_scope", scope="{need.scope}"'}
    step = f"use a token of the scope {need.scope}; `embedq token list` shows what there is"
    return Refusal(403, "scope", "The token may not do this", said, step, headers=headers)


def check_rate(wait_s: float, principal: Principal) -> None:
    """Raises Refusal (429)."""
    if wait_s > 0:
        said, step = f"the token {principal.name} has used up its rate", f"try again in {ceil(wait_s)} s"
        raise Refusal(429, "rate", "Too many requests", said, step, headers={"Retry-After": str(ceil(wait_s))})
