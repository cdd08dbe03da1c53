"""The fence: every change of the live row (`embedding_worker_status`) by a command, the service or the steward goes through it.

A change closes the fence (later claims wait for it), waits for the claims under way, reads the row and locks it, decides, and writes the row
and its line in the audit log; all in one transaction. A session of embedq's own that hangs in a claim is terminated; others are named in the error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from ..decide.modes import LiveState
from ..errors import NotWell, StoreRefused, TakenOver
from .database import Connection, Database, Row
from .queries import QUERIES

# Claims wait while a change waits for the fence, so it does not wait longer at a time; for the row less than deadlock_timeout.
FENCE_WAIT, ROW_WAIT = "3s", "500ms"
PATIENCE_S, AGAIN_S = 5.0, 0.2
STUCK_S = 2.0
TOLD = 3
REFUSED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
# The rollback procedure that this thread runs.
_procedure: ContextVar[str | None] = ContextVar("embedq_procedure", default=None)


@dataclass(frozen=True, slots=True)
class Change:
    """New values of fields of the live state, and the line in the audit log."""

    values: Mapping[str, Any]
    category: str
    message: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changed:
    """The live state before and after. `anew`: it had been deleted. `ended`: sessions of embedq's own that were ended because they hung."""

    before: LiveState
    after: LiveState
    anew: bool
    ended: Sequence[Row]


Decide = Callable[[LiveState], Change | None]


class Fence:
    def __init__(self, database: Database) -> None:
        self.database = database

    def change(self, who: str, decide: Decide, *, alone: bool = False) -> Changed:
        """Change the live row as `decide(live)` says; None leaves it. When this returns, every later claim obeys the new row.

        `alone`: refused while a rollback procedure is under way. Raises NotWell, with nothing changed, when the fence or the row is
        held for long by a session that is not embedq's, or a procedure was taken over by another.
        """
        deadline, ended = time.monotonic() + PATIENCE_S, list[Row]()
        while True:
            try:
                with self.database.transaction() as connection:
                    before, anew = _closed(connection, who)
                    _refuse_what_is_over(connection, alone)
                    return self._written(connection, before, decide(before), anew, ended)
            except REFUSED:
                ended += [each for each in self.holders(fence=True, end=True) if each["ended"]]
            if time.monotonic() > deadline:
                raise _held(self.holders(fence=True))
            time.sleep(AGAIN_S)

    def _written(
        self, connection: Connection, before: LiveState, change: Change | None, anew: bool, ended: Sequence[Row]
    ) -> Changed:
        if change is None:
            return Changed(before, before, anew, ended)
        after = replace(before, **change.values)
        connection.execute(QUERIES.write_live, {name: _bound(value) for name, value in after.columns().items()})
        hung = {"sessions_ended": [told(each) for each in ended]} if ended else {}
        line = {"category": change.category, "level": "info", "message": change.message}
        connection.execute(QUERIES.audit, line | {"metadata": Jsonb({**change.metadata, **hung})})
        return Changed(before, after, anew, ended)

    def holders(
        self,
        *,
        fence: bool = False,
        tables: bool = False,
        end: bool = False,
        stuck_s: float = STUCK_S,
        pids: Sequence[int] | None = None,
    ) -> list[Row]:
        """Sessions that hold the fence or the live row, or locks of writers on articles and tasks. `end`: our own that are stuck are ended."""
        asked = {"fence": fence, "tables": tables, "end": end, "stuck_s": stuck_s, "pids": None if pids is None else [*pids]}
        return self.database.fetch(QUERIES.holders, asked)

    def in_the_way(self) -> list[Row]:
        """Sessions that lock a task in flight or its article; if PostgreSQL does not show the row, those that write articles or tasks."""
        return self.database.fetch(QUERIES.in_the_way) or [each for each in self.holders(tables=True) if not each["ours"]]

    def procedure_under_way(self) -> Row | None:
        """The session of a rollback procedure that has not ended."""
        return self.database.one(QUERIES.procedure_holder)

    def end_procedure(self) -> Row | None:
        """End that session, so that another procedure can begin. Its process finds out at its next step."""
        holder = self.procedure_under_way()
        if holder is not None:
            try:
                self.database.execute(QUERIES.end_session, {"pid": holder["pid"]})
            except StoreRefused as refused:
                raise NotWell(
                    f"the session of the procedure under way cannot be ended by this role: {told(holder)}",
                    hint=f"as its user or a superuser: SELECT pg_terminate_backend({holder['pid']}); then run the same again",
                ) from refused
        return holder


@contextmanager
def acting_for(run: str) -> Iterator[None]:
    """What this thread changes belongs to that run of a procedure; once the run has ended, it is refused."""
    token = _procedure.set(run)
    try:
        yield
    finally:
        _procedure.reset(token)


def _closed(connection: Connection, who: str) -> tuple[LiveState, bool]:
    """After the claims under way: the live row, locked, and whether it had to be made anew."""
    connection.execute(QUERIES.be_patient_for, {"timeout": FENCE_WAIT})
    connection.execute(QUERIES.who, {"who": who})
    connection.execute(QUERIES.close_fence)
    connection.execute(QUERIES.be_patient_for, {"timeout": ROW_WAIT})
    row = connection.execute(QUERIES.live_for_update).fetchone()
    if row is not None:
        return LiveState.of(row), False
    connection.execute(QUERIES.live_anew)
    row = connection.execute(QUERIES.live_for_update).fetchone()
    assert row is not None
    return LiveState.of(row), True


def _refuse_what_is_over(connection: Connection, alone: bool) -> None:
    run = _procedure.get()
    if run is not None:
        refuse_if_ended(connection, run)
    elif alone and (holder := connection.execute(QUERIES.procedure_holder).fetchone()) is not None:
        raise NotWell(
            f"a rollback procedure is under way: {told(holder)}",
            hint="wait for it (`embedq rollback report` shows how far it is); if its process hangs, `embedq rollback emergency` takes over; "
            "nothing was changed",
        )


def refuse_if_ended(connection: Connection, run: str) -> None:
    """Raises TakenOver when this run of a procedure has ended: another process does the rest."""
    row = connection.execute(QUERIES.is_ended, {"run": run}).fetchone()
    if row and row["ended"]:
        raise TakenOver(
            f"this procedure (run {run}) was taken over by another, and stops here",
            hint="`embedq rollback report` shows which; it does the rest",
        )


def _held(holders: Sequence[Row]) -> NotWell:
    """The error that names the sessions in the way, and what to do."""
    foreign = [each for each in holders if not each["ours"]]
    named = foreign or holders
    if not named:
        return NotWell("the fence was held again and again by claims", hint="run the same command again; nothing was changed")
    pid = named[0]["pid"]
    return NotWell(
        f"the fence or the live row is held by {told_all(named)}",
        hint=f"end that transaction, or in psql: SELECT pg_terminate_backend({pid}); then run the same command again; nothing was changed",
    )


def told_all(sessions: Sequence[Row]) -> str:
    more = f"; and {len(sessions) - TOLD} more" if len(sessions) > TOLD else ""
    return "; ".join(told(each) for each in sessions[:TOLD]) + more


def told(session: Row) -> str:
    """A session, described so that an operator can identify it."""
    since = session["since"]
    for_s = f" for {(datetime.now(UTC) - since).total_seconds():.0f} s (since {since:%H:%M:%S} UTC)" if since else ""
    query = f": {session['query'].strip()} …" if session["query"] else ""
    return f"pid {session['pid']} ({session['application_name'] or 'no name'}, user {session['usename']}){for_s}{query}"


def _bound(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict) else value
