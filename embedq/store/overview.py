"""What people look at: depth, rates, failures, one task's whole story. Bounded reads, so that a million tasks do not stall a look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .database import Database, Row
from .queries import QUERIES

CAP = 100_000
GRACE_S = 5.0


class Overview:
    def __init__(self, database: Database, cap: int = CAP) -> None:
        self.database = database
        self.cap = cap

    def depth(self) -> list[Row]:
        """Open tasks by priority and place (table, broker, worker): tasks, oldest, due_since, delayed; `about` when estimated."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.without_seqscan)
            rows = connection.execute(QUERIES.capped_depth, {"cap": self.cap}).fetchall()
        for row in rows:
            row["about"] = row["place"] != "worker" and row["tasks"] >= self.cap
            if row["about"]:
                row["tasks"] = max(row["tasks"], self._estimated(row["priority"], row["place"] == "table"))
        return [row for row in rows if row["tasks"]]

    def _estimated(self, priority: str, free: bool) -> int:
        plan: Any = self.database.one(QUERIES.estimated_depth, {"priority": priority, "free": free})
        return int(plan["QUERY PLAN"][0]["Plan"]["Plan Rows"]) if plan else 0

    def settled(self, seconds: float) -> Row:
        """How many tasks ended in the last `seconds`: completed, failed, settled."""
        return self.database.one(QUERIES.settled_lately, {"seconds": seconds, "cap": self.cap}) or {}

    def failed(self) -> int:
        return self._number(QUERIES.failed_total, cap=self.cap)

    def stuck(self, timeout_s: float) -> int:
        """Tasks whose worker has been dead for a while, or held them longer than `timeout_s` and a grace for the steward."""
        return self._number(QUERIES.lost_or_held_too_long, grace_s=GRACE_S, timeout_s=timeout_s + GRACE_S)

    def oldest_due_s(self, older_s: float, priorities: Sequence[str], tenants: Sequence[str]) -> float | None:
        """How long the longest waiting free task has been due, when that is more than `older_s` seconds; paused ones aside."""
        parameters = {"older_s": older_s, "priorities": [*priorities], "tenants": [*tenants], "cap": self.cap}
        with self.database.transaction() as connection:
            connection.execute(QUERIES.without_seqscan)
            row = connection.execute(QUERIES.oldest_due, parameters).fetchone()
        return row["waited_s"] if row else None

    def troubled_providers(self) -> list[Row]:
        return self.database.fetch(QUERIES.troubled_providers)

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

    def about_rows(self) -> dict[str, int]:
        """Sizes of the large tables as the planner knows them; -1 when it was never told."""
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
