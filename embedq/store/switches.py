"""Counts of tasks for a switch of the mode, and the lock that allows one procedure of a kind at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ..errors import NotWell
from ..model import Delivery
from .database import Connection, Database
from .queries import QUERIES


class Switches:
    def __init__(self, database: Database) -> None:
        self.database = database

    def counts(self) -> dict[str, int]:
        """`free`, `with_broker`, `held_by_celery`, `held_by_poller`: open tasks by where they are."""
        row = self.database.one(QUERIES.counts_for_switch)
        return {name: int(value) for name, value in (row or {}).items()}

    def in_flight(self, deliveries: Iterable[Delivery], *, unlocked: bool = False) -> int:
        """Tasks that workers of these deliveries hold; `unlocked`: only those that no transaction has locked."""
        statement = QUERIES.in_flight_unlocked if unlocked else QUERIES.in_flight
        row = self.database.one(statement, {"deliveries": list(deliveries)})
        return int(row["tasks"]) if row else 0

    def held_by_no_worker(self) -> int:
        """Tasks whose lease was taken away while a transaction wrote their article; the steward takes them when it has ended."""
        row = self.database.one(QUERIES.held_by_no_worker)
        return int(row["tasks"]) if row else 0

    @contextmanager
    def alone(self, what: str, hint: str, patience_s: float = 3.0) -> Iterator[None]:
        """Only one process at a time does `what`: a session lock, which ends with its process.

        Raises NotWell when another process holds it for longer than `patience_s`.
        """
        connection, deadline = self.database.connect(name=f"embedq {what}"), time.monotonic() + patience_s
        try:
            while not _held(connection, what):
                if time.monotonic() > deadline:
                    raise NotWell(f"another process is doing this now: {what}", hint=hint)
                time.sleep(0.05)
            yield
        finally:
            connection.close()


def _held(connection: Connection, what: str) -> bool:
    row = connection.execute(QUERIES.try_lock, {"what": what}).fetchone()
    return bool(row and row["held"])
