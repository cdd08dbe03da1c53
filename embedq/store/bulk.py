"""Operators' changes to tasks: in bounded steps, safe beside writers and claims, each with a line in the audit log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from psycopg.types.json import Jsonb

from .database import Connection, Database, Row
from .queries import QUERIES
from .sessions import GIVES_WAY
from .settling import MET_A_WRITER
from .unlocked import on_unlocked

STEP = 1000
PATIENCE_S = 5.0
LOOK_AGAIN_S = 0.05
END = 2**63 - 1
# The status was and is `processing`: the lease was revoked.
BECAME = {"processing": "taken from their workers"}
RETRIABLE = ("failed", "skipped", "cancelled")
FINISHED = ("completed", "failed", "cancelled", "skipped")


@dataclass(frozen=True, slots=True)
class Picked:
    """Which tasks a command means; None does not filter. `message_like`: an ILIKE pattern. `held_s`: only tasks whose
    worker is dead or has held them longer (seconds). `deliveries`: by which they were claimed. `articles`: their ids. `older_s` and
    `newer_s`: made longer ago, and no longer ago, than that (seconds). `newest`: the article exists and no other task of it has taken
    over. `only_missing`: the article's newest text has no vector of the task's model."""

    statuses: Sequence[str]
    ids: Sequence[int] | None = None
    priorities: Sequence[str] | None = None
    tenants: Sequence[str] | None = None
    task_reason: str | None = None
    error_class: str | None = None
    message_like: str | None = None
    deliveries: Sequence[str] | None = None
    held_s: float | None = None
    articles: Sequence[str] | None = None
    older_s: float | None = None
    newer_s: float | None = None
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
        """Exact numbers, by status and priority."""
        return self.database.fetch(_with("count_picked"), picked.parameters())

    def listed(self, picked: Picked, limit: int) -> list[Row]:
        return self.database.fetch(_with("list_picked"), picked.parameters(limit=limit))

    def named(self, keys: Sequence[str]) -> list[Row]:
        """The tasks that task ids, article ids or slugs name: key, id (None: nothing of that name), status."""
        return self.database.fetch(QUERIES.tasks_named, {"keys": [*keys]})

    def sweep(self, picked: Picked, act: Act, *, limit: int | None = None, patience_s: float = PATIENCE_S) -> Swept:
        """Do it to every task that matches now, in steps that each commit with their line in the audit log.

        Rows that other sessions have locked are tried again until `patience_s` seconds pass without progress.
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
        """Tasks that still match and were not changed before: no task is changed twice."""
        had = set(swept.ids)
        rows = self.database.fetch(_with("ids_picked"), picked.parameters(up_to=up_to))
        return [row["id"] for row in rows if row["id"] not in had]

    def _pass(self, picked: Picked, act: Act, swept: Swept, room: int, up_to: int, line: int) -> None:
        """One pass over the matching tasks by id. The step size is reduced at lock conflicts, and grows again."""
        after, step = 0, STEP
        while (limit := min(step, room - swept.total)) > 0:
            seen: list[int] = []
            try:
                self._step(picked.parameters(after=after, up_to=up_to, limit=limit), act, swept, line, seen)
            except MET_A_WRITER:
                if seen:
                    after, step = (seen[0], step) if len(seen) == 1 else (after, max(1, len(seen) // 10))
                    continue
            if not seen:
                return
            after, step = seen[-1], min(STEP, step * 10)

    def _step(self, parameters: dict[str, Any], act: Act, swept: Swept, line: int, seen: list[int]) -> None:
        """One transaction. `seen` receives the ids it locked, also when it then fails."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.be_patient_for, {"timeout": GIVES_WAY})
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
        message = f"{act.category}: {told_states(states)} tasks" + (f" ({act.why})" if act.why else "")
        connection.execute(
            QUERIES.audit_progress, {"id": line, "message": message, "metadata": Jsonb({"counts": dict(states)})}
        )

    # What has no task ----------------------------------------------------------------------------------------------------------

    def missing_without_task(self, tenants: Sequence[str] | None, limit: int | None, *, after: str = "") -> list[str]:
        parameters = {"tenants": [*tenants] if tenants else None, "limit": limit, "after": after}
        return [row["id"] for row in self.database.fetch(QUERIES.missing_without_task, parameters)]

    def want(self, article_ids: Sequence[str], priority: str | None, reason: str) -> int:
        """Give these articles tasks, in steps; how many were made (none in the modes sync and off, and for an article that is being written)."""
        settings = {"priority": priority or "", "reason": reason, "mode": "", "dispatch": ""}

        def want(connection: Connection, ids: list[str]) -> int:
            connection.execute(QUERIES.transaction_settings, settings)
            row = connection.execute(QUERIES.want, {"ids": ids}).fetchone()
            return int(row["made"]) if row else 0

        made, _ = on_unlocked(self.database, article_ids, want, patience_s=PATIENCE_S)
        return made

    def state_of(self, task: int) -> Row | None:
        return self.database.one(QUERIES.settled_task, {"id": task})


def told_states(states: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {BECAME.get(status, status)}" for status, number in sorted(states.items()) if number)


def _with(statement: str) -> str:
    text: str = getattr(QUERIES, statement)
    return text.replace("{picked}", QUERIES.picked)
