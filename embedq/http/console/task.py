"""`/tasks/{id}`: one task: its events, every attempt, its message, its trace, and the findings of `embedq explain`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from starlette.responses import Response

from ...errors import NotFound
from ...operations.explain import explained
from ...store.database import Row
from .filters import OF_ACT, TaskFilter, task_id
from .visit import TheVisit, new_router

router = new_router()


class Moment(NamedTuple):
    """An event of a task. `error`: its attempt failed."""

    at: datetime | str | None
    what: str
    details: str = ""
    error: bool = False


@router.get("/tasks/{number}")
def task(visit: TheVisit, number: str) -> Response:
    store, known = visit.service.client.store, task_id(number)
    row = None if known is None else store.overview.task(known)
    if row is None:
        raise NotFound(
            f"there is no task {number[:40]}", hint="the page of tasks shows what there is; finished tasks are cleaned up"
        )
    seen = explained(store, visit.service.settings, row, store.overview.article(row["article_id"]))
    possible = {act: TaskFilter(task=str(row["id"])) for act, (_, statuses) in OF_ACT.items() if row["status"] in statuses}
    metadata = row["metadata"] if isinstance(row["metadata"], dict) else {}
    return visit.page(
        "task.html", t=row, seen=seen, life=list(life(row)), acts=possible, metadata=metadata, trace=_trace(metadata)
    )


def _trace(metadata: dict[str, Any]) -> str:
    """The trace's id in a W3C traceparent: version-TRACE-span-flags."""
    parts = str(metadata.get("traceparent", "")).split("-")
    return parts[1] if len(parts) == 4 else ""


def life(row: Row) -> Iterator[Moment]:
    yield Moment(row["created_at"], "made")
    for error in row["errors"] if isinstance(row["errors"], list) else []:
        if isinstance(error, dict):
            yield _attempt(error)
    if row["dispatched_at"]:
        yield Moment(row["dispatched_at"], "sent to the broker")
    if row["processed_at"]:
        yield Moment(row["processed_at"], "claimed", f"claim {row['claims']}, by {row['delivery'] or 'an unknown delivery'}")
    if row["completed_at"]:
        yield Moment(row["completed_at"], row["status"], row["error_message"] or "", error=row["status"] == "failed")


def _attempt(error: dict[str, Any]) -> Moment:
    """Which worker had it, and the error."""
    told = f"{error.get('class') or 'error'}: {error.get('message') or ''}"
    who = " on ".join(str(error[key]) for key in ("delivery", "worker") if error.get(key))
    return Moment(
        _at(error.get("at")), f"attempt {error.get('attempt', '?')} failed", f"{told} ({who})" if who else told, error=True
    )


def _at(given: object) -> datetime | str | None:
    try:
        return datetime.fromisoformat(str(given))
    except ValueError:
        return str(given) if given else None
