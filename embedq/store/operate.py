"""What an operator does to tasks and to the live row: bounded steps, safe beside writers and claims, each on record."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from ..errors import NotWell
from .database import Connection, Database, Row
from .queries import QUERIES

STEP = 1000
PATIENCE_S = 5.0
LOOK_AGAIN_S = 0.05
YIELD_AFTER = "200ms"
FENCE_WAIT = "3s"
FORCED_TRIES = 3
END = 2**63 - 1
CONTENDED = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)
FINISHED = ("completed", "failed", "cancelled", "skipped")


@dataclass(frozen=True, slots=True)
class Picked:
    """Which tasks a command means; what is None does not matter. `message_like`: an ILIKE pattern. `held_s`: only tasks whose
    worker is dead or has held them longer (seconds). `newest`: the article exists and no other task of it has taken over.
    `only_missing`: the article's newest text has no vector of the task's model."""

    statuses: Sequence[str]
    ids: Sequence[int] | None = None
    priorities: Sequence[str] | None = None
    tenants: Sequence[str] | None = None
    task_reason: str | None = None
    error_class: str | None = None
    message_like: str | None = None
    held_s: float | None = None
    newest: bool = False
    only_missing: bool = False

    def parameters(self, **more: Any) -> dict[str, Any]:
        given = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"after": 0, "up_to": END, "limit": STEP} | given | more

    def shown(self) -> dict[str, Any]:
        """The filters that were given, for the audit log."""
        return {key: value for key, value in asdict(self).items() if value not in (None, False)}


@dataclass(frozen=True, slots=True)
class Act:
    """What is done to the picked tasks: a statement of operate.sql with its own parameters, and who does it and why."""

    statement: str
    category: str
    who: str
    why: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Swept:
    """`states`: how many tasks ended in which status. `left`: matching ones that other transactions still hold."""

    states: Counter[str] = field(default_factory=Counter)
    ids: list[int] = field(default_factory=list)
    left: int = 0

    @property
    def total(self) -> int:
        return sum(self.states.values())


class Operate:
    def __init__(self, database: Database) -> None:
        self.database = database

    # Many tasks ----------------------------------------------------------------------------------------------------------------

    def count(self, picked: Picked) -> list[Row]:
        """Real numbers, by status and priority."""
        return self.database.fetch(_with("count_picked"), picked.parameters())

    def listed(self, picked: Picked, limit: int) -> list[Row]:
        return self.database.fetch(_with("list_picked"), picked.parameters(limit=limit))

    def named(self, keys: Sequence[str]) -> list[Row]:
        """The tasks that task ids, article ids or slugs name: key, id (None: nothing of that name), status."""
        return self.database.fetch(QUERIES.tasks_named, {"keys": [*keys]})

    def sweep(self, picked: Picked, act: Act, *, limit: int | None = None, patience_s: float = PATIENCE_S) -> Swept:
        """Do it to every task that matches now, in steps that each commit with their line in the audit log.

        Rows that others hold are asked for again until `patience_s` seconds pass without progress.
        """
        swept, room = Swept(), END if limit is None else limit
        line = self._begin(picked, act)
        up_to = self._highest()
        progress_at = time.monotonic()
        while True:
            before = swept.total
            self._pass(picked, act, swept, room, up_to, line)
            picked = replace(picked, ids=self._passed_over(picked, up_to, swept) if swept.total < room else [])
            swept.left = len(picked.ids or ())
            if swept.total > before:
                progress_at = time.monotonic()
            if not swept.left or time.monotonic() - progress_at > patience_s:
                return swept
            time.sleep(LOOK_AGAIN_S)

    def _begin(self, picked: Picked, act: Act) -> int:
        metadata = {"who": act.who, "reason": act.why, "filter": picked.shown(), "counts": {}}
        line = {"category": act.category, "level": "info", "message": f"{act.category}: no task", "metadata": Jsonb(metadata)}
        row = self.database.one(QUERIES.audit, line)
        assert row is not None
        return int(row["id"])

    def _highest(self) -> int:
        row = self.database.one(QUERIES.highest_task)
        return int(row["id"]) if row else 0

    def _passed_over(self, picked: Picked, up_to: int, swept: Swept) -> list[int]:
        """What still matches and was not had: no task is touched twice, whatever it became."""
        had = set(swept.ids)
        rows = self.database.fetch(_with("ids_picked"), picked.parameters(up_to=up_to))
        return [row["id"] for row in rows if row["id"] not in had]

    def _pass(self, picked: Picked, act: Act, swept: Swept, room: int, up_to: int, line: int) -> None:
        """Once through the matching tasks by id. Steps shrink where writers are in the way, and grow again."""
        after, step = 0, STEP
        while (limit := min(step, room - swept.total)) > 0:
            seen: list[int] = []
            try:
                self._step(picked.parameters(after=after, up_to=up_to, limit=limit), act, swept, line, seen)
            except CONTENDED:
                if seen:
                    after, step = (seen[0], step) if len(seen) == 1 else (after, max(1, len(seen) // 10))
                    continue
            if not seen:
                return
            after, step = seen[-1], min(STEP, step * 10)

    def _step(self, parameters: dict[str, Any], act: Act, swept: Swept, line: int, seen: list[int]) -> None:
        """One transaction. `seen` receives the ids it locked, also when it then fails."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.be_the_one_who_yields, {"timeout": YIELD_AFTER})
            seen += [row["id"] for row in connection.execute(_with("pick_tasks"), parameters).fetchall()]
            if not seen:
                return
            values = {"rows": seen, "done": swept.total, **act.values}
            rows = connection.execute(getattr(QUERIES, act.statement), values).fetchall()
            states = swept.states + Counter(row["status"] for row in rows)
            self._note(connection, line, act, states)
        swept.states = states
        swept.ids += [row["id"] for row in rows]

    def _note(self, connection: Connection, line: int, act: Act, states: Counter[str]) -> None:
        told = ", ".join(f"{number} {status}" for status, number in sorted(states.items()))
        message = f"{act.category}: {told} tasks" + (f" ({act.why})" if act.why else "")
        connection.execute(
            QUERIES.audit_progress, {"id": line, "message": message, "metadata": Jsonb({"counts": dict(states)})}
        )

    # What has no task ----------------------------------------------------------------------------------------------------------

    def missing_without_task(self, tenants: Sequence[str] | None, limit: int | None, *, after: str = "") -> list[str]:
        parameters = {"tenants": [*tenants] if tenants else None, "limit": limit, "after": after}
        return [row["id"] for row in self.database.fetch(QUERIES.missing_without_task, parameters)]

    def want(self, article_ids: Sequence[str], priority: str | None, reason: str) -> int:
        """Give these articles tasks, in steps; how many were made (none in the modes sync and off)."""
        made = 0
        for at in range(0, len(article_ids), STEP):
            with self.database.transaction() as connection:
                settings = {"priority": priority or "", "reason": reason, "mode": "", "dispatch": ""}
                connection.execute(QUERIES.transaction_settings, settings)
                row = connection.execute(QUERIES.want, {"ids": [*article_ids[at : at + STEP]]}).fetchone()
                made += row["made"] if row else 0
        return made

    def state_of(self, task: int) -> Row | None:
        return self.database.one(QUERIES.settled_task, {"id": task})

    # The live row --------------------------------------------------------------------------------------------------------------

    def set_running(self, running: bool, who: str, why: str, *, force: bool = False) -> tuple[Row, int]:
        """Start or stop. When this returns after a stop, no claim can succeed. `force`: sessions that hold a claim open are ended.

        Returns the live row as it was, and how many sessions were ended.
        """
        values = {"running": running, "who": who, "reason": why or ("started" if running else "stopped")}
        category, ended = "start" if running else "stop", 0
        for _ in range(FORCED_TRIES if force else 1):
            try:
                return self._change(QUERIES.set_running, values, category, {"is_running": running}), ended
            except psycopg.errors.LockNotAvailable:
                ended += len(self.database.fetch(QUERIES.end_fence_holders)) if force else 0
        raise NotWell(
            "a transaction has held the fence for seconds: a worker hangs in the middle of a claim, or the live row is locked by hand",
            hint="`embedq emergency-stop` ends such sessions; nothing was changed",
        )

    def set_paused(
        self, change: Mapping[str, tuple[Sequence[str], Sequence[str]]], who: str, why: str, category: str = "pause"
    ) -> tuple[Row, Row]:
        """Pause and resume. `change`: for 'priorities' and 'tenants', which to add and which to take away. Returns before, after."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.who, {"who": who})
            connection.execute(QUERIES.first_status, {"mode": "celery"})
            before = connection.execute(QUERIES.live_for_update).fetchone() or {}
            after = {
                part: sorted(({*before[f"paused_{part}"]} | {*added}) - {*removed}) for part, (added, removed) in change.items()
            }
            connection.execute(QUERIES.set_paused, {**after, "reason": why, "who": who})
            was = {part: before[f"paused_{part}"] for part in after}
            self._audit(connection, category, f"paused now: {_told(after)}", who, why, was, after)
        return was, after

    def end_task_holders(self) -> int:
        return len(self.database.fetch(QUERIES.end_task_holders))

    def wake(self) -> None:
        self.database.fetch("SELECT embedq_wake()")

    def _change(self, statement: str, values: Mapping[str, Any], category: str, after: Row) -> Row:
        with self.database.transaction() as connection:
            connection.execute(QUERIES.be_the_one_who_yields, {"timeout": FENCE_WAIT})
            connection.execute(QUERIES.who, {"who": values["who"]})
            before = connection.execute(QUERIES.live_status).fetchone() or {}
            connection.execute(statement, values)
            was = {key: before.get(key) for key in after}
            self._audit(connection, category, f"{category}: {values['reason']}", values["who"], values["reason"], was, after)
        return before

    def _audit(self, connection: Connection, category: str, message: str, who: str, why: str, before: Row, after: Row) -> None:
        metadata = {"who": who, "reason": why, "before": before, "after": after}
        connection.execute(
            QUERIES.audit, {"category": category, "level": "info", "message": message, "metadata": Jsonb(metadata)}
        )


def _with(statement: str) -> str:
    text: str = getattr(QUERIES, statement)
    return text.replace("{picked}", QUERIES.picked)


def _told(paused: Row) -> str:
    return "; ".join(f"{part}: {', '.join(names) or 'none'}" for part, names in paused.items())
