"""Tasks out of the table and into it again, as lines of JSON. Both ways are streamed: a million tasks need no more memory than a thousand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from psycopg.rows import scalar_row

from ..model import OPEN, Priority, TaskStatus
from .database import Database
from .queries import QUERIES

STEP = 1000
KEPT_BAD_LINES = 100


@dataclass(frozen=True, slots=True)
class Promise:
    """One line of an export that names an open task."""

    line: int
    row: Mapping[str, Any]


@dataclass(slots=True)
class Taken:
    """What an import did, by what became of each line. `refused` and `foreign` name the first of those lines."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[int, str]] = field(default_factory=list)
    foreign: list[tuple[int, str]] = field(default_factory=list)


class Transfer:
    def __init__(self, database: Database) -> None:
        self.database = database

    def export(
        self, statuses: Sequence[str], priorities: Sequence[str] | None = None, tenants: Sequence[str] | None = None
    ) -> Iterator[str]:
        """Tasks by id, as one moment saw them; each as JSON, without the end of the line."""
        parameters = {"statuses": [*statuses], "priorities": priorities and [*priorities], "tenants": tenants and [*tenants]}
        with (
            self.database.transaction() as connection,
            connection.cursor(name="embedq_export", row_factory=scalar_row) as cursor,
        ):
            cursor.itersize = STEP
            yield from cursor.execute(QUERIES.export_tasks, parameters)

    def take(self, lines: Iterable[str], *, dry_run: bool = False) -> Taken:
        """Make the open tasks of an export anew. Again, it changes nothing: what is embedded or promised already is left alone."""
        taken, numbered = Taken(), enumerate(lines, 1)
        while some := list(islice(numbered, STEP)):
            self._take(list(_promises(some, taken)), taken, dry_run)
        return taken

    def _take(self, promises: Sequence[Promise], taken: Taken, dry_run: bool) -> None:
        if not promises:
            return
        with self.database.transaction() as connection:
            sorted_rows = connection.execute(QUERIES.sort_promises, _keys(promises)).fetchall()
            becomes = {row["line"]: row["becomes"] for row in sorted_rows}
            taken.counts.update(becomes.values())
            foreign = [(p.line, str(p.row["article_id"])) for p in promises if becomes[p.line] == "foreign"]
            taken.foreign += foreign[: KEPT_BAD_LINES - len(taken.foreign)]
            wanted = [p for p in promises if becomes[p.line] in ("made", "promised")]
            if wanted and not dry_run:
                connection.execute(QUERIES.put_promises, _columns(wanted))
                connection.execute("SELECT embedq_wake()")


def _promises(numbered: Iterable[tuple[int, str]], taken: Taken) -> Iterator[Promise]:
    for line, text in numbered:
        if not text.strip():
            continue
        try:
            row = _checked(json.loads(text))
        except (ValueError, TypeError, KeyError) as wrong:
            taken.counts["refused"] += 1
            if len(taken.refused) < KEPT_BAD_LINES:
                taken.refused.append((line, f"{type(wrong).__name__}: {wrong}"))
            continue
        if row["status"] in OPEN:
            yield Promise(line, row)
        else:
            taken.counts["finished"] += 1


def _checked(row: Any) -> dict[str, Any]:
    """The line as a task. Raises ValueError, TypeError or KeyError naming what is wrong."""
    if not isinstance(row, dict):
        raise TypeError("the line is not an object")
    texts = {key: row[key] for key in ("article_id", "tenant_id", "provider", "model")}
    for key, value in texts.items():
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(f"{key} is {value!r}, not a text")
    at, dimensions = row.get("created_at"), int(row["dimensions"])
    if not 1 <= dimensions <= 16_000:
        raise ValueError(f"dimensions is {dimensions}")
    return texts | {
        "status": TaskStatus(row["status"]),
        "priority": Priority(row.get("priority", Priority.NORMAL)),
        "dimensions": dimensions,
        "attempts": max(0, int(row.get("attempts") or 0)),
        "error_class": _text(row, "error_class"),
        "error_message": _text(row, "error_message"),
        "errors": _json(row, "errors", []),
        "metadata": _json(row, "metadata", {}),
        "created_at": datetime.fromisoformat(at) if at else datetime.now().astimezone(),
    }


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise ValueError(f"{key} is {value!r}, not a text")
    return value


def _json(row: Mapping[str, Any], key: str, empty: list[Any] | dict[str, Any]) -> str:
    value = row.get(key) or empty
    written = json.dumps(value)
    if type(value) is not type(empty) or "\\u0000" in written:
        raise ValueError(f"{key} is not a {type(empty).__name__} that PostgreSQL can keep")
    return written


def _keys(promises: Sequence[Promise]) -> dict[str, list[Any]]:
    names = {
        "article_ids": "article_id",
        "tenant_ids": "tenant_id",
        "providers": "provider",
        "models": "model",
        "dimensions": "dimensions",
    }
    return {"lines": [p.line for p in promises]} | {key: [p.row[name] for p in promises] for key, name in names.items()}


def _columns(promises: Sequence[Promise]) -> dict[str, list[Any]]:
    names = {"article_ids": "article_id", "providers": "provider", "models": "model", "dimensions": "dimensions", "priorities": "priority",
             "attempts": "attempts", "error_classes": "error_class", "error_messages": "error_message", "errors": "errors",
             "metadatas": "metadata", "created_ats": "created_at"}  # fmt: skip
    return {key: [p.row[name] for p in promises] for key, name in names.items()}
