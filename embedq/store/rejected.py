"""Broker messages: what they name, made whole in the table; what nobody understands, kept raw (S8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..decide.messages import NamesArticles, NamesTasks, NotUnderstood, understand
from .database import Connection, Database, Row
from .queries import QUERIES


@dataclass(slots=True)
class Drained:
    """What became of messages: all of them, task rows freed, tasks made for articles they named, messages kept raw."""

    messages: int = 0
    freed: int = 0
    made: int = 0
    rejected: int = 0

    def add(self, other: Drained) -> None:
        self.messages += other.messages
        self.freed += other.freed
        self.made += other.made
        self.rejected += other.rejected


class Rejected:
    def __init__(self, database: Database) -> None:
        self.database = database

    def take(self, queue: str, messages: Sequence[bytes]) -> Drained:
        """Bring what these messages name into the table, in one transaction. Taking a message twice changes nothing more."""
        meanings = [(raw, understand(raw)) for raw in messages]
        tasks = {task for _, meaning in meanings if isinstance(meaning, NamesTasks) for task in meaning.ids}
        articles = {each for _, meaning in meanings if isinstance(meaning, NamesArticles) for each in meaning.candidates}
        with self.database.transaction() as connection:
            known_tasks: set[int] = _known(connection, QUERIES.known_tasks, sorted(tasks))
            known_articles: set[str] = _known(connection, QUERIES.known_articles, sorted(articles))
            done = Drained(len(messages))
            done.freed = connection.execute(QUERIES.free_drained, {"ids": sorted(known_tasks)}).rowcount if known_tasks else 0
            done.made = _want(connection, sorted(known_articles)) if known_articles else 0
            done.rejected = _keep(connection, queue, _unknown(meanings, known_tasks, known_articles))
        return done

    def keep(self, queue: str, reason: str, raw: bytes) -> None:
        """One message that could not be understood."""
        with self.database.transaction() as connection:
            _keep(connection, queue, [(raw, reason)])

    def count(self) -> int:
        row = self.database.one(QUERIES.rejected_count)
        return int(row["messages"]) if row else 0

    def by_reason(self) -> list[Row]:
        """Not yet reviewed, grouped."""
        return self.database.fetch(QUERIES.rejected_by_reason)


def _known(connection: Connection, statement: str, ids: Sequence[object]) -> set[Any]:
    return {row["id"] for row in connection.execute(statement, {"ids": ids}).fetchall()} if ids else set()


def _want(connection: Connection, ids: Sequence[object]) -> int:
    row = connection.execute(QUERIES.want_drained, {"ids": ids}).fetchone()
    return int(row["made"]) if row else 0


def _unknown(
    meanings: Iterable[tuple[bytes, object]], known_tasks: set[int], known_articles: set[str]
) -> list[tuple[bytes, str]]:
    """What is kept raw, with the reason: not understood, or naming what is not in the table."""
    kept = []
    for raw, meaning in meanings:
        match meaning:
            case NotUnderstood(reason):
                kept.append((raw, reason))
            case NamesTasks(ids) if not known_tasks.issuperset(ids):
                kept.append((raw, "it names tasks that are not in the table"))
            case NamesArticles(task, candidates) if not known_articles.intersection(candidates):
                kept.append((raw, f"{task[:80]} names no article that is known"))
    return kept


def _keep(connection: Connection, queue: str, messages: Sequence[tuple[bytes, str]]) -> int:
    if not messages:
        return 0
    seen = Counter(raw for raw, _ in messages)
    reasons = dict(messages)
    connection.execute(
        QUERIES.keep_rejected,
        {
            "queues": [queue] * len(seen),
            "reasons": [reasons[raw] for raw in seen],
            "raws": list(seen),
            "seen": list(seen.values()),
        },
    )
    return len(messages)
