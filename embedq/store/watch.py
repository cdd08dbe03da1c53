"""Queries of the service between a write and its answer, and of the cockpit's charts. Each is one bounded statement."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ..errors import StoreRefused, StoreUnavailable
from .database import Database, Row
from .queries import QUERIES

CAP = 50_000


class Watch:
    def __init__(self, database: Database) -> None:
        self.database = database
        self._identity = ""

    @property
    def identity(self) -> str:
        """This installation's, asked for once; empty while that cannot be had."""
        if not self._identity:
            with suppress(StoreUnavailable, StoreRefused):
                self._identity = str(self.installation()["identity"] or "")
        return self._identity

    def installation(self) -> Row:
        """`identity` tells two installations apart, `name` is for people."""
        return self.database.one(QUERIES.installation) or {"identity": "", "name": ""}

    def task_of(self, article_id: str) -> Row | None:
        """The active model's task that decides about an article's newest text."""
        return self.database.one(QUERIES.task_of_article, {"article_id": article_id})

    def of_others(self, ids: Sequence[str], tenant_id: str) -> list[str]:
        return [row["id"] for row in self.database.fetch(QUERIES.articles_of_others, {"ids": [*ids], "tenant_id": tenant_id})]

    def named(self, ids: Sequence[str], slugs: Sequence[str], tenant_id: str) -> list[Row]:
        return self.database.fetch(QUERIES.own_articles_named, {"ids": [*ids], "slugs": [*slugs], "tenant_id": tenant_id})

    def first_text(self, article_id: str, tenant_id: str) -> Row | None:
        return self.database.one(QUERIES.first_text, {"id": article_id, "tenant_id": tenant_id})

    def was_deleted(self, article_id: str) -> bool:
        return bool(self.database.fetch(QUERIES.was_deleted, {"id": article_id}))

    def depth_samples(self, seconds: float) -> list[Row]:
        """at (epoch seconds), priority, delivery, value (tasks)."""
        return self.database.fetch(QUERIES.depth_samples, {"seconds": seconds})

    def settled_steps(self, seconds: float, step_s: int) -> list[Row]:
        """at (epoch seconds, the step's beginning), priority, delivery, value (tasks in that step)."""
        return self.database.fetch(QUERIES.settled_steps, {"seconds": seconds, "step_s": step_s, "cap": CAP})
