"""Queries of the console's pages. Their cost does not grow with the number of rows: pages continue from a key instead of an offset,
scan a bounded window, and estimate instead of counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from ..model import TaskStatus
from .bulk import END, Picked
from .database import Connection, Database, Row
from .queries import QUERIES

PAGE = 50
# The most rows that one page scans; if none of them matches, the next page continues behind them.
WINDOW = 50_000
# A status with fewer tasks than this is read by its partial index and sorted, at about the cost of a window.
FEW = 60_000
# Statuses with partial indexes; others are found by scanning tasks.
INDEXED = (TaskStatus.PENDING, TaskStatus.PROCESSING, TaskStatus.FAILED)
# Waiting tasks are in two partial indexes; the planner uses both only for a UNION of two arms.
BOTH_ARMS = " AND (t.dispatched_at IS NULL OR t.dispatched_at IS NOT NULL)"
COUNTED = 10_000
CLASSES = 50
BUCKETS = 60
# The gauges of a long chart are read from the last minute of each stretch.
LOOK_S = 60.0

Series = dict[str, list[float | None]]


class Order(StrEnum):
    """How a page of tasks is sorted."""

    NEWEST = "newest"
    OLDEST = "oldest"
    ENDED = "ended"


ORDERS = {Order.NEWEST: "t.id DESC", Order.OLDEST: "t.id", Order.ENDED: "t.completed_at DESC, t.id DESC"}


class Cursor(NamedTuple):
    """The last row that the page before looked at; `at` where the order is by end."""

    id: int
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """`following`: where the next page begins; None at the end. `window_end`: fewer than a page's rows matched within the window."""

    rows: list[Row]
    following: Cursor | None = None
    window_end: bool = False


class Console:
    def __init__(self, database: Database, window: int = WINDOW) -> None:
        self.database, self.window = database, window

    # Tasks ---------------------------------------------------------------------------------------------------------------------

    def tasks(self, picked: Picked, order: Order = Order.NEWEST, cursor: Cursor | None = None, limit: int = PAGE) -> Page:
        """One page, by key: no row twice and none left out, whatever is added or changes meanwhile behind the cursor."""
        asked = picked.parameters() | _bounds(order, cursor) | {"page": limit + 1, "window": self.window}
        direct = self._has_few(picked)
        with self.database.transaction() as connection:
            connection.execute(QUERIES.console_planning)
            statement = _with("console_tasks", order, direct=direct, pending=_is_pending(picked))
            rows = connection.execute(statement, asked).fetchall()
            if len(rows) > limit:
                return Page(rows[:limit], _cursor(order, rows[limit - 1]))
            return Page(rows) if direct else self._rest(connection, order, asked, rows)

    def _rest(self, connection: Connection, order: Order, asked: Mapping[str, Any], rows: list[Row]) -> Page:
        last = connection.execute(_with("console_window_end", order), asked).fetchone()
        return Page(rows, _cursor(order, last), window_end=True) if last else Page(rows)

    def _has_few(self, picked: Picked) -> bool:
        """Whether few tasks match and a partial index finds them."""
        if picked.articles is not None or picked.ids is not None:
            return True
        return len(picked.statuses) == 1 and picked.statuses[0] in INDEXED and self.estimate(Picked(picked.statuses)) <= FEW

    def estimate(self, picked: Picked) -> int:
        """How many tasks match, by the planner's estimate."""
        plan: Any = self.database.one(QUERIES.console_estimate.replace("{picked}", QUERIES.picked), picked.parameters())
        return int(plan["QUERY PLAN"][0]["Plan"]["Plan Rows"])

    def count(self, picked: Picked, cap: int = COUNTED) -> int:
        """How many match, counted no further than `cap`."""
        statement = QUERIES.console_count.replace("{picked}", QUERIES.picked)
        with self.database.transaction() as connection:
            connection.execute(QUERIES.console_planning)
            row = connection.execute(statement, picked.parameters(cap=cap)).fetchone()
        return int(row["tasks"]) if row else 0

    # Articles ------------------------------------------------------------------------------------------------------------------

    def article(self, article_id: str) -> Row | None:
        return self.database.one(QUERIES.console_article, {"id": article_id})

    def ids_of_slug(self, slug: str, limit: int = 100) -> list[str]:
        return [row["id"] for row in self.database.fetch(QUERIES.console_article_ids, {"slug": slug, "limit": limit})]

    def articles_named(self, key: str) -> list[str]:
        """The id itself, also of an article that is gone; where no article has it, those with that slug."""
        return [key] if self.article(key) else (self.ids_of_slug(key) or [key])

    def vectors(self, article_id: str) -> list[Row]:
        """One row for each model; without a vector of it, `version` is None."""
        return self.database.fetch(QUERIES.console_vectors, {"id": article_id})

    def versions(self, article_id: str, limit: int = PAGE) -> list[Row]:
        return self.database.fetch(QUERIES.console_versions, {"id": article_id, "limit": limit})

    def tasks_of(self, article_id: str, limit: int = PAGE) -> list[Row]:
        return self.database.fetch(QUERIES.console_article_tasks, {"id": article_id, "limit": limit})

    # Errors, workers, the audit log --------------------------------------------------------------------------------------------

    def error_classes(self, cap: int = COUNTED) -> list[Row]:
        """error_class, tasks (counted as far as `cap`), tenants (50 at most), first, last, examples; the most frequent first."""
        return self.database.fetch(QUERIES.console_error_classes, {"classes": CLASSES, "cap": cap})

    def error_messages(self, error_class: str, limit: int = 20, cap: int = COUNTED) -> list[Row]:
        """message, tasks, last, example: of the newest `cap` failed tasks of the class; the most frequent first."""
        return self.database.fetch(QUERIES.console_error_messages, {"error_class": error_class, "cap": cap, "limit": limit})

    def held(self, limit: int = 20) -> list[Row]:
        """worker, id, article_id, priority, tenant_id, held_s: of each worker the tasks that it holds longest."""
        return self.database.fetch(QUERIES.console_held, {"limit": limit})

    def audit(
        self,
        *,
        category: str | None = None,
        level: str | None = None,
        newer_s: float | None = None,
        who: str | None = None,
        text: str | None = None,
        before: int | None = None,
        limit: int = PAGE,
    ) -> Page:
        """One page of the audit log, the newest first. `who` and `text`: ILIKE patterns."""
        asked = {
            "category": category,
            "level": level,
            "newer_s": newer_s,
            "who": who,
            "text": text,
            "before": before or END,
            "page": limit + 1,
            "window": self.window,
        }
        rows = self.database.fetch(_entries("console_audit"), asked)
        if len(rows) > limit:
            return Page(rows[:limit], Cursor(rows[limit - 1]["id"]))
        last = self.database.one(_entries("console_audit_window_end"), asked)
        return Page(rows, Cursor(last["id"]), window_end=True) if last else Page(rows)

    def model_facts(self, model_id: int) -> Row:
        """about_vectors (-1: not known), bytes."""
        found = self.database.one(QUERIES.console_model_facts, {"table": f"embedding_vectors_{model_id}"})
        return found or {"about_vectors": -1, "bytes": 0}

    # Charts --------------------------------------------------------------------------------------------------------------------

    def depth(self, seconds: float, by: str = "priority") -> Series:
        """Open tasks by a label of the samples, in 60 stretches, the oldest first; None where there are no samples."""
        stretch_s = seconds / BUCKETS
        look_s = min(stretch_s, LOOK_S)
        rows = self._stretches("console_sampled_depth", seconds, by=by, look_s=look_s)
        sampled = {row["bucket"] for row in rows}
        series: Series = {}
        for row in rows:
            line = series.setdefault(row["label"] or "-", [0.0 if n in sampled else None for n in range(BUCKETS)])
            line[row["bucket"]] = row["total"] / max(1, row["samples"])
        return series

    def ended(self, seconds: float) -> Series:
        """Tasks a second by how they ended, in 60 stretches."""
        return _rates(self._stretches("console_ended", seconds), seconds)

    def failed_lately(self, classes: Sequence[str], seconds: float) -> Series:
        """Failures a second by class of error, in 60 stretches; of each class the newest 10,000 are looked at."""
        return _rates(self._stretches("console_failed_lately", seconds, classes=[*classes], cap=COUNTED), seconds)

    def _stretches(self, statement: str, seconds: float, **more: Any) -> list[Row]:
        given = {"seconds": seconds, "buckets": BUCKETS, "bucket_s": seconds / BUCKETS}
        return self.database.fetch(getattr(QUERIES, statement), given | more)


def _rates(rows: Sequence[Row], seconds: float) -> Series:
    series: Series = {}
    for row in rows:
        if row["bucket"] >= 0:
            series.setdefault(row["label"] or "-", [0.0] * BUCKETS)[row["bucket"]] = float(row["total"]) * BUCKETS / seconds
    return series


def _is_pending(picked: Picked) -> bool:
    return [*picked.statuses] == [TaskStatus.PENDING]


def _bounds(order: Order, cursor: Cursor | None) -> dict[str, Any]:
    """Parameters that let a statement begin behind the cursor."""
    ended = {"ended_before": None, "ended_id": None}
    match order:
        case _ if cursor is None:
            return ended
        case Order.NEWEST:
            return ended | {"up_to": cursor.id - 1}
        case Order.OLDEST:
            return ended | {"after": cursor.id}
        case _:
            return {"ended_before": cursor.at, "ended_id": cursor.id}


def _cursor(order: Order, row: Mapping[str, Any]) -> Cursor:
    return Cursor(row["id"], row["completed_at"] if order is Order.ENDED else None)


def _with(statement: str, order: Order, *, direct: bool = False, pending: bool = False) -> str:
    """The statement over the window of this order; over all that is behind the cursor where an index leads to what matches."""
    window: str = getattr(QUERIES, f"console_window_{order}")
    if direct:
        window = window.replace(" LIMIT %(window)s", "")
    picked = QUERIES.picked + (BOTH_ARMS if pending else "")
    text: str = getattr(QUERIES, statement)
    return text.replace("{tasks}", window).replace("{picked}", picked).replace("{order}", ORDERS[order])


def _entries(statement: str) -> str:
    text: str = getattr(QUERIES, statement)
    return text.replace("{entries}", QUERIES.console_audit_window)
