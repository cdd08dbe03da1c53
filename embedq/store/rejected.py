"""Broker messages: the tasks they name are freed or made in the table; messages that cannot be understood are kept raw."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..decide.messages import TOLD, NamesArticles, NamesTasks, NotUnderstood, escaped, understand
from .database import Connection, Database, Row
from .queries import QUERIES
from .sessions import GIVES_WAY

# Limits of what is stored: 10,000 rows of 16 kB; of a larger message also its size and digest.
MOST_ROWS = 10_000
KEPT_BYTES = 16 << 10
FULL = f"not kept, only counted: {MOST_ROWS:,} messages are kept already"


@dataclass(slots=True)
class Drained:
    """Messages by outcome: all, task rows freed, tasks made for articles they named, messages kept raw."""

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
        with self.database.transaction() as connection:
            done, kept = _brought_in(connection, meanings)
            done.rejected = _keep(connection, queue, [(raw, reason) for raw, reason, _ in kept])
        return done

    def count(self) -> int:
        """Not yet reviewed."""
        row = self.database.one(QUERIES.rejected_count)
        return int(row["messages"]) if row else 0

    def by_reason(self) -> list[Row]:
        """Not yet reviewed, grouped."""
        return self.database.fetch(QUERIES.rejected_by_reason)

    def listed(self, limit: int, *, reviewed: bool = False) -> tuple[list[Row], int]:
        """The last ones, without what was in them, and how many there are. `reviewed`: also those that were reviewed."""
        rows = self.database.fetch(QUERIES.rejected_listed, {"limit": limit, "reviewed": reviewed})
        total = rows[0]["of_all"] if rows else 0
        return [{name: value for name, value in row.items() if name != "of_all"} for row in rows], total

    def one(self, message: int) -> Row | None:
        """A message with what is kept of it (`raw`)."""
        return self.database.one(QUERIES.rejected_one, {"id": message})

    def picked(self, ids: Sequence[int] | None, *, everything: bool = False, reviewed: bool = False) -> list[int]:
        """Those of `ids` that exist; without, all, or those that were (`reviewed`) or were not reviewed."""
        asked = {"ids": None if ids is None else list(ids), "all": everything, "reviewed": reviewed}
        return [row["id"] for row in self.database.fetch(QUERIES.rejected_picked, asked)]

    def review(self, ids: Sequence[int]) -> int:
        return self.database.execute(QUERIES.review_rejected, {"ids": list(ids)})

    def purge(self, ids: Sequence[int]) -> int:
        return self.database.execute(QUERIES.purge_rejected, {"ids": list(ids)})

    def again(self, message: int) -> Drained | str:
        """Process the tasks and articles that this message names, and mark it reviewed; or the reason why nothing could be done."""
        row = self.one(message)
        if row is None:
            return "it is not kept any more"
        raw = bytes(row["raw"])
        if row["bytes"] > len(raw):
            return f"only {len(raw):,} of its {row['bytes']:,} bytes are kept"
        with self.database.transaction() as connection:
            done, kept = _brought_in(connection, [(raw, understand(raw))])
            if kept and not kept[0][2]:
                return kept[0][1]
            connection.execute(QUERIES.review_rejected, {"ids": [message]})
        return done


def _brought_in(
    connection: Connection, meanings: Sequence[tuple[bytes, object]]
) -> tuple[Drained, list[tuple[bytes, str, bool]]]:
    """Frees tasks and makes tasks; and each message that has to be kept, with the reason and whether some of it could be processed."""
    tasks = {task for _, meaning in meanings if isinstance(meaning, NamesTasks) for task in meaning.ids}
    articles = {each for _, meaning in meanings if isinstance(meaning, NamesArticles) for each in meaning.candidates}
    known_tasks: set[int] = _known(connection, QUERIES.known_tasks, sorted(tasks))
    known_articles: set[str] = _known(connection, QUERIES.known_articles, sorted(articles))
    done = Drained(len(meanings))
    done.freed = connection.execute(QUERIES.free_drained, {"ids": sorted(known_tasks)}).rowcount if known_tasks else 0
    done.made = _want(connection, sorted(known_articles)) if known_articles else 0
    return done, list(_unknown(meanings, known_tasks, known_articles))


def _known(connection: Connection, statement: str, ids: Sequence[object]) -> set[Any]:
    return {row["id"] for row in connection.execute(statement, {"ids": ids}).fetchall()} if ids else set()


def _want(connection: Connection, ids: Sequence[object]) -> int:
    """Tasks for these articles, except those that a transaction is writing: a drain waits for no writer."""
    connection.execute(QUERIES.be_patient_for, {"timeout": GIVES_WAY})
    unlocked = _known(connection, QUERIES.unlocked_articles, ids)
    row = connection.execute(QUERIES.want_drained, {"ids": sorted(unlocked)}).fetchone()
    return int(row["made"]) if row else 0


def _unknown(
    meanings: Iterable[tuple[bytes, object]], known_tasks: set[int], known_articles: set[str]
) -> Iterable[tuple[bytes, str, bool]]:
    """Messages that are kept: not understood, naming unknown tasks, or in a form that Celery cannot have sent."""
    for raw, meaning in meanings:
        match meaning:
            case NotUnderstood(reason):
                yield raw, reason, False
            case NamesTasks(ids, flaw) if flaw:
                yield raw, flaw, known_tasks.issuperset(ids)
            case NamesTasks(ids) if not known_tasks.issuperset(ids):
                yield raw, "it names tasks that are not in the table", False
            case NamesArticles(task, candidates) if not known_articles.intersection(candidates):
                yield raw, f"{escaped(task[:TOLD])} names no article that is known", False


def _keep(connection: Connection, queue: str, messages: Sequence[tuple[bytes, str]]) -> int:
    if not messages:
        return 0
    seen, reasons = Counter(raw for raw, _ in messages), dict(messages)
    said = {
        "queues": [escaped(queue)] * len(seen),
        "reasons": [reasons[raw] for raw in seen],
        "raws": [raw[:KEPT_BYTES] for raw in seen],
        "sizes": [len(raw) for raw in seen],
        "digests": [hashlib.sha256(raw).digest() for raw in seen],
        "seen": list(seen.values()),
        "most": MOST_ROWS,
        "full": FULL,
    }
    connection.execute(QUERIES.keep_rejected, said)
    return len(messages)
