"""A temporary tenant for a trial of an installed system, deleted afterwards."""

from __future__ import annotations

from .database import Database
from .queries import QUERIES


class Trials:
    def __init__(self, database: Database) -> None:
        self.database = database

    def progress(self, tenant: str) -> tuple[int, int]:
        """How many of its articles are ready, and how many failed."""
        row = self.database.one(QUERIES.ready_of, {"tenant": tenant}) or {"ready": 0, "failed": 0}
        return row["ready"], row["failed"]

    def forget(self, tenant: str) -> None:
        """Delete its articles with vectors, versions and tasks. Its cost stays in the ledger."""
        with self.database.transaction() as connection:
            for statement in (QUERIES.forget_articles_of, QUERIES.forget_tasks_of, QUERIES.forget_versions_of):
                connection.execute(statement, {"tenant": tenant})
