"""Tasks in the table: claim, settle, dispatch, rescue. Each method is one short transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg.rows import tuple_row

from ..model import Claimed, Delivery, Mode, Outcome, Priority, TaskStatus
from .arrays import numbers, texts
from .database import Connection, Database, Row, first_line
from .queries import QUERIES
from .throttles import room
from .trail import Place, Trail
from .usage import put_usage
from .vectors import put_vectors

# Which live modes let a delivery claim (SPEC §5; decide.modes has the same table, and a test compares them).
MODES_OF = {
    Delivery.CELERY: [Mode.CELERY, Mode.HYBRID, Mode.SYNC],
    Delivery.POLLER: [Mode.DATABASE, Mode.HYBRID, Mode.SYNC],
}
DISPATCHING_MODES = [Mode.CELERY, Mode.HYBRID, Mode.SYNC]
LANES = 64
PRIORITIES = {priority.value: priority for priority in Priority}
MAX_LOSSES = 10
# An edit or a delete of the same article is under way: it is asked again, five seconds at most (see `patience`).
MET_A_WRITER = (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
SETTLE_TRIES = 25


@dataclass(slots=True)
class Settled:
    """What a settle did: the tasks' new states, and how many came too late and were discarded."""

    states: dict[int, str] = field(default_factory=dict)
    late: int = 0


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

        What is urgent goes as it is: looking for more of it would take as long as settling it.
        """
        with self.database.transaction() as connection:
            connection.execute(QUERIES.fence)
            limit = room(connection, limit)
            asked = {"ids": numbers(ids), "modes": MODES_OF[delivery], "limit": limit}
            named = connection.execute(QUERIES.lock_named, asked).fetchall()
            locked = [row["id"] for row in named]
            if 0 < len(locked) < limit and named[0]["priority"] != Priority.URGENT:
                locked += self._lock_more(connection, MODES_OF[delivery], Priority(named[0]["priority"]), locked, limit)
            return self._take(connection, worker, delivery, locked)

    def _lock_more(
        self, connection: Connection, modes: Sequence[Mode], priority: Priority, named: Sequence[int], limit: int
    ) -> list[int]:
        """What is free, unless dispatch is held; when that is not enough, what other messages name. What is locked by ourselves already
        comes once more."""
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
            ids = self._lock_free(connection, MODES_OF[delivery], priorities, limit, grace_s) if limit else []
            return self._take(connection, worker, delivery, ids)

    def claim_urgent(self, worker: int, delivery: Delivery, limit: int) -> list[Claimed]:
        """Up to `limit` urgent tasks, with the broker (where a save leaves them) or free."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.fence)
            limit, modes, urgent = room(connection, limit), MODES_OF[delivery], [Priority.URGENT]
            if not limit:
                return []
            ids = self._lock_dispatched(connection, modes, urgent, limit, 0.0) or self._lock_free(
                connection, modes, urgent, limit
            )
            return self._take(connection, worker, delivery, ids)

    def claim_overdue(
        self, worker: int, limit: int, fallback_s: float, priorities: Sequence[Priority] = tuple(Priority)
    ) -> list[Claimed]:
        """In hybrid mode, for a poller: what was dispatched more than `fallback_s` ago and nobody has claimed."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.fence)
            limit = room(connection, limit)
            ids = self._lock_dispatched(connection, [Mode.HYBRID], priorities, limit, fallback_s)
            return self._take(connection, worker, Delivery.POLLER, ids)

    def _lock_dispatched(
        self, connection: Connection, modes: Sequence[Mode], priorities: Sequence[Priority], limit: int, older_s: float
    ) -> list[int]:
        asked = {"limit": limit, "older_s": older_s, "priorities": list(priorities), "modes": list(modes)}
        return [row["id"] for row in connection.execute(QUERIES.lock_dispatched, asked).fetchall()]

    def _lock_free(
        self, connection: Connection, modes: Sequence[Mode], priorities: Sequence[Priority], limit: int,
        grace_s: float = 0.0, *, unless_held: bool = False, for_dispatch: bool = False, without: Sequence[str] = (),
    ) -> list[int]:  # fmt: skip
        for priority in priorities:
            ended = None if for_dispatch else self.trail.of(priority)
            if ended and (ids := self._lock_following(connection, modes, priority, limit, grace_s, ended, unless_held)):
                return ids
            parameters = {
                "modes": list(modes), "priority": priority, "after": self._after.get(priority, ""), "lanes": LANES, "without": list(without),
                "limit": limit, "grace": f"{grace_s} seconds", "unless_held": unless_held,
            }  # fmt: skip
            rows = connection.execute(QUERIES.lock_free, parameters).fetchall()
            picked, looked_at = rows[:-1], rows[-1:]
            if rows:
                # Tenants that were looked at in vain (their model's provider is paused) are not looked at first again.
                self._after[priority] = (picked or looked_at)[-1]["tenant_id"]
            if not for_dispatch:
                self.trail.swept(priority, picked, full=len(picked) >= limit, lanes=sum(row["lanes"] for row in looked_at))
            if picked:
                # One priority a batch: what is urgent does not wait until a hundred of the low are embedded and stored with it.
                return [row["id"] for row in picked]
        return []

    def _lock_following(
        self, connection: Connection, modes: Sequence[Mode], priority: Priority, limit: int, grace_s: float,
        ended: Mapping[str, Place], unless_held: bool,
    ) -> list[int]:  # fmt: skip
        places = ended.values()
        parameters = {
            "modes": list(modes), "priority": priority, "limit": limit, "each": -(-limit // len(ended)), "grace": f"{grace_s} seconds",
            "tenants": list(ended), "times": [due for due, _ in places], "last_ids": numbers([id for _, id in places]), "unless_held": unless_held,
        }  # fmt: skip
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

    def settle(self, worker: int, worker_name: str, outcomes: Sequence[Outcome]) -> Settled:
        """Write how tasks ended, with their vectors, in one transaction. What is not this worker's any more changes nothing."""
        settled, billed = Settled(), False
        try:
            settled.states = self._settle_together(worker, worker_name, outcomes)
            billed = True
        except (psycopg.IntegrityError, psycopg.DataError, *MET_A_WRITER):
            pass  # an edit made a successor at this very moment, or one of them cannot be stored: one by one, each sees it
        for outcome in outcomes:
            if outcome.task.id not in settled.states:
                self._settle_alone(worker, worker_name, outcome, settled)
        if not billed:
            with self.database.transaction() as connection:
                put_usage(connection, outcomes)
        return settled

    def _settle_together(self, worker: int, worker_name: str, outcomes: Sequence[Outcome]) -> dict[int, str]:
        with self.database.transaction() as connection:
            connection.execute(QUERIES.patience)
            states = self._write(connection, worker, worker_name, outcomes)
            put_usage(connection, outcomes)
            return states

    def _write(self, connection: Connection, worker: int, worker_name: str, outcomes: Sequence[Outcome]) -> dict[int, str]:
        # Plain tuples: for a batch of hundreds, a dictionary each is a twentieth of the settle's time.
        cursor = connection.cursor(row_factory=tuple_row)
        cursor.execute(QUERIES.settle, {"worker": worker, "worker_name": worker_name} | _columns(outcomes))
        states: dict[int, str] = dict(cursor.fetchall())
        put_vectors(connection, [o for o in outcomes if o.stored is not None and states.get(o.task.id) == "completed"])
        return states

    def _settle_alone(self, worker: int, worker_name: str, outcome: Outcome, settled: Settled) -> None:
        """A task whose row was locked when the others were settled: wait for the lock, then look whether it is still ours."""
        for _ in range(SETTLE_TRIES):
            try:
                with self.database.transaction() as connection:
                    connection.execute(QUERIES.patience)
                    held = {"ids": [outcome.task.id], "claims": [outcome.task.claim], "worker": worker}
                    if connection.execute(QUERIES.still_held, held).fetchall():
                        settled.states |= self._write(connection, worker, worker_name, [outcome])
                break
            except MET_A_WRITER:
                continue
            except (psycopg.IntegrityError, psycopg.DataError) as refused:
                # The same once more cannot help, and the others must not suffer: its task alone fails, with PostgreSQL's words.
                outcome = outcome._replace(
                    status=TaskStatus.FAILED, stored=None, error_class="Unstorable", message=first_line(refused)
                )
        settled.late += outcome.task.id not in settled.states

    def dispatch(self, priority: Priority, limit: int, over_share: Sequence[str] = ()) -> list[int]:
        """Mark up to `limit` free tasks of one priority as being with the broker; the caller publishes them after this returns."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.fence)
            ids = self._lock_free(
                connection, DISPATCHING_MODES, [priority], limit, unless_held=True, for_dispatch=True, without=over_share
            )
            if ids:
                connection.execute(QUERIES.mark_dispatched, {"ids": numbers(ids)})
            return ids

    def free(self, ids: Sequence[int]) -> int:
        """Take back from the broker what could not be published."""
        return self.database.execute(QUERIES.free_named, {"ids": list(ids)})

    def free_dispatched(self, older_s: float = 0.0, priorities: Sequence[Priority] = tuple(Priority), limit: int = 5000) -> int:
        """Take back from the broker up to `limit` tasks that were dispatched more than `older_s` seconds ago."""
        return self.database.execute(
            QUERIES.free_dispatched, {"older_s": older_s, "priorities": list(priorities), "limit": limit}
        )

    def free_lost(
        self, priority: Priority, after_s: float, *, first: Sequence[int] | None, held: Sequence[int], again: Sequence[int]
    ) -> int:
        """Take back from the broker what can have no message any more, and `again`, whose message may be in dead hands.

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
                continue  # an edit makes a successor at this very moment: fewer at once meet fewer edits
        return []

    def next_due_s(self, since_s: float, priorities: Sequence[Priority] = tuple(Priority)) -> float | None:
        """Seconds until the first task is due of those that were not yet `since_s` seconds ago; None when none waits for its time."""
        row = self.database.one(QUERIES.next_due, {"since_s": since_s, "priorities": list(priorities)})
        return row["wait_s"] if row else None

    def wake(self) -> None:
        """Tell who sleeps that there may be something to do."""
        self.database.fetch(QUERIES.wake)

    def depth(self) -> list[Row]:
        return self.database.fetch(QUERIES.depth)


def _columns(outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {
        "ids": numbers([o.task.id for o in outcomes]),
        "claims": numbers([o.task.claim for o in outcomes]),
        "statuses": texts([o.status for o in outcomes]),
        "versions": numbers([o.task.version for o in outcomes]),
        "charged": numbers([o.charged for o in outcomes]),
        "waits": numbers([o.wait_s for o in outcomes]),
        "classes": texts([o.error_class for o in outcomes]),
        "messages": texts([o.message for o in outcomes]),
    }
