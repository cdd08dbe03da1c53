"""The data that the cockpit shows: status, and the series of its charts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..model import Priority
from ..operations.status import Glance, glance
from ..steward.maintenance_window import shown
from ..store import Store
from .service import Service

WINDOW_S, STEP_S = 600, 10
DELIVERIES = ("celery", "poller")
PLACES = {"celery": "broker", "poller": "table"}
AUDIT_LINES, ERROR_CLASSES = 12, 8
# Of each class, the most frequent message among so many of its newest failures is shown.
MESSAGES_OF = 1000

Series = list[float]


@dataclass(slots=True)
class Snapshot:
    """`depth` and `rate`: per priority and delivery, one number for each step of ten seconds, the newest last."""

    seen: Glance
    model: str
    depth: Mapping[str, Mapping[str, Series]]
    rate: Mapping[str, Mapping[str, Series]]
    audit: list[dict[str, Any]]

    @property
    def oldest_s(self) -> float | None:
        return time.time() - self.seen.oldest.timestamp() if self.seen.oldest else None

    @property
    def maintenance(self) -> dict[str, Any] | None:
        return shown(self.seen.live.maintenance)

    def now(self, priority: str, place: str) -> int:
        return sum(row["tasks"] for row in self.seen.tasks if (row["priority"], row["place"]) == (priority, place))


def snapshot(service: Service) -> Snapshot:
    store = service.client.store
    seen, active = glance(store, service.settings), store.models.active()
    now = time.time()
    depth = in_steps(store.watch.depth_samples(WINDOW_S + STEP_S), now, 1)
    for row in seen.tasks:
        for delivery, place in PLACES.items():
            if row["place"] == place:
                depth[row["priority"]][delivery][-1] = row["tasks"]
    rate = in_steps(store.watch.settled_steps(WINDOW_S + STEP_S, STEP_S), now - STEP_S, STEP_S)
    return Snapshot(seen, str(active) if active else "none", depth, rate, store.audit.recent(AUDIT_LINES))


def failed_by_class(store: Store) -> list[dict[str, Any]]:
    """error_class (None: without one), tasks (counted as far as `COUNTED`), last, message."""
    found = store.console.error_classes()[:ERROR_CLASSES]
    for row in found:
        frequent = store.console.error_messages(row["error_class"], limit=1, cap=MESSAGES_OF) if row["error_class"] else []
        row["message"] = frequent[0]["message"] if frequent else ""
    return found


def in_steps(rows: Iterable[Mapping[str, Any]], now: float, per: float) -> dict[str, dict[str, Series]]:
    """Rows (at, priority, delivery, value) as equally long series that end at `now`; each value is divided by `per`."""
    steps = WINDOW_S // STEP_S
    found = {priority.value: {delivery: [0.0] * steps for delivery in DELIVERIES} for priority in Priority}
    newest = int(now // STEP_S)
    for row in rows:
        place = steps - 1 - (newest - int(row["at"] // STEP_S))
        if 0 <= place < steps and row["priority"] in found and row["delivery"] in DELIVERIES:
            found[row["priority"]][row["delivery"]][place] = round(float(row["value"]) / per, 2)
    return found


def span(seconds: float | None) -> str:
    """A duration with one unit, rounded."""
    if seconds is None:
        return "–"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(0.0, seconds):.1f} s"


def moment(at: datetime | None) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else "–"


def ceiling(top: float) -> float:
    """A round number at or above, for the top of a chart."""
    size = 1.0
    while size * 10 < top:
        size *= 10
    return next(size * times for times in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if size * times >= top)


def line(values: Series, top: float) -> str:
    """An SVG polyline's points, 240 wide, from y 70 (nothing) up to y 8 (`top`)."""
    step = 240 / max(1, len(values) - 1)
    return " ".join(f"{number * step:.1f},{70 - 62 * min(1.0, value / top):.1f}" for number, value in enumerate(values))
