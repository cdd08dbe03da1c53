"""The position where the last claim of a backlog ended, so that the next one begins there.

Index entries of claimed tasks remain until no snapshot can see them. While a long transaction (a backup, a report) is open, a
claim from the first task would visit every entry claimed since. So a claim begins where the previous one ended, and at the first
task only once in `SWEEP_S`: tasks freed behind the position, and tenants that had none, wait that long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..model import Priority

SWEEP_S = 1.0
Row = Mapping[str, Any]
Place = tuple[Any, int]


@dataclass(slots=True)
class _Ended:
    """Each tenant's last claimed task (when it was due, its id), and until when that may be relied on."""

    places: dict[str, Place]
    until: float


class Trail:
    """Of one process, by priority. Threads may share it without a lock: the worst case is a slightly older position."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._ended: dict[Priority, _Ended] = {}

    def of(self, priority: Priority) -> dict[str, Place] | None:
        """Where to begin, by tenant; None: at the first task, for all tenants. Urgent tasks are always searched from the first."""
        ended = self._ended.get(priority)
        return dict(ended.places) if ended is not None and self.clock() < ended.until else None

    def swept(self, priority: Priority, picked: Sequence[Row], *, full: bool, lanes: int) -> None:
        """A claim that began at the first task. `full`: it found as many as it wanted. `lanes`: tenants that had something due."""
        places = _last(picked)
        if full and len(places) == lanes and priority is not Priority.URGENT:
            self._ended[priority] = _Ended(places, self.clock() + SWEEP_S)
        else:
            self._ended.pop(priority, None)

    def followed(self, priority: Priority, picked: Sequence[Row], *, full: bool) -> None:
        """A claim that began where the one before ended."""
        ended = self._ended.get(priority)
        if ended is None or not full:
            self._ended.pop(priority, None)
        else:
            ended.places |= _last(picked)


def _last(picked: Sequence[Row]) -> dict[str, Place]:
    """Rows come in order of (scheduled_at, id) within each tenant."""
    return {row["tenant_id"]: (row["scheduled_at"], row["id"]) for row in picked}
