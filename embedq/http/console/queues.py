"""`/queues`: each priority in the table and in the broker: depth, age, rate; pause and resume."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from ...model import Priority
from ...operations.status import Glance, glance
from .charts import WINDOWS, chart, window_of
from .visit import TheVisit, new_router

router = new_router()

MINUTE_S = 60


@router.get("/queues")
def queues(visit: TheVisit) -> Response:
    store, window = visit.service.client.store, window_of(visit.request.query_params.get("window", ""))
    seen = glance(store, visit.service.settings)
    rates = _rates(store.watch.settled_steps(MINUTE_S, MINUTE_S))
    seconds = WINDOWS[window][0]
    drawn = (
        chart("Open tasks by priority", "tasks", store.console.depth(seconds), window),
        chart("Tasks that ended", "a second", store.console.ended(seconds), window),
    )
    rows = [queue(priority, seen, rates) for priority in Priority]
    return visit.page("queues.html", queues=rows, seen=seen, charts=drawn, windows=WINDOWS, window=window)


def queue(priority: Priority, seen: Glance, rates: Mapping[str, float]) -> dict[str, Any]:
    """Tasks by place; `messages` of the broker, None where it cannot be looked into; `oldest_s` and `rate` (tasks a second)."""
    rows = {row["place"]: row for row in seen.tasks if row["priority"] == priority}
    oldest = [row["oldest"].timestamp() for row in rows.values() if row["oldest"]]
    waiting = seen.peek.waiting if seen.peek else None
    return {
        "name": priority.value,
        "places": {place: row["tasks"] for place, row in rows.items()},
        "about": any(r["about"] for r in rows.values()),
        "oldest_s": time.time() - min(oldest) if oldest else None,
        "rate": rates.get(priority, 0.0),
        "messages": waiting.get(priority) if waiting else None,
        "paused": priority in seen.live.paused_priorities,
        "consumers": [worker for worker in seen.workers if priority in (worker["queues"] or Priority)],
    }


def _rates(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    rates: dict[str, float] = {}
    for row in steps:
        rates[row["priority"]] = rates.get(row["priority"], 0.0) + float(row["value"]) / MINUTE_S
    return rates
