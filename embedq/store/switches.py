"""What a switch of the mode does in the table: count, free, hand over, wake."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import psycopg

from ..errors import NotWell
from ..model import Delivery
from .database import Connection, Database, Row
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
        while handed := len(self._fetch_again(QUERIES.hand_over, wanted)):
            total += handed
        return total

    def _fetch_again(self, statement: str, parameters: Mapping[str, object], tries: int = 3) -> list[Row]:
        """An edit may make a successor between the look and the change: the next look sees it."""
        for left in reversed(range(tries)):
            try:
                return self.database.fetch(statement, parameters)
            except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
                if not left:
                    raise
        return []

    def wake(self) -> None:
        """Every worker and the steward look at once."""
        self.database.execute(QUERIES.wake_everybody)

    @contextmanager
    def alone(self, what: str, hint: str, patience_s: float = 3.0) -> Iterator[None]:
        """At most one at a time does `what`. It is a session lock: it ends with its process, or a moment after.

        Raises NotWell when somebody holds it for longer than `patience_s`.
        """
        connection, deadline = self.database.connect(name=f"embedq {what}"), time.monotonic() + patience_s
        try:
            while not _held(connection, what):
                if time.monotonic() > deadline:
                    raise NotWell(f"somebody else is at it: {what}", hint=hint)
                time.sleep(0.05)
            yield
        finally:
            connection.close()


def _held(connection: Connection, what: str) -> bool:
    row = connection.execute(QUERIES.try_lock, {"what": what}).fetchone()
    return bool(row and row["held"])
