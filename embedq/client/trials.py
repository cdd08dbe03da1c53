"""Trials of an installed system: made-up articles of a tenant of their own go the whole way, and are forgotten."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from ..errors import EmbedqError, NotWell
from ..model import ArticleDraft, Priority
from .client import Client

LOOK_EVERY_S = 0.1
CALL_S = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """`found` is empty where it went as it should."""

    what: str
    seconds: float
    found: str = ""
    next: str = ""


@dataclass(slots=True)
class Trial:
    """What was done, in order. `per_s`: articles embedded a second, where that was measured."""

    tenant: str
    steps: list[Step] = field(default_factory=list)
    per_s: float | None = None

    @property
    def well(self) -> bool:
        return not any(step.found for step in self.steps)

    def does(self, what: str, act: Callable[[], object]) -> bool:
        """Whether it went as it should; what comes after a failure is not tried."""
        if not self.well:
            return False
        started = time.monotonic()
        try:
            act()
        except EmbedqError as failed:
            self.steps.append(Step(what, time.monotonic() - started, str(failed), failed.hint))
            return False
        self.steps.append(Step(what, time.monotonic() - started))
        return True


@contextmanager
def trial(client: Client) -> Iterator[Trial]:
    """With a tenant of its own, which is forgotten whatever happens."""
    made = Trial(f"embedq-test-{secrets.token_hex(4)}")
    try:
        yield made
    finally:
        client.store.trials.forget(made.tenant)


def processing(client: Client, number: int, timeout_s: float) -> Trial:
    """Save `number` articles, wait until workers have embedded them, find one of them."""
    with trial(client) as made:
        drafts = [
            ArticleDraft(f"Trial {n} of {made.tenant}", "a text made up to be embedded", tenant_id=made.tenant)
            for n in range(number)
        ]
        made.does(f"save {number} articles", lambda: client.put(drafts, priority=Priority.HIGH, reason="trial"))
        if made.does("workers embed them", lambda: _embedded(client, made.tenant, number, timeout_s)):
            made.per_s = number / max(made.steps[-1].seconds, 0.001)
        made.does("search finds one of them", lambda: _found(client, made.tenant))
    return made


def _embedded(client: Client, tenant: str, number: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        ready, failed = client.store.trials.progress(tenant)
        if failed:
            raise NotWell(f"{failed} of {number} failed", hint="`embedq failed --by-error` shows why")
        if ready == number:
            return
        if time.monotonic() > deadline:
            raise NotWell(
                f"{ready} of {number} were embedded within {timeout_s:g} s", hint="`embedq status` shows what is in the way"
            )
        time.sleep(LOOK_EVERY_S)


def _found(client: Client, tenant: str) -> None:
    if not client.search(f"Trial 0 of {tenant}", 1, tenant_id=tenant):
        raise NotWell("search finds none of them", hint="`embedq verify`, then `embedq index check`")


def api(client: Client, url: str, token: str) -> Trial:
    """The way of an article through the HTTP service: save, read, edit, search, delete."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with trial(client) as made, httpx.Client(base_url=url, headers=headers, timeout=CALL_S, trust_env=False) as http:
        article, tenant = f"{made.tenant}-1", {"tenant_id": made.tenant}
        wanted = {"id": article, "title": "Trial", "content": "a text made up to be embedded", **tenant}
        made.does("GET /health", lambda: _asked(http, "GET", "/health"))
        made.does("POST /api/articles", lambda: _asked(http, "POST", "/api/articles", json=wanted))
        made.does("GET /api/articles/ID", lambda: _asked(http, "GET", f"/api/articles/{article}", params=tenant))
        made.does(
            "PUT /api/articles/ID",
            lambda: _asked(http, "PUT", f"/api/articles/{article}", params=tenant, json={"title": "Edited"}),
        )
        made.does("POST /api/search", lambda: _asked(http, "POST", "/api/search", json={"query": "trial", "k": 1, **tenant}))
        made.does("DELETE /api/articles/ID", lambda: _asked(http, "DELETE", f"/api/articles/{article}", params=tenant))
    return made


def _asked(http: httpx.Client, method: str, path: str, **more: object) -> None:
    try:
        answer = http.request(method, path, **more)  # type: ignore[arg-type]
    except httpx.HTTPError as away:
        raise NotWell(
            f"{http.base_url} does not answer ({type(away).__name__})", hint="`embedq serve` runs it; --url names it"
        ) from away
    if answer.status_code in (401, 403):
        raise NotWell(f"HTTP {answer.status_code}", hint="set AUTH_TOKEN as the service has it")
    if answer.is_error:
        raise NotWell(
            f"HTTP {answer.status_code}: {answer.text[:200]}", hint="the service's log says more under the request's id"
        )
