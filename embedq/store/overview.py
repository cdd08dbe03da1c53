"""Queries of `status` and its like: depth, rates, failures, one task in detail. Bounded, so that they are fast with a million tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ..model import Priority
from .database import Connection, Database, Row
from .queries import QUERIES

CAP = 100_000
FIRST_LOOK = 10_000
GRACE_S = 5.0


class Overview:
    def __init__(self, database: Database, cap: int = CAP) -> None:
        self.database = database
        self.cap = cap

    def depth(self) -> list[Row]:
        """Open tasks by priority and place (table, broker, worker): tasks, oldest, due_since, delayed; `about` when estimated.

        Up to 10,000 of each are counted; beyond that the planner's estimate is used, or, if the estimate is lower than what was
        counted, counting goes on up to `cap`. `oldest` and `delayed` of an estimated row are those of its first part.
        """
        with self.database.transaction() as connection:
            connection.execute(QUERIES.without_seqscan)
            first = min(FIRST_LOOK, self.cap)
            rows = connection.execute(QUERIES.capped_depth, {"cap": first, "priorities": list(Priority)}).fetchall()
            rows = [self._more(connection, row, first) if row["tasks"] >= first else row | {"about": False} for row in rows]
        return [row for row in rows if row["tasks"]]

    def open(self) -> int:
        """How many tasks are open, as far as `depth` counts them: exact while fewer than 10,000 wait in one place, and 0 only when none is."""
        return sum(row["tasks"] for row in self.depth())

    def _more(self, connection: Connection, row: Row, first: int) -> Row:
        priority, place = row["priority"], row["place"]
        if place == "worker":
            return row | {"about": False}
        plan: Any = connection.execute(QUERIES.estimated_depth, {"priority": priority, "free": place == "table"}).fetchone()
        estimate = int(plan["QUERY PLAN"][0]["Plan"]["Plan Rows"])
        if estimate <= first:
            counted = connection.execute(QUERIES.capped_depth, {"cap": self.cap, "priorities": [priority]}).fetchall()
            row = next(other for other in counted if other["place"] == place)
        about = estimate > first or row["tasks"] >= self.cap
        return (
            row
            | self._first_due(connection, row)
            | {"about": about, "tasks": max(row["tasks"], estimate) if about else row["tasks"]}
        )

    def _first_due(self, connection: Connection, row: Row) -> Row:
        if row["place"] != "table":
            return {}
        found = connection.execute(QUERIES.first_due, {"priority": row["priority"], "without": []}).fetchone()
        since = found and found["due_since"]
        return {"due_since": min(since, row["due_since"]), "oldest": min(since, row["oldest"])} if since else {}

    def settled(self, seconds: float) -> Row:
        """How many tasks ended in the last `seconds`: completed, failed, settled."""
        return self.database.one(QUERIES.settled_lately, {"seconds": seconds, "cap": self.cap}) or {}

    def articles(self) -> dict[str, int] | None:
        """Articles by their status; None where there are more than `cap`: `verify` counts them all."""
        found = {row["status"]: row["articles"] for row in self.database.fetch(QUERIES.articles_by_status, {"cap": self.cap})}
        return found if sum(found.values()) < self.cap else None

    def now(self) -> datetime:
        """PostgreSQL's clock."""
        row = self.database.one("SELECT clock_timestamp() AS now")
        assert row is not None
        moment: datetime = row["now"]
        return moment

    def ended_since(self, moment: datetime) -> dict[str, int]:
        """How many tasks ended since then, by how; each status is named."""
        found = self.database.fetch(QUERIES.ended_since, {"moment": moment})
        return dict.fromkeys(("completed", "failed", "skipped", "cancelled"), 0) | {
            row["status"]: row["tasks"] for row in found
        }

    def failed(self, *, error_class: str | None = None, tenant: str | None = None) -> int:
        return self._number(QUERIES.failed_total, cap=self.cap, error_class=error_class, tenant=tenant)

    def stuck(self, timeout_s: float) -> int:
        """Tasks whose worker has been dead for a while, or held them longer than `timeout_s` and a grace for the steward."""
        return self._number(QUERIES.lost_or_held_too_long, grace_s=GRACE_S, timeout_s=timeout_s + GRACE_S)

    def oldest_due_s(self, paused_priorities: Sequence[str], paused_tenants: Sequence[str]) -> float | None:
        """How long (seconds) the longest waiting task in the table has been due, paused ones aside; None when none is due."""
        first = [
            row["due_since"]
            for priority in Priority
            if priority not in paused_priorities
            and (row := self.database.one(QUERIES.first_due, {"priority": priority, "without": [*paused_tenants]}))
            and row["due_since"]
        ]
        waited_s = (datetime.now(UTC) - min(first)).total_seconds() if first else 0.0
        return waited_s if waited_s > 0 else None

    def failed_groups(
        self, *, by_message: bool = True, error_class: str | None = None, tenant: str | None = None, limit: int = 50
    ) -> list[Row]:
        parameters = {"by_message": by_message, "error_class": error_class, "tenant": tenant, "limit": limit}
        return self.database.fetch(QUERIES.failed_groups, parameters)

    def failed_tasks(self, *, error_class: str | None = None, tenant: str | None = None, limit: int = 50) -> list[Row]:
        return self.database.fetch(QUERIES.failed_tasks, {"error_class": error_class, "tenant": tenant, "limit": limit})

    def recent(self, limit: int) -> list[Row]:
        return self.database.fetch(QUERIES.recent_tasks, {"limit": limit})

    def throughput(self, seconds: float) -> list[Row]:
        return self.database.fetch(QUERIES.throughput, {"seconds": seconds, "cap": self.cap})

    def tokens(self, seconds: float) -> int:
        return self._number(QUERIES.tokens_lately, seconds=seconds, cap=self.cap)

    def server(self) -> Row:
        """server (version), bytes, connections, max_connections, pgvector (version)."""
        return self.database.fetch(QUERIES.server)[0]

    def about_rows(self) -> dict[str, int]:
        """Sizes of the large tables as the planner knows them; -1 when the table was never analyzed."""
        return {row["name"]: row["rows"] for row in self.database.fetch(QUERIES.about_rows)}

    def audit(
        self, *, category: str | None, level: str | None, since_s: float | None, like: str | None, limit: int
    ) -> list[Row]:
        parameters = {
            "category": category,
            "level": level,
            "since_s": since_s,
            "like": f"%{like}%" if like else None,
            "limit": limit,
        }
        return self.database.fetch(QUERIES.audit_lines, parameters)

    def task(self, task: int) -> Row | None:
        """One task with its model, its lease holder and its times relative to now (seconds)."""
        return self.database.one(QUERIES.explained_task, {"id": task})

    def article(self, key: str) -> Row | None:
        """One article by id or slug, with its stored vector's hash in the active model."""
        return self.database.one(QUERIES.explained_article, {"key": key})

    def tasks_of(self, article_id: str, limit: int = 5) -> list[Row]:
        return self.database.fetch(QUERIES.tasks_of_article, {"article_id": article_id, "limit": limit})

    def _number(self, statement: str, **parameters: Any) -> int:
        row = self.database.one(statement, parameters)
        return int(next(iter(row.values()))) if row else 0
