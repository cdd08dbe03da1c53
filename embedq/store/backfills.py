"""Backfills of existing articles: estimates, steps, and their lines in the audit log, which hold their state."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from .database import Database, Row
from .queries import QUERIES

STEP = 1000


class Backfills:
    def __init__(self, database: Database) -> None:
        self.database = database

    def wanted(self, model_id: int, tenant: str | None, after: str = "") -> Row:
        """How many articles, their bytes of UTF-8, and of how many tenants."""
        parameters = {"model_id": model_id, "tenant": tenant, "after": after}
        return self.database.one(_with("backfill_counts"), parameters) or {"articles": 0, "bytes": 0, "tenants": 0}

    def all(self, limit: int = 100) -> list[Row]:
        """The latest first: `line` in the audit log, and their state in `metadata`."""
        return self.database.fetch(QUERIES.backfills, {"limit": limit})

    def begin(self, state: dict[str, Any]) -> int:
        """Its line in the audit log, which every step brings up to date."""
        values = {"category": "backfill", "level": "info", "message": _told(state), "metadata": Jsonb(state)}
        row = self.database.one(QUERIES.audit, values)
        assert row is not None
        return int(row["id"])

    def step(self, line: int, state: dict[str, Any], model_id: int) -> bool:
        """Queue the next batch and note how far it came, in one transaction; `state` is brought up to date. False at the end."""
        parameters = {
            "model_id": model_id,
            "tenant": state["tenant"],
            "after": state["after"],
            "limit": state["batch_size"],
            "priority": state["priority"],
            "backfill": state["backfill"],
        }
        with self.database.transaction() as connection:
            row = connection.execute(_with("backfill_step"), parameters).fetchone() or {"last": None, "made": 0}
            further = {"after": row["last"], "queued": state["queued"] + row["made"]}
            changed = {"state": "queued"} if row["last"] is None else further
            now = state | changed
            connection.execute(QUERIES.audit_progress, {"id": line, "message": _told(now), "metadata": Jsonb(changed)})
            connection.execute(QUERIES.wake)
        state |= changed
        return row["last"] is not None

    def note(self, line: int, state: dict[str, Any]) -> None:
        self.database.execute(QUERIES.audit_progress, {"id": line, "message": _told(state), "metadata": Jsonb(state)})

    def open(self, backfill: str) -> int:
        """How many tasks of it `cancel` would find."""
        row = self.database.one(QUERIES.count_backfilled, {"backfill": backfill})
        return int(row["tasks"]) if row else 0

    def cancel(self, backfill: str, words: str) -> int:
        """One pass over the open tasks that it queued; rows that other sessions have locked are skipped. Returns how many were cancelled."""
        done, after = 0, 0
        while True:
            with self.database.transaction() as connection:
                picked = {"backfill": backfill, "after": after, "limit": STEP}
                ids = [row["id"] for row in connection.execute(QUERIES.pick_backfilled, picked).fetchall()]
                if not ids:
                    return done
                done += connection.execute(QUERIES.cancel_tasks, {"rows": ids, "words": words}).rowcount
                after = ids[-1]

    def tasks(self, backfill: str) -> dict[str, int]:
        """The tasks that it queued, by status; those superseded by an edit are counted separately."""
        return {row["became"]: row["tasks"] for row in self.database.fetch(QUERIES.backfill_tasks, {"backfill": backfill})}


def _with(statement: str) -> str:
    text: str = getattr(QUERIES, statement)
    return text.replace("{wanted}", QUERIES.backfill_wanted)


def _told(state: dict[str, Any]) -> str:
    return f"backfill {state['backfill']} ({state['state']}): {state['queued']} tasks queued"
