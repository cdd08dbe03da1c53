"""Export and import of tasks, as lines of JSON. Both ways are streamed: a million tasks need no more memory than a thousand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg.rows import scalar_row

from ..local.files import refuse_many_values
from ..model import OPEN, Priority, TaskStatus
from .database import Connection, Database
from .queries import QUERIES
from .unlocked import on_unlocked

STEP, STEP_BYTES = 1000, 4_000_000
KEPT_BAD_LINES = 100
PATIENCE_S = 5.0
LONGEST_WHY = 200
MOST_ATTEMPTS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Promise:
    """One line of an export that names an open task."""

    line: int
    row: Mapping[str, Any]


@dataclass(slots=True)
class Taken:
    """The lines of an import by outcome. `refused` and `foreign` name the first of those lines."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[int, str]] = field(default_factory=list)
    foreign: list[tuple[int, str]] = field(default_factory=list)


class Transfer:
    def __init__(self, database: Database) -> None:
        self.database = database

    def export(
        self, statuses: Sequence[str], priorities: Sequence[str] | None = None, tenants: Sequence[str] | None = None
    ) -> Iterator[str]:
        """Tasks by id, in one snapshot; each as JSON, without the end of the line. The snapshot is held until the last one,
        so the caller should not wait in between."""
        parameters = {"statuses": [*statuses], "priorities": priorities and [*priorities], "tenants": tenants and [*tenants]}
        with self.database.transaction() as connection:
            connection.execute(QUERIES.may_pause)
            with connection.cursor(name="embedq_export", row_factory=scalar_row) as cursor:
                cursor.itersize = STEP
                yield from cursor.execute(QUERIES.export_tasks, parameters)

    def take(self, lines: Iterable[bytes | None], *, dry_run: bool = False) -> Taken:
        """Make the open tasks of an export anew. Repeating it changes nothing: articles that are embedded or have an open task are skipped.
        A line that is None was too long to be read."""
        taken = Taken()
        for some in _steps(enumerate(lines, 1)):
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
            for line in self._put(wanted):
                taken.counts[becomes[line]] -= 1
                taken.counts["busy"] += 1

    def _put(self, wanted: Sequence[Promise]) -> list[int]:
        """Lines left out because their articles are being written: their writer makes the task, or reconcile does."""
        by_article: dict[str, list[Promise]] = {}
        for promise in wanted:
            by_article.setdefault(str(promise.row["article_id"]), []).append(promise)

        def put(connection: Connection, ids: list[str]) -> int:
            connection.execute(QUERIES.put_promises, _columns([promise for id in ids for promise in by_article[id]]))
            connection.execute(QUERIES.wake)
            return len(ids)

        _, left = on_unlocked(self.database, list(by_article), put, patience_s=PATIENCE_S)
        return [promise.line for id in left for promise in by_article[id]]


def _steps(numbered: Iterable[tuple[int, bytes | None]]) -> Iterator[list[tuple[int, bytes | None]]]:
    step, size = list[tuple[int, bytes | None]](), 0
    for line, text in numbered:
        step.append((line, text))
        size += len(text or b"")
        if len(step) >= STEP or size >= STEP_BYTES:
            yield step
            step, size = [], 0
    if step:
        yield step


def _promises(numbered: Iterable[tuple[int, bytes | None]], taken: Taken) -> Iterator[Promise]:
    for line, text in numbered:
        if text is not None and not text.strip():
            continue
        try:
            row = _checked(_parsed(text))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as wrong:
            taken.counts["refused"] += 1
            if len(taken.refused) < KEPT_BAD_LINES:
                taken.refused.append((line, _why(wrong)))
            continue
        if row["status"] in OPEN:
            yield Promise(line, row)
        else:
            taken.counts["finished"] += 1


def _parsed(text: bytes | None) -> Any:
    if text is None:
        raise ValueError("the line is too long")
    refuse_many_values(text)
    return json.loads(text.decode("utf-8", "replace"))


def _why(wrong: Exception) -> str:
    """The message on one short line, because it may quote the faulty line."""
    said = " ".join(str(wrong).split())
    return f"{type(wrong).__name__}: {said if len(said) <= LONGEST_WHY else said[:LONGEST_WHY] + '…'}"


def _checked(row: Any) -> dict[str, Any]:
    """The line as a task. Raises ValueError, TypeError or KeyError naming what is wrong."""
    if not isinstance(row, dict):
        raise TypeError("the line is not an object")
    if "article_id" not in row and ("content" in row or "title" in row):
        raise ValueError("this is an article, not a task: `embedq articles import` takes it")
    texts = {key: _writable(key, row[key]) for key in ("article_id", "tenant_id", "provider", "model")}
    at, dimensions = row.get("created_at"), int(row["dimensions"])
    if not 1 <= dimensions <= 16_000:
        raise ValueError(f"dimensions is {dimensions}")
    return texts | {
        "status": TaskStatus(row["status"]),
        "priority": Priority(row.get("priority", Priority.NORMAL)),
        "dimensions": dimensions,
        "attempts": min(MOST_ATTEMPTS, max(0, int(row.get("attempts") or 0))),
        "error_class": _text(row, "error_class"),
        "error_message": _text(row, "error_message"),
        "errors": _json(row, "errors", []),
        "metadata": _json(row, "metadata", {}),
        "created_at": datetime.fromisoformat(at) if at else datetime.now().astimezone(),
    }


def _text(row: Mapping[str, Any], key: str) -> str | None:
    return None if row.get(key) is None else _writable(key, row[key])


def _writable(key: str, value: object) -> str:
    """Raises ValueError for what PostgreSQL cannot keep: no text, NUL, half of a surrogate pair."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{key} is no text, or has a NUL character")
    value.encode()
    return value


def _json(row: Mapping[str, Any], key: str, empty: list[Any] | dict[str, Any]) -> str:
    value = row.get(key) or empty
    written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    written.encode()
    if type(value) is not type(empty) or "\\u0000" in written:
        raise ValueError(f"{key} is not a {type(empty).__name__} that PostgreSQL can keep")
    return written


KEYS = {"article_ids": "article_id", "providers": "provider", "models": "model", "dimensions": "dimensions"}
STATE = {
    "priorities": "priority",
    "attempts": "attempts",
    "error_classes": "error_class",
    "error_messages": "error_message",
    "errors": "errors",
    "metadatas": "metadata",
    "created_ats": "created_at",
}


def _keys(promises: Sequence[Promise]) -> dict[str, list[Any]]:
    return {"lines": [p.line for p in promises]} | _listed(promises, KEYS | {"tenant_ids": "tenant_id"})


def _columns(promises: Sequence[Promise]) -> dict[str, list[Any]]:
    return _listed(promises, KEYS | STATE)


def _listed(promises: Sequence[Promise], names: Mapping[str, str]) -> dict[str, list[Any]]:
    """One list per parameter, of the values that the rows have under its name."""
    return {key: [p.row[name] for p in promises] for key, name in names.items()}
