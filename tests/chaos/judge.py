"""The verdict: the database against the writers' own book. Nothing of embedq decides what is right here but `verify`."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from tests.standin import vector_of

from .world import DIMENSIONS

if TYPE_CHECKING:
    from .world import World
    from .writers import Book, Text

TOLERANCE = 1e-6
Chunks = list[tuple[int, int, list[float]]]


@dataclass(slots=True)
class Verdict:
    """What was found; `problems` is empty when all is as it must be."""

    tasks: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    paid: int = 0
    paid_twice: int = 0

    @property
    def problems(self) -> list[str]:
        return self.lost + self.stale + self.wrong + self.other


class Watch(threading.Thread):
    """Samples while everything goes on: no number that may only rise goes down, and no task contradicts itself.

    What a late result overwrites is mended by the next reconcile; it is seen here, or not at all.
    """

    def __init__(self, world: World, book: Book) -> None:
        super().__init__(name="watch", daemon=True)
        self.world, self.book = world, book
        self.seen: dict[tuple[str, object], tuple[int, ...]] = {}
        self.complaints: dict[str, str | None] = {}
        self.samples = 0

    def run(self) -> None:
        while not self.world.ending.wait(0.3):
            try:
                self.sample()
            except psycopg.Error:
                continue

    def sample(self) -> None:
        with self.world.connect() as connection:
            for name, statement in RISING.items():
                for article, key, *numbers in connection.execute(statement):
                    self._look(name, article, key, tuple(numbers))
            self.complaints |= dict.fromkeys(contradictions(connection))
        self.samples += 1

    def _look(self, name: str, article: str, key: object, numbers: tuple[int, ...]) -> None:
        before = self.seen.get((name, key), numbers)
        if any(now < then for now, then in zip(numbers, before, strict=True)):
            # The versions of an article that is deleted and made anew begin anew: found() leaves it out.
            self.complaints[f"{name} of {key} went down from {before} to {numbers}"] = article if "version" in name else None
        self.seen[name, key] = numbers

    def found(self) -> list[str]:
        return [told for told, article in self.complaints.items() if article is None or article not in self.book.deleted]


RISING = {
    "attempts and claims of the task": "SELECT article_id, id, attempts, claims FROM embedding_tasks",
    "the version of the task": "SELECT article_id, id, version FROM embedding_tasks",
    "the embedded version": "SELECT article_id, article_id || ' by model ' || model_id, version FROM embeddings",
}
CONTRADICTIONS = {
    "is finished and has no completed_at": "status IN ('completed', 'failed', 'cancelled', 'skipped') AND completed_at IS NULL",
    "is open and has a completed_at": "status IN ('pending', 'processing') AND completed_at IS NOT NULL",
    "is not processing and has a lease holder": "status <> 'processing' AND lease_holder IS NOT NULL",
    "is processing and was never claimed": "status = 'processing' AND (lease_holder IS NULL OR processed_at IS NULL)",
    "is completed and carries an error": "status = 'completed' AND error_class IS NOT NULL",
    "is failed and says no reason": "status = 'failed' AND error_message IS NULL",
}


def contradictions(connection: psycopg.Connection[Any]) -> list[str]:
    found = []
    for words, condition in CONTRADICTIONS.items():
        rows = connection.execute(f"SELECT id FROM embedding_tasks WHERE {condition} LIMIT 5").fetchall()
        found += [f"task {row[0]} {words}" for row in rows]
    return found


def judge(world: World, book: Book) -> Verdict:
    """Once nothing is open any more."""
    verdict = Verdict()
    with world.connect() as connection:
        rows = connection.execute("SELECT status, count(*) FROM embedding_tasks GROUP BY status").fetchall()
        verdict.by_status.update(dict(rows))
        verdict.tasks = sum(verdict.by_status.values())
        texts = connection.execute("SELECT id, tenant_id, title, content FROM article_texts").fetchall()
        verdict.lost += list(against_book({key: tuple(rest) for key, *rest in texts}, book))
        judge_vectors(verdict, book, vectors(connection), hashes(connection))
        verdict.other += contradictions(connection)
    verdict.other += [
        f"{verdict.by_status[status]} tasks are {status}" for status in ("pending", "processing") if verdict.by_status[status]
    ]
    verdict.other += [f"verify: {problem}" for problem in world.store.care.verify()["problems"]]
    paid = world.paid()
    verdict.paid, verdict.paid_twice = (
        paid.total(),
        sum(max(0, times - 1 - book.returned[text]) for text, times in paid.items()),
    )
    return verdict


def against_book(found: Mapping[str, tuple[str, ...]], book: Book) -> Iterator[str]:
    for key, text in book.live.items():
        if found.get(key) != tuple(text):
            yield f"article {key} was committed as {text.title!r} and is {found.get(key, (None, 'not there'))[1]!r}"
    yield from (f"article {key} was deleted and is there" for key in found.keys() & book.deleted - book.live.keys())
    yield from (f"article {key} is there and nobody wrote it" for key in found.keys() - book.live.keys() - book.deleted)


def vectors(connection: psycopg.Connection[Any]) -> dict[str, Chunks]:
    found: dict[str, Chunks] = {}
    statement = (
        "SELECT article_id, starts_at, ends_at, embedding::real[] FROM embedding_vectors"
        " WHERE model_id = (SELECT model_id FROM embedding_active_model) ORDER BY article_id, chunk"
    )
    for key, start, end, embedding in connection.execute(statement):
        found.setdefault(key, []).append((start, end, embedding))
    return found


def hashes(connection: psycopg.Connection[Any]) -> dict[str, bool]:
    """Articles with an embedding, and whether it is said to be of their newest text."""
    rows = connection.execute(
        "SELECT e.article_id, a.text_hash IS NOT DISTINCT FROM e.text_hash FROM embeddings e LEFT JOIN article_texts a ON a.id = e.article_id"
        " WHERE e.model_id = (SELECT model_id FROM embedding_active_model)"
    )
    return dict(rows.fetchall())


def judge_vectors(verdict: Verdict, book: Book, stored: Mapping[str, Chunks], newest: Mapping[str, bool]) -> None:
    for key in (stored.keys() | newest.keys()) - book.live.keys():
        verdict.wrong.append(f"article {key} was deleted and has vectors")
    for key, text in book.live.items():
        if not text.can_be_embedded:
            if newest.get(key):
                verdict.wrong.append(f"article {key} cannot be embedded and is said to be")
        elif not newest.get(key):
            verdict.stale.append(f"article {key} has no vector of its newest text {text.title!r}")
        elif why := what_is_wrong(text, stored.get(key, [])):
            verdict.wrong.append(f"article {key}, {text.title!r}: {why}")


def what_is_wrong(text: Text, chunks: Chunks) -> str | None:
    """The stretches cover the text but for white space, and each vector is that of its stretch, computed here anew."""
    whole, covered = text.whole, 0
    if not chunks:
        return "it has no vectors at all"
    for number, (start, end, embedding) in enumerate(chunks):
        if whole[covered:start].strip():
            return f"nothing covers characters {covered} to {start}"
        covered = max(covered, end)
        distance = float(np.abs(np.asarray(embedding, dtype=np.float32) - vector_of(whole[start:end], DIMENSIONS)).max())
        if distance > TOLERANCE:
            return f"the vector of chunk {number} is another text's (off by {distance:.3f})"
    return f"nothing covers what follows character {covered}" if whole[covered:].strip() else None
