"""`/workers`: each process that embeds: what it holds now, its queues, its rate and memory, when it was last seen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from ...model import Priority
from ...operations.status import failing
from .visit import TheVisit, new_router

router = new_router()

OUTCOMES = ("completed", "failed", "skipped")


@router.get("/workers")
def workers(visit: TheVisit) -> Response:
    store = visit.service.client.store
    held: dict[int, list[dict[str, Any]]] = {}
    for task in store.console.held():
        held.setdefault(task["worker"], []).append(task)
    rows = [shown(worker, held.get(worker["id"], [])) for worker in store.workers.all()]
    return visit.page("workers.html", workers=rows, priorities=tuple(Priority))


def shown(worker: Mapping[str, Any], tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the register with what the page derives from it. `rate`: tasks per second since it started."""
    counters = worker["counters"] if isinstance(worker["counters"], dict) else {}
    settled = sum(number for name in OUTCOMES if isinstance(number := counters.get(name), int | float))
    runs_s = max(1.0, (datetime.now(UTC) - worker["started_at"]).total_seconds())
    return dict(worker) | {
        "tasks": tasks,
        "settled": settled,
        "rate": settled / runs_s,
        "counted": sorted(counters.items()),
        "failing": failing([dict(worker)]),
    }
