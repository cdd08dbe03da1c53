"""The state of an article's embedding, with an estimate of when it will be done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..decide.estimate import Flow, estimate
from ..decide.modes import deliveries
from ..model import Article, Delivery, Priority

if TYPE_CHECKING:
    from ..store import Store
    from ..store.database import Row

RATE_OVER_S = 60.0
# A reading of the queue is cached for this long, or twenty times its own duration if that is longer.
KEPT_S, KEPT_TIMES = 0.5, 20


@dataclass(slots=True)
class State:
    """The state of an article's embedding. `place`: table, broker or worker. `retry_at`: the next attempt, if it is scheduled. `eta_s`:
    estimated seconds; None if there is no estimate, for the reason in `waits_for`. `error`: class of the last error."""

    status: str
    task_id: int | None = None
    priority: Priority | None = None
    place: str | None = None
    attempts: int | None = None
    retry_at: datetime | None = None
    eta_s: float | None = None
    waits_for: str | None = None
    error: str | None = None


def state_of(store: Store, pace: Pace, article: Article) -> State:
    """The state of an article's embedding, from its row and its decisive task."""
    return state_with(pace, article, store.watch.task_of(article.id))


def state_with(pace: Pace, article: Article, task: Row | None) -> State:
    """The same, when the decisive task is known."""
    state = State(article.embedding_status)
    if task is None:
        state.waits_for = None if state.status == "ready" else "it has no task: submissions are paused, or the mode makes none"
        return state
    state.task_id, state.priority, state.attempts = task["id"], Priority(task["priority"]), task["attempts"]
    state.error = task["error_class"] if state.status != "ready" else None
    if task["status"] == "processing":
        state.place = "worker"
    elif task["status"] == "pending":
        state.place = "broker" if task["dispatched"] else "table"
        state.retry_at = task["scheduled_at"] if task["due_in_s"] > 1 else None
    if state.place is not None:
        state.eta_s, state.waits_for = estimate(
            pace.flow(), state.priority, article.tenant_id, due_in_s=max(0.0, task["due_in_s"])
        )
    return state


class Pace:
    """Cached readings of the queue, shared by many requests."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._until = 0.0
        self._flow = Flow({}, 0.0, 0)

    def flow(self) -> Flow:
        """The cached reading; while one caller refreshes it, the others get the previous one without waiting."""
        if time.monotonic() < self._until or not self._lock.acquire(blocking=self._until == 0.0):
            return self._flow
        try:
            if time.monotonic() >= self._until:
                started = time.monotonic()
                self._flow = flow_of(self._store())
                now = time.monotonic()
                self._until = now + max(KEPT_S, KEPT_TIMES * (now - started))
        finally:
            self._lock.release()
        return self._flow


def flow_of(store: Store) -> Flow:
    live = store.status.live()
    waiting: dict[str, int] = {}
    for row in store.overview.depth():
        waiting[row["priority"]] = waiting.get(row["priority"], 0) + row["tasks"]
    allowed = deliveries(live.mode)
    workers = [
        w for w in store.workers.all() if w["alive"] and w["delivery"] in tuple(Delivery) and Delivery(w["delivery"]) in allowed
    ]
    return Flow(
        waiting,
        per_s=store.overview.settled(RATE_OVER_S).get("settled", 0) / RATE_OVER_S,
        workers=len(workers),
        is_running=live.is_running,
        paused_priorities=frozenset(live.paused_priorities),
        paused_tenants=frozenset(live.paused_tenants),
        provider_pause_s=max((each.left_s for each in store.providers.troubled()), default=0.0),
    )
