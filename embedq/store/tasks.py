"""Tasks in the table: claim, settle, dispatch, rescue. Each method is one short transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg.rows import tuple_row

from ..decide.modes import CLAIMING, DISPATCHING, STANDING_BACK, TAKING_OVER
from ..model import Claimed, Delivery, Mode, Outcome, Priority
from .arrays import numbers
from .claim_cursor import Place, Trail
from .database import Connection, Database, Row
from .queries import QUERIES
from .settling import LOCKED_FOR_S, MET_A_WRITER, Settled, Settling
from .throttles import room

LANES = 64
PRIORITIES = {priority.value: priority for priority in Priority}
MAX_LOSSES = 10


@dataclass(frozen=True, slots=True)
class Depth:
    """Tasks of one priority that wait: with the broker, and in the table alone."""

    dispatched: int
    free: int


class Tasks:
    def __init__(self, database: Database) -> None:
        self.database = database
        self._after: dict[str, str] = {}
        self.trail = Trail()

    def claim_named(self, worker: int, delivery: Delivery, ids: Sequence[int], limit: int) -> list[Claimed]:
        """Of the tasks that a message names, those that may be claimed now; with others of their priority, up to `limit`, if there are any.

        Urgent tasks are not filled up: finding more would take as long as settling them.
        """
        with self.database.transaction() as connection:
            connection.execute(QUERIES.fence)
            limit = room(connection, limit)
            asked = {"ids": numbers(ids), "modes": CLAIMING[delivery], "limit": limit}
            named = connection.execute(QUERIES.lock_named, asked).fetchall()
            locked = [row["id"] for row in named]
            if 0 < len(locked) < limit and named[0]["priority"] != Priority.URGENT:
                locked += self._lock_more(connection, CLAIMING[delivery], Priority(named[0]["priority"]), locked, limit)
            return self._take(connection, worker, delivery, locked)

    def _lock_more(
        self, connection: Connection, modes: Sequence[Mode], priority: Priority, named: Sequence[int], limit: int
    ) -> list[int]:
        """Free tasks, unless dispatch is held; if they do not suffice, tasks that other messages name. Tasks already locked by this
        transaction are returned again."""
        had = set(named)
        free = self._lock_free(connection, modes, [priority], limit - len(had), unless_held=True)
        more = [id for id in free if id not in had]
        if len(had) + len(more) < limit:
            oldest = self._lock_dispatched(connection, modes, [priority], limit - len(more), 0.0)
            more += [id for id in oldest if id not in had][: limit - len(had) - len(more)]
        return more

    def claim_due(
        self, worker: int, delivery: Delivery, priorities: Sequence[Priority], limit: int, grace_s: float = 0.0
    ) -> list[Claimed]:
        """Up to `limit` tasks that are not with the broker, of the first of `priorities` that has any, tenants in turn.

        `grace_s`: in hybrid mode, how long a task must have been due before a poller takes it from the dispatcher.
        """
        with self.database.transaction() as connection:
            connection.execute(QUERIES.fence)
            limit = room(connection, limit)
            ids = self._lock_free(connection, CLAIMING[delivery], priorities, limit, grace_s) if limit else []
            return self._take(connection, worker, delivery, ids)

    def claim_urgent(self, worker: int, delivery: Delivery, limit: int) -> list[Claimed]:
        """Up to `limit` urgent tasks, with the broker (where a save puts them) or free."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.fence)
            limit, modes, urgent = room(connection, limit), CLAIMING[delivery], [Priority.URGENT]
            if not limit:
                return []
            ids = self._lock_dispatched(connection, modes, urgent, limit, 0.0) or self._lock_free(
                connection, modes, urgent, limit
            )
            return self._take(connection, worker, delivery, ids)

    def claim_overdue(
        self, worker: int, limit: int, fallback_s: float, priorities: Sequence[Priority] = tuple(Priority)
    ) -> list[Claimed]:
        """In the modes in which pollers take over (hybrid, sync), for a poller: what was dispatched over `fallback_s` seconds ago and is not claimed."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.fence)
            limit = room(connection, limit)
            ids = self._lock_dispatched(connection, TAKING_OVER, priorities, limit, fallback_s)
            return self._take(connection, worker, Delivery.POLLER, ids)

    def _lock_dispatched(
        self, connection: Connection, modes: Sequence[Mode], priorities: Sequence[Priority], limit: int, older_s: float
    ) -> list[int]:
        asked = {"limit": limit, "older_s": older_s, "priorities": list(priorities), "modes": list(modes)}
        return [row["id"] for row in connection.execute(QUERIES.lock_dispatched, asked).fetchall()]

    def _lock_free(
        self,
        connection: Connection,
        modes: Sequence[Mode],
        priorities: Sequence[Priority],
        limit: int,
        grace_s: float = 0.0,
        *,
        unless_held: bool = False,
        for_dispatch: bool = False,
        without: Sequence[str] = (),
    ) -> list[int]:
        for priority in priorities:
            ended = None if for_dispatch else self.trail.of(priority)
            if ended and (ids := self._lock_following(connection, modes, priority, limit, grace_s, ended, unless_held)):
                return ids
            parameters = {
                "modes": list(modes),
                "priority": priority,
                "after": self._after.get(priority, ""),
                "lanes": LANES,
                "without": list(without),
                "limit": limit,
                "grace": f"{grace_s} seconds",
                "unless_held": unless_held,
                "standing_back": STANDING_BACK,
            }
            rows = connection.execute(QUERIES.lock_free, parameters).fetchall()
            picked, looked_at = rows[:-1], rows[-1:]
            if rows:
                # Tenants without a claimable task (their model's provider is paused) are not tried first again.
                self._after[priority] = (picked or looked_at)[-1]["tenant_id"]
            if not for_dispatch:
                self.trail.swept(priority, picked, full=len(picked) >= limit, lanes=sum(row["lanes"] for row in looked_at))
            if picked:
                # One priority per batch, so that urgent tasks do not wait for a batch of low ones.
                return [row["id"] for row in picked]
        return []

    def _lock_following(
        self,
        connection: Connection,
        modes: Sequence[Mode],
        priority: Priority,
        limit: int,
        grace_s: float,
        ended: Mapping[str, Place],
        unless_held: bool,
    ) -> list[int]:
        places = ended.values()
        parameters = {
            "modes": list(modes),
            "priority": priority,
            "limit": limit,
            "each": -(-limit // len(ended)),
            "grace": f"{grace_s} seconds",
            "tenants": list(ended),
            "times": [due for due, _ in places],
            "last_ids": numbers([id for _, id in places]),
            "unless_held": unless_held,
            "standing_back": STANDING_BACK,
        }
        rows = connection.execute(QUERIES.lock_following, parameters).fetchall()
        self.trail.followed(priority, rows, full=len(rows) >= limit)
        return [row["id"] for row in rows]

    def _take(self, connection: Connection, worker: int, delivery: Delivery, ids: Sequence[int]) -> list[Claimed]:
        if not ids:
            return []
        cursor = connection.cursor(row_factory=tuple_row)
        cursor.execute(QUERIES.take, {"ids": numbers(ids), "worker": worker, "delivery": delivery})
        claimed = {row[0]: Claimed._make((*row[:4], PRIORITIES[row[4]], *row[5:])) for row in cursor.fetchall()}
        return [claimed[id] for id in ids if id in claimed]

    def settle(
        self,
        worker: int,
        worker_name: str,
        outcomes: Sequence[Outcome],
        settled: Settled | None = None,
        patience_s: float = LOCKED_FOR_S,
    ) -> Settled:
        """Write how tasks ended, with their vectors and what they cost. Tasks that are no longer this worker's are not changed.

        `settled`: what a settle of the same outcomes did before it was interrupted. `patience_s`: how long rows that a writer has locked are tried again.
        """
        return Settling(self.database, worker, worker_name).settle(outcomes, settled or Settled(), patience_s)

    def dispatch(self, priority: Priority, limit: int, over_share: Sequence[str] = ()) -> list[int]:
        """Mark up to `limit` free tasks of one priority as being with the broker; the caller publishes them after this returns."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.fence)
            ids = self._lock_free(
                connection, DISPATCHING, [priority], limit, unless_held=True, for_dispatch=True, without=over_share
            )
            if ids:
                connection.execute(QUERIES.mark_dispatched, {"ids": numbers(ids)})
            return ids

    def free(self, ids: Sequence[int]) -> int:
        """Take back from the broker what could not be published."""
        return self.database.execute(QUERIES.free_named, {"ids": list(ids)})

    def free_dispatched(self, older_s: float = 0.0, priorities: Sequence[Priority] = tuple(Priority), limit: int = 5000) -> int:
        """Take back from the broker up to `limit` tasks that were dispatched more than `older_s` seconds ago; 0: of all."""
        return self.database.execute(
            QUERIES.free_dispatched, {"older_s": older_s, "priorities": list(priorities), "limit": limit}
        )

    def free_lost(
        self, priority: Priority, after_s: float, *, first: Sequence[int] | None, held: Sequence[int], again: Sequence[int]
    ) -> int:
        """Take back from the broker tasks that cannot have a message any more, and `again`, whose message a dead worker may hold.

        `first`: tasks of the message next in line, None when the queue is empty. `held`: those of unacknowledged messages.
        """
        facts = {"first": list(first or ()), "empty": first is None, "held": list(held), "again": list(again)}
        return self.database.execute(QUERIES.free_lost, {"priority": priority, "after_s": after_s} | facts)

    def tenants_over_share(self, priority: Priority, share: int) -> list[str]:
        """Tenants with `share` or more tasks of this priority with the broker already."""
        return [
            row["tenant_id"] for row in self.database.fetch(QUERIES.tenants_over_share, {"priority": priority, "share": share})
        ]

    def depths(self, dispatched: int, free: int = 0) -> Mapping[Priority, Depth]:
        """Of each priority, counted no further than `dispatched` and `free`."""
        rows = self.database.fetch(QUERIES.depths, {"dispatched": dispatched, "free": free})
        return {Priority(row["priority"]): Depth(row["dispatched"], row["free"]) for row in rows}

    def rescue(self, timeout_s: float, limit: int = 5000) -> list[Row]:
        """Take tasks back from workers that are dead or held them for longer than `timeout_s`."""
        parameters = {"timeout_s": timeout_s, "max_losses": MAX_LOSSES}
        for at_once in (limit, 50, 1):
            try:
                with self.database.transaction() as connection:
                    connection.execute(QUERIES.patience)
                    return connection.execute(QUERIES.rescue, parameters | {"limit": at_once}).fetchall()
            except MET_A_WRITER:
                continue  # a concurrent edit supersedes one of them: smaller steps conflict less often
        return []

    def next_due_s(self, since_s: float, priorities: Sequence[Priority] = tuple(Priority)) -> float | None:
        """Seconds until the first task is due of those that were not yet `since_s` seconds ago; None when none waits for its time."""
        row = self.database.one(QUERIES.next_due, {"since_s": since_s, "priorities": list(priorities)})
        return row["wait_s"] if row else None
