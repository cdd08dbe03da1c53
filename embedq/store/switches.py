"""What a switch of the mode does in the table: count, free, hand over, wake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from ..errors import NotWell
from ..model import Delivery
from .database import Database
from .queries import QUERIES

AT_ONCE = 5000


class Switches:
    def __init__(self, database: Database) -> None:
        self.database = database

    def counts(self) -> dict[str, int]:
        """`free`, `with_broker`, `held_by_celery`, `held_by_poller`: open tasks by where they are."""
        row = self.database.one(QUERIES.counts_for_switch)
        return {name: int(value) for name, value in (row or {}).items()}

    def in_flight(self, deliveries: Iterable[Delivery], before: datetime | None = None) -> int:
        """Tasks that workers of these deliveries hold (claimed before that moment, if one is given)."""
        row = self.database.one(QUERIES.in_flight, {"deliveries": list(deliveries), "before": before})
        return int(row["tasks"]) if row else 0

    def free_all(self) -> Iterator[int]:
        """Take everything back from the broker, a bounded number at a time; yields how many each time."""
        while (freed := self.database.execute(QUERIES.free_everything, {"limit": AT_ONCE})) > 0:
            yield freed

    def hand_over(self, deliveries: Iterable[Delivery], why: str, before: datetime | None = None) -> int:
        """Take what these deliveries' workers still hold out of their hands; their late results will be discarded."""
        total = 0
        wanted = {"deliveries": list(deliveries), "before": before, "why": why, "limit": AT_ONCE}
        while handed := len(self.database.fetch(QUERIES.hand_over, wanted)):
            total += handed
        return total

    def wake(self) -> None:
        """Every worker and the steward look at once."""
        self.database.execute(QUERIES.wake_everybody)

    @contextmanager
    def alone(self, what: str, hint: str) -> Iterator[None]:
        """At most one at a time does `what` (a session lock: it ends with its process). Raises NotWell when somebody does."""
        connection = self.database.connect(name=f"embedq {what}")
        try:
            row = connection.execute(QUERIES.try_lock, {"what": what}).fetchone()
            if not (row and row["held"]):
                raise NotWell(f"somebody else is at it: {what}", hint=hint)
            yield
        finally:
            connection.close()
