"""`/errors`: failed tasks by class of error: number, first and last, tenants, a chart over time, and a retry with a canary."""

from __future__ import annotations

from starlette.responses import Response

from ...store.console import COUNTED
from .charts import WINDOWS, chart, window_of
from .filters import TaskFilter, filter_of
from .visit import TheVisit, new_router

router = new_router()

CHARTED = 6


@router.get("/errors")
def errors(visit: TheVisit) -> Response:
    """With `error` in the address, also the messages of that class."""
    console, query = visit.service.client.store.console, visit.request.query_params
    wanted, window = filter_of(query), window_of(query.get("window", ""))
    classes = console.error_classes()
    named = [row["error_class"] for row in classes if row["error_class"]][:CHARTED]
    drawn = chart("Failures by class", "a second", console.failed_lately(named, WINDOWS[window][0]), window)
    messages = console.error_messages(wanted.error) if wanted.error else []
    return visit.page(
        "errors.html",
        classes=classes,
        error=wanted.error,
        messages=messages,
        chart=drawn,
        windows=WINDOWS,
        window=window,
        cap=COUNTED,
        of_class=lambda error, **more: TaskFilter(status="failed", error=error, **more),
    )
